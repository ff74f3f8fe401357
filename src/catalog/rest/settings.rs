//! What the job file says about a REST catalog: its address, whom to trust, and who asks.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::client::{Auth, Client, DELEGATION, Signer};
use crate::aws;
use crate::config::CatalogConfig;
use crate::error::{Error, Result};
use crate::http::{Http, HttpOptions, Pem};
use crate::oauth::{ClientAuth, ClientCredentials, Tokens};

/// The scope that Iceberg's clients ask for where nobody names another.
const SCOPE: &str = "catalog";

/// The service that requests are signed for where nobody names another (`glue`, `s3tables`): AWS's API gateway.
const SERVICE: &str = "execute-api";

/// The job file's part of a session.
pub(super) struct Settings {
    base: Url,
    http: Http,
    pub(super) warehouse: String,
    pub(super) properties: BTreeMap<String, String>,
}

impl Settings {
    pub(super) fn of(config: &CatalogConfig) -> Result<Self> {
        let mut properties = config.properties.clone();
        // As in Java and PyIceberg: a server's defaults do not go before them, its overrides do.
        properties.insert("uri".into(), config.uri.clone());
        if !config.warehouse.is_empty() {
            properties.insert("warehouse".into(), config.warehouse.clone());
        }
        let base = address(&config.uri)
            .map_err(|why| Error::setup(format!("`catalog.uri` {why}"), "write it as `https://host/path`, without `/v1`"))?;
        Ok(Self { base, http: Http::open(&http_options(&properties)?)?, warehouse: config.warehouse.clone(), properties })
    }

    /// A client that knows nothing of the server yet.
    pub(super) fn client(&self) -> Result<Client> {
        Ok(Client { http: self.http.clone(), auth: self.auth()?, base: self.base.clone(), headers: headers(&self.properties) })
    }

    fn auth(&self) -> Result<Auth> {
        let value = |name: &str| self.properties.get(name).cloned();
        if value("rest.sigv4-enabled").is_some_and(|flag| flag.eq_ignore_ascii_case("true")) {
            return self.signer();
        }
        // As in Java: a token that is given goes before credentials that could fetch one.
        if let Some(token) = value("token") {
            return Ok(Auth::Token(token));
        }
        let Some(credential) = value("credential") else { return Ok(Auth::None) };
        let url = match value("oauth2-server-uri") {
            Some(uri) => self.base.join(&uri).map_err(|e| {
                Error::setup(format!("`catalog.oauth2-server-uri` is no address: {e}"), "write it whole, with its path")
            })?,
            // The specification's own, deprecated and yet what many servers have.
            None => self.base.join("v1/oauth/tokens").map_err(|e| Error::broken(format!("the token server's address: {e}")))?,
        };
        let (id, secret) = match credential.split_once(':') {
            Some((id, secret)) => (Some(id.to_owned()), secret.to_owned()),
            None => (None, credential),
        };
        let grant = ClientCredentials {
            url,
            id,
            secret,
            scope: Some(value("scope").unwrap_or_else(|| SCOPE.to_owned())),
            fields: ["audience", "resource"].iter().filter_map(|name| Some(((*name).to_owned(), value(name)?))).collect(),
            auth: ClientAuth::Form,
        };
        Ok(Auth::Tokens(Box::new(Tokens::new(self.http.clone(), grant))))
    }

    fn signer(&self) -> Result<Auth> {
        let keys = aws::Chain::open(&self.properties, &["rest.", "client."], &aws::process_env)?;
        let value = |name: &str| self.properties.get(name).map(String::as_str);
        let Some(region) = value("rest.signing-region").or(keys.region()).map(str::to_owned) else {
            return Err(Error::setup(
                "`catalog.rest.sigv4-enabled` is set, but no region is known to sign requests for",
                "name it in `rest.signing-region`, as in eu-central-1",
            ));
        };
        let service = value("rest.signing-name").unwrap_or(SERVICE).to_owned();
        Ok(Auth::Aws(Box::new(Signer { keys, region, service })))
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("base", &self.base.as_str()).field("warehouse", &self.warehouse).finish_non_exhaustive()
    }
}

/// A server's address, below which paths can be joined. The reason it is none does not repeat it: it can hold a password.
pub(super) fn address(uri: &str) -> Result<Url, String> {
    let url = Url::parse(&format!("{}/", uri.trim_end_matches('/'))).map_err(|e| format!("is no address: {e}"))?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        _ => Err("does not begin with http:// or https://".to_owned()),
    }
}

/// Headers that go with every request, from the properties `header.*`.
pub(super) fn headers(properties: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut headers = BTreeMap::from([(DELEGATION.to_owned(), "vended-credentials".to_owned())]);
    let own = properties.iter().filter_map(|(name, value)| Some((name.strip_prefix("header.")?.to_lowercase(), value.clone())));
    headers.extend(own);
    headers
}

fn http_options(properties: &BTreeMap<String, String>) -> Result<HttpOptions> {
    let mut options = HttpOptions::default();
    let pem = |property: &'static str| Some(Pem { property, path: PathBuf::from(properties.get(property)?) });
    options.ca = pem("ssl.cabundle");
    options.client_cert = pem("ssl.client.cert");
    options.client_key = pem("ssl.client.key");
    for (property, setting) in [
        ("rest.client.connection-timeout-ms", &mut options.connect_timeout),
        ("rest.client.socket-timeout-ms", &mut options.silence_max),
    ] {
        if let Some(value) = properties.get(property) {
            let millis = value.parse().ok().filter(|&millis| millis > 0);
            *setting = Duration::from_millis(millis.ok_or_else(|| {
                Error::setup(format!("`catalog.{property}` is `{value}`"), "write whole milliseconds, as in 60000")
            })?);
        }
    }
    Ok(options)
}
