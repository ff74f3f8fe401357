//! What a client of a bucket is built from: the job's properties, what a catalog vended, the environment.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use object_store::{Certificate, ClientOptions};

use super::meter::Counts;
use super::place::Root;
use super::remote::{Bucket, Remote};
use super::vended::Lease;
use super::wire::Connector;
use super::{azure, gcs, s3};
use crate::aws::process_env;
use crate::error::{BoxError, Error, Result};

/// For the connection, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// For one request with its answer, whole. A part of a file has 8 MiB, a piece that is read at most 32 MiB.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Properties by name. Never shown: some are secret.
#[derive(Clone, Default)]
pub(super) struct Properties(pub(super) BTreeMap<String, String>);

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Properties {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The property, or else the first of these variables that is set.
    pub(super) fn or_env(&self, name: &str, variables: &[&str]) -> Option<String> {
        self.get(name).map(str::to_owned).or_else(|| variables.iter().find_map(|variable| process_env(variable)))
    }

    /// `true` or `false` in any case, as Python and Java write them.
    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>> {
        match self.get(name).map(str::to_ascii_lowercase).as_deref() {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(_) => Err(unusable(name, "it is neither `true` nor `false`")),
        }
    }

    fn seconds(&self, name: &str) -> Result<Option<Duration>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let seconds = value.parse::<f64>().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        match seconds.filter(|seconds| !seconds.is_zero()) {
            Some(seconds) => Ok(Some(seconds)),
            None => Err(unusable(name, "it is not a number of seconds above 0")),
        }
    }
}

/// The value is not repeated: it can be a secret that was put in the wrong place.
pub(super) fn unusable(name: &str, why: impl fmt::Display) -> Error {
    Error::setup(format!("`catalog.{name}` cannot be used: {why}"), "correct it in the job file")
}

/// What all kinds of buckets have in common.
pub(super) struct Building {
    pub(super) properties: Properties,
    /// What the catalog vended, and for which prefix.
    pub(super) lease: Option<(Arc<Lease>, String)>,
    pub(super) connector: Connector,
}

impl Building {
    /// How long to wait, whom to trust. `endpoint`: where it is not the provider's own; only there may HTTP go unencrypted.
    pub(super) fn options(&self, endpoint: Option<&str>) -> Result<ClientOptions> {
        let connect = self.properties.seconds("s3.connect-timeout")?.unwrap_or(CONNECT_TIMEOUT);
        let request = self.properties.seconds("s3.request-timeout")?.unwrap_or(REQUEST_TIMEOUT);
        let mut options = ClientOptions::new()
            .with_connect_timeout(connect)
            .with_timeout(request)
            .with_allow_http(endpoint.is_some_and(|endpoint| endpoint.starts_with("http://")))
            .with_user_agent(
                concat!("tidegate/", env!("CARGO_PKG_VERSION")).parse().expect("the program's name and version are a header value"),
            );
        if let Some(proxy) = self.properties.get("s3.proxy-uri") {
            options = options.with_proxy_url(proxy);
        }
        if let Some(file) = self.properties.or_env("ssl.cabundle", &["AWS_CA_BUNDLE"]) {
            let unreadable = |why: &dyn fmt::Display| {
                Error::setup(
                    format!("the certificates in `{file}` cannot be used: {why}"),
                    "`catalog.\"ssl.cabundle\"` or AWS_CA_BUNDLE names a PEM file of authorities to trust",
                )
            };
            let pem = std::fs::read(&file).map_err(|e| unreadable(&e))?;
            let certificates = Certificate::from_pem_bundle(&pem).map_err(|e| unreadable(&e))?;
            if certificates.is_empty() {
                return Err(unreadable(&"it holds none"));
            }
            for certificate in certificates {
                options = options.with_root_certificate(certificate);
            }
        }
        Ok(options)
    }
}

/// Builds the client of a bucket; asks nobody yet.
pub(super) fn open(
    root: &Root,
    properties: &Properties,
    lease: Option<(Arc<Lease>, String)>,
    counts: &Arc<Counts>,
) -> Result<Remote> {
    let mut properties = properties.clone();
    if let Some((lease, prefix)) = &lease {
        properties.0.extend(lease.held(prefix).unwrap_or_default());
    }
    let held = lease.as_ref().map(|(lease, _)| Arc::clone(lease));
    let building = Building { properties, lease, connector: Connector::new(Arc::clone(counts)) };
    let bucket: Arc<dyn Bucket> = match root {
        Root::S3 { bucket } => Arc::new(s3::open(bucket, &building)?),
        Root::Gcs { bucket } => Arc::new(gcs::open(bucket, &building)?),
        Root::Azure { container, host } => Arc::new(azure::open(container, host.as_deref(), &building)?),
        Root::Disk => return Err(Error::broken("the local disk is no bucket")),
    };
    Ok(Remote::new(bucket, held))
}

/// A client that could not be built.
pub(super) fn unbuilt(root: impl fmt::Display, source: impl Into<BoxError>) -> Error {
    Error::setup(
        format!("no client for {root} can be made: {}", source.into()),
        "are the properties of the store in `[catalog]` right?",
    )
}
