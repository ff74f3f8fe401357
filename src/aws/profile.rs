//! A profile of `~/.aws/credentials` and `~/.aws/config`.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use crate::error::{Error, Result};

/// What a profile says that matters here.
#[derive(Default)]
pub(super) struct Profile {
    pub(super) name: String,
    pub(super) key_id: Option<String>,
    pub(super) secret: Option<String>,
    pub(super) token: Option<String>,
    pub(super) region: Option<String>,
    /// A command that prints credentials.
    pub(super) process: Option<String>,
    pub(super) role_arn: Option<String>,
    pub(super) web_identity_token_file: Option<String>,
}

impl Profile {
    /// The profile asked for, which must exist; else `default`, which may be missing. Of a key in both files, that of the
    /// credentials file counts.
    pub(super) fn load(files: &[Option<PathBuf>; 2], asked: Option<&str>) -> Result<Self> {
        let name = asked.unwrap_or("default");
        let [credentials, config] = files;
        let mut keys = BTreeMap::new();
        let mut found = false;
        for (file, section) in [(config, format!("profile {name}")), (credentials, name.to_owned())] {
            let Some(file) = file else { continue };
            let text = match fs::read_to_string(file) {
                Ok(text) => text,
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                Err(e) => {
                    return Err(Error::setup(format!("cannot read `{}`: {e}", file.display()), "it holds AWS profiles"));
                }
            };
            found |= sections(&text, &[&section, if name == "default" { "default" } else { &section }], &mut keys);
        }
        if !found && let Some(name) = asked {
            let places: Vec<_> = files.iter().flatten().map(|file| format!("`{}`", file.display())).collect();
            return Err(Error::setup(
                format!("AWS profile `{name}` does not exist in {}", places.join(" or ")),
                "`aws configure list-profiles` shows those that do; AWS_PROFILE or `profile-name` chooses one",
            ));
        }
        Self::read(name, keys, asked.is_some())
    }

    fn read(name: &str, mut keys: BTreeMap<String, String>, asked: bool) -> Result<Self> {
        let profile = Self {
            name: name.to_owned(),
            key_id: keys.remove("aws_access_key_id"),
            secret: keys.remove("aws_secret_access_key"),
            token: keys.remove("aws_session_token"),
            region: keys.remove("region"),
            process: keys.remove("credential_process"),
            role_arn: keys.remove("role_arn"),
            web_identity_token_file: keys.remove("web_identity_token_file"),
        };
        let has_own = profile.secret.is_some() || profile.process.is_some() || profile.web_identity_token_file.is_some();
        let beyond = keys.keys().find(|key| key.starts_with("sso_")).map(String::as_str);
        let beyond = beyond.or(profile.role_arn.as_ref().map(|_| "role_arn"));
        match beyond {
            Some(key) if asked && !has_own => Err(Error::setup(
                format!("AWS profile `{name}` takes its credentials by `{key}`, which tidegate does not do by itself"),
                format!(
                    "add a profile with `credential_process = aws configure export-credentials --profile {name}`, and use that one"
                ),
            )),
            _ => Ok(profile),
        }
    }
}

/// Takes the keys of the named sections; answers whether there is one. Nested keys (indented, below a key without a value) are
/// left out.
fn sections(text: &str, names: &[&str], keys: &mut BTreeMap<String, String>) -> bool {
    let mut found = false;
    let mut inside = false;
    for line in text.lines() {
        let content = line.trim();
        if content.starts_with(['#', ';']) || content.is_empty() {
            continue;
        }
        if let Some(section) = content.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(name, _)| name) {
            let section = section.split_whitespace().collect::<Vec<_>>().join(" ");
            inside = names.contains(&section.as_str());
            found |= inside;
        } else if inside
            && !line.starts_with([' ', '\t'])
            && let Some((key, value)) = content.split_once('=')
            && !value.trim().is_empty()
        {
            keys.insert(key.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    found
}
