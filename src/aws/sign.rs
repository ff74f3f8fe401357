//! Signature Version 4: in the headers of a request, or in the query of a URL.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    SignableBody, SignableRequest, SignatureLocation, SigningInstructions, SigningParams, SigningSettings, sign as sign_v4,
};
use aws_sigv4::sign::v4;
use url::Url;

use crate::error::{BoxError, Error, Result};

/// A request as it will be sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request<'a> {
    /// As in `POST`.
    pub(crate) method: &'a str,
    /// Whole, its path and query percent-encoded.
    pub(crate) url: &'a str,
    /// Those that the signature covers, beside `host`.
    pub(crate) headers: &'a [(&'a str, &'a str)],
    /// Empty for none.
    pub(crate) body: &'a [u8],
}

/// What a signature is good for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scope<'a> {
    /// As in `eu-central-1`.
    pub(crate) region: &'a str,
    /// As in `glue`, `s3tables`, `execute-api`, `kafka-cluster`.
    pub(crate) service: &'a str,
}

/// Headers to add to the request: `x-amz-date`, `authorization` and, for temporary credentials, `x-amz-security-token`.
///
/// Fails (78) only for a URL or a header that no request can have.
pub(crate) fn sign(
    request: &Request<'_>,
    scope: Scope<'_>,
    credentials: &Credentials,
    now: SystemTime,
) -> Result<Vec<(String, String)>> {
    let signed = instructions(request, scope, credentials, now, SigningSettings::default())?;
    Ok(signed.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

/// The URL with a signature in its query, good for so long.
///
/// Fails (78) only for a URL or a header that no request can have.
pub(crate) fn presign(
    request: &Request<'_>,
    scope: Scope<'_>,
    credentials: &Credentials,
    now: SystemTime,
    good_for: Duration,
) -> Result<Url> {
    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(good_for);
    let signed = instructions(request, scope, credentials, now, settings)?;
    let mut url = Url::parse(request.url).map_err(|e| unsignable(request.url, e.into()))?;
    url.query_pairs_mut().extend_pairs(signed.params());
    Ok(url)
}

fn instructions(
    request: &Request<'_>,
    scope: Scope<'_>,
    credentials: &Credentials,
    now: SystemTime,
    settings: SigningSettings,
) -> Result<SigningInstructions> {
    let identity = credentials.clone().into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(scope.region)
        .name(scope.service)
        .time(now)
        .settings(settings)
        .build()
        .map_err(|e| Error::broken(format!("signing parameters: {e}")))?;
    let Request { method, url, headers, body } = *request;
    let signable = SignableRequest::new(method, url, headers.iter().copied(), SignableBody::Bytes(body));
    let signed = signable.and_then(|signable| sign_v4(signable, &SigningParams::V4(params)).map(|output| output.into_parts().0));
    signed.map_err(|e| unsignable(url, e.into()))
}

fn unsignable(url: &str, why: BoxError) -> Error {
    // A query can hold a secret.
    let url = url.split('?').next().unwrap_or_default();
    Error::setup(format!("a request to `{url}` cannot be signed: {why}"), "is the address right?")
}
