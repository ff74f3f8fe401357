//! What librdkafka gets of a job's properties, what is kept from it, and what is refused before anybody is asked.

use super::*;

fn properties(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn sasl(pairs: &[(&str, &str)]) -> Result<Security> {
    let mut all = properties(pairs);
    all.insert("security.protocol".into(), "SASL_SSL".into());
    Security::of(&all)
}

#[track_caller]
fn refused(pairs: &[(&str, &str)], told: &str) {
    let error = sasl(pairs).unwrap_err();
    let text = format!("{error} {}", error.hint().unwrap_or_default());
    assert_eq!(error.exit_code(), 78, "{text}");
    assert!(text.contains(told), "{text}");
}

#[test]
fn certificates_are_looked_for_where_systems_keep_them() {
    let of = |pairs: &[_]| Security::of(&properties(pairs)).unwrap().properties.get("ssl.ca.location").cloned();
    assert_eq!(of(&[("security.protocol", "SSL")]).as_deref(), Some("probe"));
    assert_eq!(of(&[("security.protocol", "ssl"), ("ssl.ca.location", "/ca.pem")]).as_deref(), Some("/ca.pem"));
    assert_eq!(of(&[("security.protocol", "ssl"), ("ssl.ca.pem", "-----BEGIN")]), None, "the job's own authority alone");
    assert_eq!(of(&[]), None);
}

#[test]
fn passwords_go_to_librdkafka() {
    let security = sasl(&[("sasl.mechanism", "scram-sha-256"), ("sasl.username", "me"), ("sasl.password", "x")]).unwrap();
    assert!(security.login.is_none());
    assert_eq!(security.properties["sasl.password"], "x");
    refused(&[("sasl.mechanism", "PLAIN"), ("sasl.username", "me")], "`sasl.password` is not set");
}

#[test]
fn what_is_not_built_in_is_refused_by_name() {
    refused(&[], "`sasl.mechanism` says none");
    refused(&[("sasl.mechanisms", "GSSAPI")], "Kerberos");
    refused(&[("sasl.mechanism", "NTLM")], "tidegate can do PLAIN");
    refused(&[("sasl.mechanism", "OAUTHBEARER")], "nothing says where tokens come from");
    let jwt = "urn:ietf:params:oauth:grant-type:jwt-bearer";
    refused(&[("sasl.mechanism", "OAUTHBEARER"), ("sasl.oauthbearer.grant.type", jwt)], "sasl.oauthbearer.grant.type");
    refused(
        &[("sasl.mechanism", "OAUTHBEARER"), ("sasl.oauthbearer.metadata.authentication.type", "azure_imds")],
        "metadata.authentication.type",
    );
}

#[test]
fn a_token_server_is_asked_under_librdkafkas_names_and_not_by_it() {
    let job = [
        ("sasl.mechanism", "OAUTHBEARER"),
        ("sasl.oauthbearer.method", "oidc"),
        ("sasl.oauthbearer.token.endpoint.url", "https://login.example/token"),
        ("sasl.oauthbearer.client.id", "tide"),
        ("sasl.oauthbearer.client.secret", "open-sesame"),
        ("sasl.oauthbearer.scope", "kafka"),
        ("sasl.oauthbearer.extensions", "logicalCluster=lkc-1, identityPoolId=pool-2"),
    ];
    let security = sasl(&job).unwrap();
    let shown = format!("{security:?}");
    assert!(shown.contains("login.example") && shown.contains("lkc-1") && !shown.contains("open-sesame"), "{shown}");
    assert!(!security.properties.keys().any(|name| name.starts_with("sasl.oauthbearer.")), "{shown}");
    for missing in ["sasl.oauthbearer.client.id", "sasl.oauthbearer.client.secret"] {
        let rest: Vec<_> = job.into_iter().filter(|(name, _)| *name != missing).collect();
        refused(&rest, missing);
    }
    let other = |name: &'static str, value: &'static str| {
        job.into_iter().filter(move |(other, _)| *other != name).chain([(name, value)]).collect::<Vec<_>>()
    };
    refused(&other("sasl.oauthbearer.token.endpoint.url", "login.example"), "is not an address");
    refused(&other("sasl.oauthbearer.extensions", "auth=x"), "is not a list of extensions");
}

#[test]
fn librdkafkas_unsigned_tokens_stay_its_own() {
    let security = sasl(&[
        ("sasl.mechanism", "OAUTHBEARER"),
        ("enable.sasl.oauthbearer.unsecure.jwt", "true"),
        ("sasl.oauthbearer.config", "principal=tide"),
    ]);
    let security = security.unwrap();
    assert!(security.login.is_none());
    assert_eq!(security.properties["sasl.oauthbearer.config"], "principal=tide");
}

#[test]
fn msk_is_told_by_its_own_name() {
    let aws = [
        ("sasl.mechanism", "AWS_MSK_IAM"),
        ("bootstrap.servers", "b-1.tide.abc123.c2.kafka.eu-west-3.amazonaws.com:9098,b-2.tide:9098"),
        ("aws.access-key-id", "AKIDEXAMPLE"),
        ("aws.secret-access-key", "open-sesame"),
    ];
    let security = sasl(&aws).unwrap();
    assert_eq!(security.properties["sasl.mechanism"], "OAUTHBEARER");
    let shown = format!("{security:?}");
    assert!(shown.contains("eu-west-3") && !shown.contains("open-sesame"), "{shown}");
    assert!(!security.properties.keys().any(|name| name.starts_with("aws.")), "{shown}");
}
