//! How a client says who it is, and whom it trusts.
//!
//! Takes the job's properties, with every secret in its place, apart into what librdkafka gets and what is ours: tokens are fetched
//! here, as librdkafka is built without an HTTP client. Refuses what cannot work before anybody is asked.

pub(super) mod login;
pub(super) mod refusal;

use std::collections::BTreeMap;

use self::login::Login;
use crate::error::{Error, Result};

/// Properties of ours: librdkafka knows none of this name.
pub(in crate::source) const TOKEN: &str = "sasl.oauthbearer.token";
const METHOD: &str = "sasl.oauthbearer.method";
/// AWS's own name for the mechanism that its brokers know as OAUTHBEARER.
const MSK_IAM: &str = "AWS_MSK_IAM";
const MECHANISMS: &str = "PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER and AWS_MSK_IAM";

/// What a client of librdkafka's is made with.
#[derive(Debug)]
pub(super) struct Security {
    /// For librdkafka.
    pub(super) properties: BTreeMap<String, String>,
    /// Who gets tokens; none where the client logs in by other means, or not at all.
    pub(super) login: Option<Login>,
}

impl Security {
    /// Of the job's properties.
    ///
    /// Fails (78) for what cannot work, or is not built in.
    pub(super) fn of(properties: &BTreeMap<String, String>) -> Result<Self> {
        let protocol = properties.get("security.protocol").map_or("plaintext".into(), |name| name.to_ascii_lowercase());
        let mut ours = Self { properties: properties.clone(), login: None };
        ours.properties.retain(|name, _| !is_for_tokens(name));
        if protocol.ends_with("ssl") && !["ssl.ca.location", "ssl.ca.pem"].iter().any(|name| properties.contains_key(*name)) {
            // The OpenSSL that is linked in looks where it was built to be installed, which is nowhere.
            ours.properties.insert("ssl.ca.location".into(), "probe".into());
        }
        if protocol.starts_with("sasl") {
            ours.log_in(properties)?;
        }
        Ok(ours)
    }

    fn log_in(&mut self, properties: &BTreeMap<String, String>) -> Result<()> {
        let Some(mechanism) = mechanism(properties) else {
            return Err(Error::setup(
                "`security.protocol` asks for SASL, and `sasl.mechanism` says none",
                format!("tidegate can do {MECHANISMS}"),
            ));
        };
        match mechanism.to_ascii_uppercase().as_str() {
            "PLAIN" | "SCRAM-SHA-256" | "SCRAM-SHA-512" => {
                let missing = ["sasl.username", "sasl.password"].into_iter().find(|name| !properties.contains_key(*name));
                match missing {
                    Some(name) => Err(Error::setup(format!("`sasl.mechanism` is {mechanism}, and `{name}` is not set"), SECRETS)),
                    None => Ok(()),
                }
            }
            // librdkafka's own tokens, signed by nobody: for tests of brokers.
            "OAUTHBEARER" if properties.get("enable.sasl.oauthbearer.unsecure.jwt").is_some_and(|value| value == "true") => {
                let config = properties.get_key_value("sasl.oauthbearer.config");
                self.properties.extend(config.map(|(name, value)| (name.clone(), value.clone())));
                Ok(())
            }
            "OAUTHBEARER" => {
                self.login = Some(Login::by_token(properties)?);
                Ok(())
            }
            MSK_IAM => {
                self.login = Some(Login::by_aws(properties)?);
                self.properties.remove("sasl.mechanisms");
                self.properties.insert("sasl.mechanism".into(), "OAUTHBEARER".into());
                Ok(())
            }
            "GSSAPI" => Err(Error::setup(
                "`sasl.mechanism` is GSSAPI (Kerberos), which is not built into tidegate",
                format!("it can do {MECHANISMS}; does the broker have a listener for one of them?"),
            )),
            _ => Err(Error::setup(
                format!("`sasl.mechanism` is `{mechanism}`, which nobody knows here"),
                format!("tidegate can do {MECHANISMS}"),
            )),
        }
    }
}

const SECRETS: &str = "a secret can be `env:NAME`, `file:PATH` or `command:PROGRAM ARGUMENTS`";

fn mechanism(properties: &BTreeMap<String, String>) -> Option<&String> {
    ["sasl.mechanisms", "sasl.mechanism"].iter().find_map(|name| properties.get(*name))
}

/// Whether librdkafka has nothing to do with it.
fn is_for_tokens(name: &str) -> bool {
    name.starts_with("sasl.oauthbearer.") || name.starts_with("https.ca.") || name.starts_with("aws.")
}

#[cfg(test)]
mod tests;
