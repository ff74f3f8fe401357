//! `catalog.uri` of a catalog of type "sql": the address of its database.

const EXAMPLE: &str = "write \"postgresql://user@host/database\", or \"sqlite:///absolute/path/catalog.db\"";

/// What a PostgreSQL address may say behind its `?`: libpq's names, as `sqlx` reads them.
const OPTIONS: [&str; 4] = ["sslmode", "sslrootcert", "sslcert", "sslkey"];

const SSL_MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

/// The address as `catalog::sql` opens it. No message repeats the value: it can hold a password.
pub(super) fn uri(uri: &str) -> Result<String, String> {
    if let Some(path) = uri.strip_prefix("sqlite://") {
        return sqlite(path).map(|()| uri.to_owned());
    }
    match uri.split_once("://") {
        // PyIceberg's addresses name SQLAlchemy's driver, too.
        Some((scheme, rest)) if matches!(scheme.split('+').next(), Some("postgresql" | "postgres")) => postgres(rest),
        _ => Err(format!("must begin with postgresql:// or sqlite://, the databases that there are; {EXAMPLE}")),
    }
}

fn sqlite(path: &str) -> Result<(), String> {
    if path.is_empty() {
        return Err(String::from("a file is missing; write \"sqlite:///absolute/path/catalog.db\""));
    }
    if path.contains('?') {
        return Err(String::from("SQLite takes no options after a `?` here; leave them out"));
    }
    if path.split('/').next().is_some_and(|host| host.contains('@')) {
        return Err(String::from("SQLite takes no user or password; write \"sqlite:///absolute/path/catalog.db\""));
    }
    Ok(())
}

fn postgres(rest: &str) -> Result<String, String> {
    let (place, options) = rest.split_once('?').unwrap_or((rest, ""));
    let (server, database) = place.split_once('/').unwrap_or((place, ""));
    let (user, host) = server.rsplit_once('@').unwrap_or(("", server));
    if user.contains(':') {
        return Err(String::from("holds a password; leave it out, and write `password = \"env:NAME\"` or set PGPASSWORD"));
    }
    if host.is_empty() || database.is_empty() || database.contains('/') {
        return Err(String::from("names no host or no database; write \"postgresql://user@host:5432/database\""));
    }
    for option in options.split('&').filter(|option| !option.is_empty()) {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        if !OPTIONS.contains(&name) {
            return Err(format!("has an option behind its `?` that is not known; there are {}", OPTIONS.join(", ")));
        }
        if name == "sslmode" && !SSL_MODES.contains(&value) {
            return Err(format!("has an unknown `sslmode`; there are {}", SSL_MODES.join(", ")));
        }
    }
    Ok(format!("postgresql://{rest}"))
}
