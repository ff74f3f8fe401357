//! A client of one container of Azure Blob Storage, also under the names of Data Lake Storage.

use std::collections::BTreeMap;
use std::sync::Arc;

use object_store::azure::{MicrosoftAzure, MicrosoftAzureBuilder};

use super::client::{Building, unbuilt, unusable};
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
    let mut builder = MicrosoftAzureBuilder::from_env()
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
        _ => {
            for (name, key) in [
                ("adls.account-key", "account_key"),
                ("adls.sas-token", "sas_token"),
                ("adls.token", "bearer_token"),
                ("adls.tenant-id", "tenant_id"),
                ("adls.client-id", "client_id"),
                ("adls.client-secret", "client_secret"),
            ] {
                let value = properties.get(name).or_else(|| properties.get(&format!("{name}.{account}"))).map(str::to_owned);
                let value = value.or_else(|| match name {
                    "adls.account-key" => in_connection("AccountKey"),
                    "adls.sas-token" => in_connection("SharedAccessSignature"),
                    _ => None,
                });
                if let Some(value) = value {
                    builder = builder.with_config(format!("azure_storage_{key}").parse().map_err(|e| unbuilt(name, e))?, value);
                }
            }
            builder
        }
    };
    builder.build().map_err(|e| unbuilt(format_args!("container `{container}`"), e))
}

/// The parts of a connection string: `Name=value;Name=value`.
fn connection(text: &str) -> Result<BTreeMap<&str, &str>> {
    let parts = text.split(';').filter(|part| !part.trim().is_empty());
    parts
        .map(|part| part.split_once('=').ok_or_else(|| unusable("adls.connection-string", "a part of it is not `Name=value`")))
        .collect()
}
