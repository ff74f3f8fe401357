//! A client of one bucket of Google Cloud Storage.

use std::sync::Arc;

use object_store::StaticCredentialProvider;
use object_store::gcp::{GcpCredential, GoogleCloudStorage, GoogleCloudStorageBuilder};

use super::client::{Building, Properties, unbuilt};
use super::vended::{self, Provider};
use super::wire::retries;
use crate::aws::{Env, process_env};
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
        _ => match key(properties, &process_env) {
            Some(Key::Text(json)) => builder.with_service_account_key(json),
            Some(Key::File(file)) => builder.with_application_credentials(file),
            None => builder,
        },
    };
    let own = token.is_some() || key(properties, &|_| None).is_some();
    let nobody = properties.flag("gcs.no-auth")?;
    if nobody.unwrap_or(endpoint.is_some() && !own) {
        let nothing = GcpCredential { bearer: String::new() };
        builder = builder.with_skip_signature(true).with_credentials(Arc::new(StaticCredentialProvider::new(nothing)));
    }
    if let Some(endpoint) = endpoint {
        builder = builder.with_base_url(endpoint.trim_end_matches('/'));
    }
    builder.build().map_err(|e| unbuilt(format_args!("bucket `{bucket}`"), e))
}

/// The key of a service account.
#[derive(Debug, PartialEq, Eq)]
enum Key {
    Text(String),
    File(String),
}

/// What the job says goes before the environment, whichever way it says it.
fn key(properties: &Properties, env: Env<'_>) -> Option<Key> {
    let get = |name| properties.get(name).map(str::to_owned);
    let job = get("gcs.credentials-json").map(Key::Text).or_else(|| get("gcs.credentials-file").map(Key::File));
    job.or_else(|| env("GOOGLE_SERVICE_ACCOUNT_KEY").map(Key::Text))
        .or_else(|| env("GOOGLE_APPLICATION_CREDENTIALS").map(Key::File))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jobs_own_file_goes_before_the_environments_key() {
        let job = |name: &str, value: &str| Properties([(name.to_owned(), value.to_owned())].into());
        let env = |name: &str| Some(format!("the pod's {name}"));
        assert_eq!(key(&job("gcs.credentials-file", "/key"), &env), Some(Key::File("/key".into())));
        assert_eq!(key(&job("gcs.credentials-json", "{}"), &env), Some(Key::Text("{}".into())));
        assert_eq!(key(&job("gcs.project-id", "x"), &env), Some(Key::Text("the pod's GOOGLE_SERVICE_ACCOUNT_KEY".into())));
    }

    #[test]
    fn a_credentials_file_counts_at_an_address_of_ones_own_too() {
        let store = crate::storage::Store::with(
            [("gcs.service.host", "http://127.0.0.1:1"), ("gcs.credentials-file", "/no/such/key")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
        );
        let error = store.object("gs://b/x").unwrap_err();
        assert!(error.to_string().contains("/no/such/key"), "{error}");
    }
}
