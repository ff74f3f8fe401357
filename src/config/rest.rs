//! Addresses of REST catalogs.

/// The address of a server, below which `/v1/` begins. Secrets have no place in it: it stands in messages.
pub(super) fn uri(uri: &str) -> Result<String, String> {
    let Some(rest) = uri.strip_prefix("https://").or_else(|| uri.strip_prefix("http://")) else {
        // The value is not repeated: the address of a database can hold a password.
        return Err(String::from("must begin with https:// or http://, as the address of a REST catalog does"));
    };
    let host = rest.split('/').next().unwrap_or_default();
    if host.contains('@') {
        return Err(String::from("holds a user or a password; use `credential` or `token` instead"));
    }
    if host.is_empty() || uri.contains(['?', '#', ' ']) {
        return Err(String::from("is no address of a server; write \"https://host:port/path\""));
    }
    Ok(uri.to_owned())
}
