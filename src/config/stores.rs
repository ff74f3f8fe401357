//! Where files lie.

/// Schemes whose stores can be opened, beside `file`.
const BUCKETS: &[&str] = &["s3", "s3a", "s3n", "gs", "abfs", "abfss", "wasb", "wasbs"];

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
