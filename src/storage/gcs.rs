//! A client of one bucket of Google Cloud Storage.

use std::sync::Arc;

use object_store::StaticCredentialProvider;
use object_store::gcp::{GcpCredential, GoogleCloudStorage, GoogleCloudStorageBuilder};

use super::client::{Building, unbuilt};
use super::vended::{self, Provider};
use super::wire::retries;
use crate::error::Result;

pub(super) fn open(bucket: &str, building: &Building) -> Result<GoogleCloudStorage> {
    let properties = &building.properties;
    let endpoint = properties.or_env("gcs.service.host", &["STORAGE_EMULATOR_HOST"]);
    // The variable of Google's own libraries may leave the scheme out.
    let endpoint = endpoint.map(|host| if host.contains("://") { host } else { format!("http://{host}") });
    let mut builder = GoogleCloudStorageBuilder::new()
        .with_bucket_name(bucket)
        .with_retry(retries())
        .with_client_options(building.options(endpoint.as_deref())?)
        .with_http_connector(building.connector.clone());
    let token = properties.get("gcs.oauth2.token");
    builder = match &building.lease {
        Some((lease, prefix)) if lease.held(prefix).is_some_and(|held| vended::gcp(&held).is_some()) => {
            builder.with_credentials(Arc::new(Provider { lease: Arc::clone(lease), prefix: prefix.clone(), convert: vended::gcp }))
        }
        _ if let Some(token) = token => {
            builder.with_credentials(Arc::new(StaticCredentialProvider::new(GcpCredential { bearer: token.to_owned() })))
        }
        _ => match properties.or_env("gcs.credentials-json", &["GOOGLE_SERVICE_ACCOUNT_KEY"]) {
            Some(json) => builder.with_service_account_key(json),
            None => match properties.or_env("gcs.credentials-file", &["GOOGLE_APPLICATION_CREDENTIALS"]) {
                Some(file) => builder.with_application_credentials(file),
                None => builder,
            },
        },
    };
    let nobody = properties.flag("gcs.no-auth")?;
    if nobody.unwrap_or(endpoint.is_some() && token.is_none() && properties.get("gcs.credentials-json").is_none()) {
        let nothing = GcpCredential { bearer: String::new() };
        builder = builder.with_skip_signature(true).with_credentials(Arc::new(StaticCredentialProvider::new(nothing)));
    }
    if let Some(endpoint) = endpoint {
        builder = builder.with_base_url(endpoint.trim_end_matches('/'));
    }
    builder.build().map_err(|e| unbuilt(format_args!("bucket `{bucket}`"), e))
}
