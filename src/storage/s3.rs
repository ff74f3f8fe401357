//! A client of one bucket of S3, or of a store that speaks like it.

use std::sync::Arc;

use object_store::aws::{AmazonS3, AmazonS3Builder};
use url::Url;

use super::client::{Building, Properties, unbuilt, unusable};
use super::vended::{self, Provider};
use super::wire::retries;
use crate::aws::{Chain, process_env};
use crate::error::{Error, Result};

/// Where nobody names one and the store is not AWS, which does not care.
const REGION_OF_OTHERS: &str = "us-east-1";

pub(super) fn open(bucket: &str, building: &Building) -> Result<AmazonS3> {
    let properties = &building.properties;
    refuse_signers(building)?;
    let endpoint = properties.or_env("s3.endpoint", &["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]);
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_retry(retries())
        .with_client_options(building.options(endpoint.as_deref())?)
        .with_http_connector(building.connector.clone());
    builder = match &building.lease {
        Some((lease, prefix)) if lease.held(prefix).is_some_and(|held| vended::aws(&held).is_some()) => {
            let provider = Provider { lease: Arc::clone(lease), prefix: prefix.clone(), convert: vended::aws };
            builder.with_region(region(properties)).with_credentials(Arc::new(provider))
        }
        _ if properties.flag("s3.anonymous")? == Some(true) => builder.with_region(region(properties)).with_skip_signature(true),
        _ => {
            let chain = Chain::open(&properties.0, &["s3.", "client."], &process_env)?;
            builder.with_region(chain.region().unwrap_or(REGION_OF_OTHERS)).with_credentials(chain.provider())
        }
    };
    builder = encrypt(builder, building)?;
    let by_host = by_host(bucket, endpoint.is_some(), building)?;
    builder = builder.with_virtual_hosted_style_request(by_host);
    if let Some(endpoint) = endpoint {
        builder = builder.with_endpoint(address(&endpoint, bucket, by_host)?);
    }
    builder.build().map_err(|e| unbuilt(format_args!("bucket `{bucket}`"), e))
}

/// The region where no chain of credentials has one.
fn region(properties: &Properties) -> String {
    let own = ["s3.region", "client.region"].iter().find_map(|name| properties.get(name));
    let found = own.map(str::to_owned).or_else(|| ["AWS_REGION", "AWS_DEFAULT_REGION"].iter().find_map(|name| process_env(name)));
    found.unwrap_or_else(|| REGION_OF_OTHERS.to_owned())
}

/// Whether the bucket stands in the host's name: as AWS wants it, and as few other stores know it. A dot in the bucket's name
/// would fit no certificate.
fn by_host(bucket: &str, own_endpoint: bool, building: &Building) -> Result<bool> {
    let properties = &building.properties;
    if let Some(by_path) = properties.flag("s3.path-style-access")? {
        return Ok(!by_path);
    }
    let asked = properties.flag("s3.force-virtual-addressing")?;
    Ok(asked.unwrap_or(!own_endpoint && !bucket.contains('.')))
}

fn address(endpoint: &str, bucket: &str, by_host: bool) -> Result<String> {
    let mut url = Url::parse(endpoint).map_err(|e| unusable("s3.endpoint", e))?;
    let host = match url.host_str() {
        Some(host) if matches!(url.scheme(), "http" | "https") => host.to_owned(),
        _ => return Err(unusable("s3.endpoint", "it is no address like `https://host:port`")),
    };
    if by_host {
        url.set_host(Some(&format!("{bucket}.{host}"))).map_err(|e| unusable("s3.endpoint", e))?;
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// Encryption at the store, under Java's names.
fn encrypt(builder: AmazonS3Builder, building: &Building) -> Result<AmazonS3Builder> {
    let key = building.properties.get("s3.sse.key");
    let need = || key.ok_or_else(|| unusable("s3.sse.type", "it needs `s3.sse.key`"));
    Ok(match building.properties.get("s3.sse.type") {
        None | Some("none") => builder,
        Some("s3") => builder.with_config("aws_server_side_encryption".parse().map_err(|e| unbuilt("encryption", e))?, "AES256"),
        Some("kms") => builder.with_sse_kms_encryption(need()?),
        Some("custom") => builder.with_ssec_encryption(need()?),
        Some(_) => return Err(unusable("s3.sse.type", "it is none of `none`, `s3`, `kms` and `custom`")),
    })
}

fn refuse_signers(building: &Building) -> Result<()> {
    let properties = &building.properties;
    if properties.flag("s3.remote-signing-enabled")? == Some(true) || properties.get("s3.signer").is_some() {
        return Err(Error::setup(
            "requests to the store would have to be signed by the catalog (`s3.remote-signing-enabled`), which tidegate does not do",
            "let the catalog vend credentials instead, or give the job credentials of its own (`s3.access-key-id`, a role)",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bucket_stands_in_the_path_or_in_the_host() {
        assert_eq!(address("http://127.0.0.1:7070/", "b", false).unwrap(), "http://127.0.0.1:7070");
        assert_eq!(address("https://s3.example.com", "b", true).unwrap(), "https://b.s3.example.com");
        assert_eq!(address("https://s3.example.com:9000/base/", "b", false).unwrap(), "https://s3.example.com:9000/base");
        let properties =
            |pairs: &[(&str, &str)]| Properties(pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect());
        assert_eq!(region(&properties(&[("client.region", "eu")])), "eu", "without credentials, too");
        assert_eq!(region(&properties(&[("client.region", "eu"), ("s3.region", "us")])), "us");
        for wrong in ["127.0.0.1:7070", "s3.example.com", "ftp://x", ""] {
            assert_eq!(address(wrong, "b", false).unwrap_err().exit_code(), 78, "{wrong}");
        }
    }
}
