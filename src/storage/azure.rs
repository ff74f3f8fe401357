//! A client of one container of Azure Blob Storage, also under the names of Data Lake Storage.

use std::collections::BTreeMap;
use std::sync::Arc;

use object_store::azure::{AzureConfigKey as Key, MicrosoftAzure, MicrosoftAzureBuilder};

use super::client::{Building, Properties, unbuilt, unusable};
use super::vended::{self, Provider};
use super::wire::retries;
use crate::error::{Error, Result};

const PUBLIC_SUFFIX: &str = "blob.core.windows.net";

pub(super) fn open(container: &str, host: Option<&str>, building: &Building) -> Result<MicrosoftAzure> {
    let properties = &building.properties;
    let connection = connection(properties.get("adls.connection-string").unwrap_or_default())?;
    let in_connection = |name: &str| connection.get(name).map(|value| (*value).to_owned());
    let of_host = host.and_then(|host| host.split('.').next()).map(str::to_owned);
    let account = of_host
        .or_else(|| properties.get("adls.account-name").map(str::to_owned))
        .or_else(|| in_connection("AccountName"))
        .or_else(|| properties.or_env("adls.account-name", &["AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT"]));
    let Some(account) = account else {
        return Err(Error::setup(
            format!("container `{container}` belongs to no storage account that the job names"),
            "write the location as `abfss://container@account.dfs.core.windows.net/path`, or set `catalog.\"adls.account-name\"`",
        ));
    };
    let endpoint = properties.or_env("adls.endpoint", &[]).or_else(|| in_connection("BlobEndpoint")).or_else(|| {
        let host = properties.get("adls.account-host").or(host)?;
        (host != format!("{account}.{PUBLIC_SUFFIX}")).then(|| format!("https://{host}"))
    });
    let own = own(properties, &connection, &account);
    let mut builder = match own.iter().any(|(key, _)| LOGINS.contains(key)) {
        true => {
            beside_own(std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))))
        }
        false => MicrosoftAzureBuilder::from_env(),
    };
    builder = builder
        .with_container_name(container)
        .with_account(&account)
        .with_retry(retries())
        .with_client_options(building.options(endpoint.as_deref())?)
        .with_http_connector(building.connector.clone());
    if let Some(endpoint) = endpoint {
        builder = builder.with_endpoint(endpoint.trim_end_matches('/').to_owned());
    }
    builder = match &building.lease {
        Some((lease, prefix)) if lease.held(prefix).is_some_and(|held| vended::azure(&held).is_some()) => builder
            .with_credentials(Arc::new(Provider { lease: Arc::clone(lease), prefix: prefix.clone(), convert: vended::azure })),
        _ => own.into_iter().fold(builder, |builder, (key, value)| builder.with_config(key, value)),
    };
    builder.build().map_err(|e| unbuilt(format_args!("container `{container}`"), e))
}

/// By any of these alone, besides names, somebody logs in.
const LOGINS: [Key; 7] = [
    Key::AccessKey,
    Key::ClientSecret,
    Key::FabricSessionToken,
    Key::FabricTokenServiceUrl,
    Key::FederatedTokenFile,
    Key::SasKey,
    Key::Token,
];

/// Who the job says it is.
fn own(properties: &Properties, connection: &BTreeMap<&str, &str>, account: &str) -> Vec<(Key, String)> {
    let names = [
        ("adls.account-key", Key::AccessKey, "AccountKey"),
        ("adls.sas-token", Key::SasKey, "SharedAccessSignature"),
        ("adls.token", Key::Token, ""),
        ("adls.tenant-id", Key::AuthorityId, ""),
        ("adls.client-id", Key::ClientId, ""),
        ("adls.client-secret", Key::ClientSecret, ""),
    ];
    let value = |(name, key, in_connection)| {
        let value = properties.get(name).or_else(|| properties.get(&format!("{name}.{account}")));
        Some((key, value.or_else(|| connection.get(in_connection).copied())?.to_owned()))
    };
    names.into_iter().filter_map(value).collect()
}

/// What the environment says besides who asks: of several credentials the client would choose by their kind, and the environment's
/// could go before the job's.
fn beside_own(variables: impl Iterator<Item = (String, String)>) -> MicrosoftAzureBuilder {
    let known = variables.filter_map(|(name, value)| {
        let key = name.starts_with("AZURE_").then(|| name.to_ascii_lowercase().parse::<Key>().ok())??;
        (!LOGINS.contains(&key)).then_some((key, value))
    });
    known.fold(MicrosoftAzureBuilder::new(), |builder, (key, value)| builder.with_config(key, value))
}

/// The parts of a connection string: `Name=value;Name=value`.
fn connection(text: &str) -> Result<BTreeMap<&str, &str>> {
    let parts = text.split(';').filter(|part| !part.trim().is_empty());
    parts
        .map(|part| part.split_once('=').ok_or_else(|| unusable("adls.connection-string", "a part of it is not `Name=value`")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_says_who_it_is_takes_no_credentials_of_the_environment() {
        let job = [("adls.sas-token.tide", "sv=1"), ("adls.client-id", "me")];
        let job = Properties(job.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
        let own = own(&job, &BTreeMap::new(), "tide");
        assert_eq!(own, [(Key::SasKey, "sv=1".to_owned()), (Key::ClientId, "me".to_owned())]);
        assert!(LOGINS.contains(&own[0].0) && !LOGINS.contains(&own[1].0));
        let pod = [
            ("AZURE_STORAGE_ACCOUNT_KEY", "key"),
            ("AZURE_STORAGE_TOKEN", "token"),
            ("AZURE_FEDERATED_TOKEN_FILE", "/var/run/token"),
            ("AZURE_CLIENT_SECRET", "secret"),
            ("AZURE_TENANT_ID", "tenant"),
            ("AZURE_AUTHORITY_HOST", "https://login.example"),
            ("PATH", "/bin"),
        ];
        let builder = beside_own(pod.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())));
        for key in [Key::AccessKey, Key::Token, Key::FederatedTokenFile, Key::ClientSecret] {
            assert_eq!(builder.get_config_value(&key), None, "{key:?}");
        }
        assert_eq!(builder.get_config_value(&Key::AuthorityId).as_deref(), Some("tenant"));
        assert_eq!(builder.get_config_value(&Key::AuthorityHost).as_deref(), Some("https://login.example"));
    }
}
