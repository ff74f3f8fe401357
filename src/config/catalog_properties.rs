//! The properties of catalogs and stores that are understood: PyIceberg's names, and Java's where it has none.

use std::collections::BTreeMap;

use super::CatalogKind;
use super::properties::is_secret as is_secret_by_name;

/// Name, whether the value is a secret, and what it is. A name that ends with `*` stands for all that begin so; a whole name goes
/// before it.
const PROPERTIES: &[(&str, bool, &str)] = &[
    ("adls.account-host", false, "Azure: host of the account, where it is not Azure's own"),
    ("adls.account-key", true, "Azure: key of the account"),
    ("adls.account-name", false, "Azure: name of the account"),
    ("adls.client-id", false, "Azure: id of the application that logs in"),
    ("adls.client-secret", true, "Azure: secret of that application"),
    ("adls.connection-string", true, "Azure: account and key in one"),
    ("adls.endpoint", false, "Azure: address of a server other than Azure"),
    ("adls.sas-token", true, "Azure: shared access signature"),
    ("adls.tenant-id", false, "Azure: tenant of that application"),
    ("adls.token", true, "Azure: bearer token"),
    ("audience", false, "OAuth2: audience of the token"),
    ("client.access-key-id", false, "AWS: id of the access key, for catalog and store"),
    ("client.profile-name", false, "AWS: profile, for catalog and store"),
    ("client.region", false, "AWS: region, for catalog and store"),
    ("client.role-arn", false, "AWS: role to take on, for catalog and store"),
    ("client.secret-access-key", true, "AWS: the access key, for catalog and store"),
    ("client.session-token", true, "AWS: token of a temporary access key, for catalog and store"),
    ("credential", true, "OAuth2: `id:secret` of a client"),
    ("gcs.credentials-file", false, "Google: file with the key of a service account"),
    ("gcs.credentials-json", true, "Google: that key itself"),
    ("gcs.no-auth", false, "Google: ask without logging in"),
    ("gcs.oauth2.token", true, "Google: bearer token"),
    ("gcs.service.host", false, "Google: address of a server other than Google's"),
    ("header.*", true, "REST: header of every request"),
    ("header.X-Iceberg-Access-Delegation", false, "REST: how the server should give access to files"),
    ("oauth2-server-uri", false, "OAuth2: address that gives tokens"),
    ("password", true, "SQL: password of the database"),
    ("prefix", false, "REST: prefix of the paths, where the server gives none"),
    ("resource", false, "OAuth2: resource of the token"),
    ("rest.access-key-id", false, "SigV4: id of the access key"),
    ("rest.client.connection-timeout-ms", false, "REST: how long connecting may take"),
    ("rest.client.socket-timeout-ms", false, "REST: how long an answer may take"),
    ("rest.secret-access-key", true, "SigV4: the access key"),
    ("rest.session-token", true, "SigV4: token of a temporary access key"),
    ("rest.signing-name", false, "SigV4: name of the service"),
    ("rest.signing-region", false, "SigV4: region of the service"),
    ("rest.sigv4-enabled", false, "SigV4: sign every request"),
    ("s3.access-key-id", false, "S3: id of the access key"),
    ("s3.anonymous", false, "S3: ask without logging in"),
    ("s3.connect-timeout", false, "S3: how long connecting may take"),
    ("s3.endpoint", false, "S3: address of a server other than AWS"),
    ("s3.force-virtual-addressing", false, "S3: the bucket stands in the host's name"),
    ("s3.path-style-access", false, "S3: the bucket stands in the path"),
    ("s3.profile-name", false, "S3: profile of AWS"),
    ("s3.proxy-uri", true, "S3: proxy, which may have a password"),
    ("s3.region", false, "S3: region of the buckets"),
    ("s3.remote-signing-enabled", false, "S3: the catalog signs requests; refused"),
    ("s3.request-timeout", false, "S3: how long an answer may take"),
    ("s3.role-arn", false, "S3: role to take on"),
    ("s3.secret-access-key", true, "S3: the access key"),
    ("s3.session-token", true, "S3: token of a temporary access key"),
    ("s3.signer", false, "S3: who signs requests; refused"),
    ("s3.sse.key", true, "S3: key of encryption by the server"),
    ("s3.sse.type", false, "S3: kind of encryption by the server"),
    ("scope", false, "OAuth2: scope of the token"),
    ("ssl.cabundle", false, "TLS: file of the authorities to trust"),
    ("ssl.client.cert", false, "TLS: file of the client's certificate"),
    ("ssl.client.key", false, "TLS: file of its key"),
    ("token", true, "REST: bearer token"),
];

/// Of REST catalogs alone; a name that ends with a dot stands for all that begin so.
const OF_REST: &[&str] = &[
    "audience",
    "credential",
    "header.",
    "oauth2-server-uri",
    "prefix",
    "resource",
    "rest.",
    "scope",
    "ssl.client.cert",
    "ssl.client.key",
    "token",
];

/// What signatures for AWS need.
const OF_SIGNATURES: &[&str] =
    &["rest.access-key-id", "rest.secret-access-key", "rest.session-token", "rest.signing-name", "rest.signing-region"];

/// What a token is fetched with, besides `credential`.
const OF_TOKENS: &[&str] = &["audience", "oauth2-server-uri", "resource", "scope"];

/// Properties that are `true` or `false`, in any case, as Python and Java write them.
const FLAGS: &[&str] = &[
    "gcs.no-auth",
    "rest.sigv4-enabled",
    "s3.anonymous",
    "s3.force-virtual-addressing",
    "s3.path-style-access",
    "s3.remote-signing-enabled",
];

/// All of them.
pub(crate) fn known() -> &'static [(&'static str, bool, &'static str)] {
    PROPERTIES
}

/// The row of a property: its own, or that of the names it is one of.
pub(super) fn find(name: &str) -> Option<&'static (&'static str, bool, &'static str)> {
    let one_of = |known: &str| {
        let rest = known.strip_suffix('*').and_then(|start| name.strip_prefix(start));
        rest.is_some_and(|rest| !rest.is_empty())
    };
    let own = PROPERTIES.iter().find(|(known, ..)| *known == name);
    own.or_else(|| PROPERTIES.iter().find(|(known, ..)| one_of(known)))
}

/// Whether a property's value is a secret. A name that is not known is judged by how secrets are named elsewhere.
pub(crate) fn is_secret(name: &str) -> bool {
    find(name).map_or_else(|| is_secret_by_name(name), |(_, secret, _)| *secret)
}

/// Whether a property's value may be kept elsewhere: secrets, and what is kept beside them.
pub(crate) fn may_be_elsewhere(name: &str) -> bool {
    is_secret(name) || name.ends_with(".access-key-id") || name == "adls.client-id"
}

/// Whether two names are one: HTTP makes no difference between the cases of a header's name.
pub(super) fn is_same(one: &str, other: &str) -> bool {
    one == other || (one.starts_with("header.") && one.eq_ignore_ascii_case(other))
}

/// What is wrong with a value, for which nobody need be asked.
pub(super) fn unfit(name: &str, value: &str) -> Option<&'static str> {
    let is_flag = ["true", "false"].iter().any(|flag| value.eq_ignore_ascii_case(flag));
    (FLAGS.contains(&name) && !is_flag).then_some("is neither `true` nor `false`")
}

/// Why a property would do nothing in such a catalog, beside all the others that it has; none where it counts.
pub(super) fn idle(kind: CatalogKind, uri: &str, name: &str, all: &BTreeMap<String, String>) -> Option<&'static str> {
    let of_rest = OF_REST.iter().any(|known| name == *known || known.ends_with('.') && name.starts_with(known));
    let has = |name: &str| all.contains_key(name);
    let signs = all.get("rest.sigv4-enabled").is_some_and(|flag| flag.eq_ignore_ascii_case("true"));
    let logs_in = OF_TOKENS.contains(&name) || matches!(name, "credential" | "token");
    match kind {
        CatalogKind::Sql if of_rest => Some("in a catalog of type \"sql\", only in one of type \"rest\""),
        CatalogKind::Sql if name == "password" && uri.starts_with("sqlite:") => Some("on SQLite, which knows no passwords"),
        CatalogKind::Rest if name == "password" => {
            Some("in a catalog of type \"rest\"; a login there is `credential = \"id:secret\"`, or a `token`")
        }
        _ if signs && logs_in => Some("beside `rest.sigv4-enabled`: who signs its requests has no token; leave one of the two out"),
        _ if !signs && OF_SIGNATURES.contains(&name) => Some("without `rest.sigv4-enabled = true`"),
        _ if OF_TOKENS.contains(&name) && !has("credential") && !has("token") => {
            Some("without `credential`, which a token is fetched for")
        }
        _ if name == "ssl.client.key" && !has("ssl.client.cert") => {
            Some("without `ssl.client.cert`, the certificate that it belongs to")
        }
        _ if name == "s3.sse.key" && !has("s3.sse.type") => Some("without `s3.sse.type`"),
        _ => None,
    }
}
