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

/// Properties of a REST catalog, and whether the value is a secret.
pub(super) const PROPERTIES: &[(&str, bool)] = &[
    ("audience", false),
    ("credential", true),
    ("oauth2-server-uri", false),
    ("prefix", false),
    ("resource", false),
    ("rest.access-key-id", false),
    ("rest.client.connection-timeout-ms", false),
    ("rest.client.socket-timeout-ms", false),
    ("rest.secret-access-key", true),
    ("rest.session-token", true),
    ("rest.signing-name", false),
    ("rest.signing-region", false),
    ("rest.sigv4-enabled", false),
    ("scope", false),
    ("ssl.client.cert", false),
    ("ssl.client.key", false),
    ("token", true),
];

/// Beginning of the names of properties that are headers of every request.
pub(super) const HEADER: &str = "header.";
