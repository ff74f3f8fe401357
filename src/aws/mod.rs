//! AWS: whose credentials to use, and Signature Version 4 with them.
//!
//! One chain for S3, REST catalogs that want signed requests, and MSK. Its order is that of AWS's own libraries: what the job file
//! says, environment, web identity (EKS), profile (`~/.aws`), container (ECS, EKS Pod Identity), instance. Nothing is asked before
//! the first request needs it. No secret ever shows in `Debug` or in an error.

mod container;
mod profile;
mod provider;
pub(crate) mod sign;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) use aws_credential_types::Credentials;
use object_store::StaticCredentialProvider;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey as Key, AwsCredential, AwsCredentialProvider};
pub(crate) use sign::{Request, Scope, presign, sign};

use crate::error::{Doing, Error, Result};
use profile::Profile;

/// Looks up an environment variable.
pub(crate) type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The process's environment. An empty variable is as good as none, as for AWS's own libraries.
#[expect(
    clippy::disallowed_methods,
    reason = "a client is opened when it is first needed, and its libraries' users expect these variables"
)]
pub(crate) fn process_env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Where credentials come from, and the region that goes with them.
#[derive(Clone)]
pub(crate) struct Chain {
    provider: AwsCredentialProvider,
    region: Option<String>,
    from: String,
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chain").field("from", &self.from).field("region", &self.region).finish_non_exhaustive()
    }
}

impl Chain {
    /// Chooses the source. Properties are looked up under each prefix (`s3.`, `client.`) in turn: `access-key-id`,
    /// `secret-access-key`, `session-token`, `region`, `profile-name`. Asks nobody yet; reads `~/.aws` where it comes to that.
    ///
    /// Fails (78) for half a key pair, a profile that does not exist or needs what this chain cannot do.
    pub(crate) fn open(properties: &BTreeMap<String, String>, prefixes: &[&str], env: Env<'_>) -> Result<Self> {
        let property = |name: &str| prefixes.iter().find_map(|prefix| properties.get(&format!("{prefix}{name}")).cloned());
        if property("role-arn").is_some() {
            return Err(Error::setup(
                format!("`{}role-arn` is set, but tidegate does not assume roles by itself", prefixes.first().unwrap_or(&"")),
                "put `credential_process = aws configure export-credentials --profile OTHER` into a profile, \
                 or let web identity (AWS_ROLE_ARN with AWS_WEB_IDENTITY_TOKEN_FILE) do it",
            ));
        }
        let asked = property("profile-name").or_else(|| env("AWS_PROFILE"));
        let profile = Profile::load(&files(env), asked.as_deref())?;
        let region = property("region").or_else(|| env("AWS_REGION")).or_else(|| env("AWS_DEFAULT_REGION"));
        let region = region.or_else(|| profile.region.clone());
        let pairs = [
            ("the job's properties", property("access-key-id"), property("secret-access-key"), property("session-token")),
            ("the environment", env("AWS_ACCESS_KEY_ID"), env("AWS_SECRET_ACCESS_KEY"), env("AWS_SESSION_TOKEN")),
        ];
        let named = property("profile-name").is_some();
        for (at, (from, key_id, secret, token)) in pairs.into_iter().enumerate() {
            // A profile that the job names goes before the environment's keys.
            if at == 1 && named {
                break;
            }
            match (key_id, secret) {
                (Some(key_id), Some(secret)) => return Ok(Self::fixed(from.to_owned(), key_id, secret, token, region)),
                (None, None) => {}
                _ => {
                    return Err(Error::setup(
                        format!("half a pair of AWS keys comes from {from}"),
                        "give the access key id and the secret access key, or neither",
                    ));
                }
            }
        }
        if !named && let (Some(file), Some(role)) = (env("AWS_WEB_IDENTITY_TOKEN_FILE"), env("AWS_ROLE_ARN")) {
            return Self::web_identity(&file, &role, env("AWS_ROLE_SESSION_NAME"), env("AWS_ENDPOINT_URL_STS"), region);
        }
        Self::of_profile(profile, env, region)
    }

    /// Credentials as they are now: fetched again when they are about to expire.
    ///
    /// Fails with 77 where no source has any, 75 where a source does not answer.
    pub(crate) async fn credentials(&self) -> Result<Credentials> {
        let found = self.provider.get_credential().await.doing(|| format!("get AWS credentials from {}", self.from))?;
        Ok(Credentials::new(&found.key_id, &found.secret_key, found.token.clone(), None, "tidegate"))
    }

    /// Region of the properties, the environment or the profile.
    pub(crate) fn region(&self) -> Option<&str> {
        self.region.as_deref()
    }

    /// The same as `object_store` wants it.
    pub(crate) fn provider(&self) -> AwsCredentialProvider {
        Arc::clone(&self.provider)
    }

    fn fixed(from: String, key_id: String, secret_key: String, token: Option<String>, region: Option<String>) -> Self {
        let provider = Arc::new(StaticCredentialProvider::new(AwsCredential { key_id, secret_key, token }));
        Self { provider, region, from }
    }

    fn of_profile(profile: Profile, env: Env<'_>, region: Option<String>) -> Result<Self> {
        let from = format!("profile `{}`", profile.name);
        if let (Some(key_id), Some(secret)) = (profile.key_id, profile.secret) {
            return Ok(Self::fixed(from, key_id, secret, profile.token, region));
        }
        if let (Some(file), Some(role)) = (&profile.web_identity_token_file, &profile.role_arn) {
            return Self::web_identity(file, role, None, env("AWS_ENDPOINT_URL_STS"), region);
        }
        if let Some(command) = profile.process {
            let provider = Arc::new(provider::Process::new(profile.name, command));
            return Ok(Self { provider, region, from });
        }
        if let Some(container) = container::Container::of(env)? {
            return Ok(Self { provider: Arc::new(container), region, from: String::from("the container") });
        }
        if env("AWS_EC2_METADATA_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Ok(Self { provider: Arc::new(provider::Nowhere), region, from: String::from("nowhere") });
        }
        let mut builder = builder(region.as_deref());
        if let Some(endpoint) = env("AWS_EC2_METADATA_SERVICE_ENDPOINT") {
            builder = builder.with_metadata_endpoint(endpoint.trim_end_matches('/'));
        }
        let mut chain = Self::built(builder, String::from("the instance"), region)?;
        chain.provider = Arc::new(provider::Instance::new(chain.provider));
        Ok(chain)
    }

    fn web_identity(file: &str, role: &str, session: Option<String>, sts: Option<String>, region: Option<String>) -> Result<Self> {
        // Read again for each request, as it is written anew while the job runs.
        if let Err(e) = fs::File::open(file) {
            return Err(Error::setup(
                format!("cannot read `{file}`, which AWS_WEB_IDENTITY_TOKEN_FILE or a profile names: {e}"),
                "is the token mounted?",
            ));
        }
        let mut builder = builder(region.as_deref()).with_config(Key::WebIdentityTokenFile, file).with_config(Key::RoleArn, role);
        builder = builder.with_config(Key::RoleSessionName, session.unwrap_or_else(|| String::from("tidegate")));
        if let Some(endpoint) = sts {
            builder = builder.with_config(Key::StsEndpoint, endpoint);
        }
        Self::built(builder, format!("web identity as role `{role}`"), region)
    }

    /// What `object_store` can fetch by itself.
    fn built(builder: AmazonS3Builder, from: String, region: Option<String>) -> Result<Self> {
        let client = builder.build().doing(|| format!("prepare AWS credentials from {from}"))?;
        Ok(Self { provider: Arc::clone(client.credentials()), region, from })
    }
}

/// A client of a bucket that is never asked: only its credentials are.
fn builder(region: Option<&str>) -> AmazonS3Builder {
    let builder = AmazonS3Builder::new().with_bucket_name("credentials").with_retry(provider::patience());
    match region {
        Some(region) => builder.with_region(region),
        None => builder,
    }
}

/// The two files that hold profiles: credentials, configuration.
fn files(env: Env<'_>) -> [Option<PathBuf>; 2] {
    let home = env("HOME").map(|home| Path::new(&home).join(".aws"));
    let file = |variable, name| env(variable).map(PathBuf::from).or_else(|| Some(home.as_ref()?.join(name)));
    [file("AWS_SHARED_CREDENTIALS_FILE", "credentials"), file("AWS_CONFIG_FILE", "config")]
}

#[cfg(test)]
mod tests;
