//! Where files lie, and the properties of the stores that hold them.

/// Schemes whose stores can be opened, beside `file`.
const BUCKETS: &[&str] = &["s3", "s3a", "s3n", "gs", "abfs", "abfss", "wasb", "wasbs"];

/// Properties of stores: PyIceberg's names (Java's where it has none), and whether the value is a secret.
pub(super) const PROPERTIES: &[(&str, bool)] = &[
    ("adls.account-host", false),
    ("adls.account-key", true),
    ("adls.account-name", false),
    ("adls.client-id", false),
    ("adls.client-secret", true),
    ("adls.connection-string", true),
    ("adls.endpoint", false),
    ("adls.sas-token", true),
    ("adls.tenant-id", false),
    ("adls.token", true),
    ("client.access-key-id", false),
    ("client.profile-name", false),
    ("client.region", false),
    ("client.role-arn", false),
    ("client.secret-access-key", true),
    ("client.session-token", true),
    ("gcs.credentials-file", false),
    ("gcs.credentials-json", true),
    ("gcs.no-auth", false),
    ("gcs.oauth2.token", true),
    ("gcs.service.host", false),
    ("s3.access-key-id", false),
    ("s3.anonymous", false),
    ("s3.connect-timeout", false),
    ("s3.endpoint", false),
    ("s3.force-virtual-addressing", false),
    ("s3.path-style-access", false),
    ("s3.profile-name", false),
    ("s3.proxy-uri", true),
    ("s3.region", false),
    ("s3.remote-signing-enabled", false),
    ("s3.request-timeout", false),
    ("s3.role-arn", false),
    ("s3.secret-access-key", true),
    ("s3.session-token", true),
    ("s3.signer", false),
    ("s3.sse.key", true),
    ("s3.sse.type", false),
    ("ssl.cabundle", false),
];

/// A URI under which Iceberg finds the files from anywhere.
pub(super) fn warehouse(place: &str) -> Result<String, String> {
    let (scheme, authority) = match place.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest.split('/').next().unwrap_or_default()),
        None => (None, ""),
    };
    let azure = scheme.is_some_and(|scheme| scheme.starts_with("abfs") || scheme.starts_with("wasb"));
    let container = azure && !authority.contains(':') && authority.matches('@').count() == 1;
    if place.contains('?') || (authority.contains('@') && !container) {
        // The value is not repeated: it can hold a key or a password.
        return Err(String::from(
            "holds a `?` or, before its path, a `@`; keys and passwords have no place in it, as tables keep it",
        ));
    }
    if let Some(scheme) = scheme.filter(|scheme| BUCKETS.contains(scheme)) {
        if authority.is_empty() || authority.starts_with('@') || authority.ends_with('@') {
            return Err(format!("\"{place}\" names no bucket; write \"{scheme}://bucket/path\""));
        }
        return Ok(place.trim_end_matches('/').to_owned());
    }
    local(place)
}

fn local(place: &str) -> Result<String, String> {
    let path = match place.strip_prefix("file:") {
        None if place.starts_with('/') => place,
        Some(rest) if rest.starts_with("///") => &rest[2..],
        Some(rest) if rest.starts_with('/') && !rest.starts_with("//") => rest,
        Some(_) => return Err(format!("\"{place}\" has no absolute path; write \"file:///absolute/path\"")),
        None if place.contains("://") => {
            return Err(format!("\"{place}\" is of no kind that can be opened; known are file, {}", BUCKETS.join(", ")));
        }
        None => {
            return Err(format!("\"{place}\" is a relative path; write \"file://${{PWD}}/{}\"", place.trim_start_matches("./")));
        }
    };
    let path = path.trim_end_matches('/');
    if path.is_empty() {
        return Err(format!("\"{place}\" is the root of the file system; name a folder in it"));
    }
    // `file:/a` keeps its spelling: paths are compared exactly as manifests hold them.
    Ok(if place.starts_with("file:/") && !place.starts_with("file://") { format!("file:{path}") } else { format!("file://{path}") })
}
