//! What a location means: which bucket or disk, and which name in it.
//!
//! Pure. A bucket has one root whichever scheme spells it; the location itself is never changed.

use std::fmt;

use object_store::path::{Path, PathPart};

use crate::error::{Error, Result};

/// What has a client of its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Root {
    /// The local disk.
    Disk,
    /// A bucket of S3 or a compatible store.
    S3 { bucket: String },
    /// A bucket of Google Cloud Storage.
    Gcs { bucket: String },
    /// A container of Azure Blob Storage. The host is that of the blob service, where the location names one.
    Azure { container: String, host: Option<String> },
}

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk => f.write_str("the local disk"),
            Self::S3 { bucket } => write!(f, "bucket `{bucket}`"),
            Self::Gcs { bucket } => write!(f, "bucket `{bucket}`"),
            Self::Azure { container, host: None } => write!(f, "container `{container}`"),
            Self::Azure { container, host: Some(host) } => write!(f, "container `{container}` at `{host}`"),
        }
    }
}

/// Splits a location into its root and the key in it.
pub(super) fn split(location: &str) -> Result<(Root, &str)> {
    let (scheme, rest) = match location.split_once(':') {
        Some((scheme, rest)) if !scheme.contains('/') => (scheme, rest),
        _ => return disk(location, location),
    };
    if scheme == "file" {
        let path = match rest.strip_prefix("//") {
            Some(authority) => authority.strip_prefix("localhost").unwrap_or(authority),
            None => rest,
        };
        return disk(location, path);
    }
    let Some(rest) = rest.strip_prefix("//") else { return disk(location, location) };
    let (authority, key) = rest.split_once('/').unwrap_or((rest, ""));
    let root = match scheme {
        "s3" | "s3a" | "s3n" => Root::S3 { bucket: authority.to_owned() },
        "gs" | "gcs" => Root::Gcs { bucket: authority.to_owned() },
        "abfs" | "abfss" | "wasb" | "wasbs" => match authority.split_once('@') {
            // Both services lead to the same files.
            Some((container, host)) => {
                Root::Azure { container: container.to_owned(), host: Some(host.replacen(".dfs.", ".blob.", 1)) }
            }
            None => Root::Azure { container: authority.to_owned(), host: None },
        },
        _ => {
            return Err(Error::setup(
                format!("no storage for `{scheme}://` is built in: `{location}`"),
                "tidegate opens file, s3, s3a, s3n, gs, abfs, abfss, wasb and wasbs",
            ));
        }
    };
    if authority.is_empty() || authority.starts_with('@') || authority.ends_with('@') {
        return Err(Error::setup(
            format!("`{location}` names no bucket"),
            "write it as `s3://bucket/path`, `gs://bucket/path` or `abfss://container@account.dfs.core.windows.net/path`",
        ));
    }
    Ok((root, key))
}

fn disk<'a>(location: &str, path: &'a str) -> Result<(Root, &'a str)> {
    if path.starts_with('/') {
        return Ok((Root::Disk, path));
    }
    Err(Error::setup(
        format!("`{location}` is not an absolute location"),
        "write it as `file:///absolute/path` or `s3://bucket/path`; a host other than `localhost` cannot be opened",
    ))
}

/// The path of a key, character for character: nothing in it is encoded or decoded.
pub(super) fn parse_key(location: &str, root: &Root, key: &str) -> Result<Path> {
    let unusable = |why: &dyn fmt::Display| {
        Error::setup(
            format!("location `{location}` cannot be opened: {why}"),
            "`.`, `..`, control characters and, in a bucket, a name that begins with `/` have no place in it",
        )
    };
    if *root == Root::Disk {
        // On a disk empty segments mean nothing; in a bucket they are part of the name.
        let segments: Vec<_> = key.split('/').filter(|segment| !segment.is_empty()).collect();
        return Path::parse(segments.join("/")).map_err(|e| unusable(&e));
    }
    if key.starts_with('/') {
        return Err(unusable(&"its name begins with `/`"));
    }
    let mut path = Path::default();
    for segment in key.strip_suffix('/').unwrap_or(key).split('/') {
        path = path.join(PathPart::parse(segment).map_err(|e| unusable(&e))?);
    }
    Ok(path)
}

/// A location in the one spelling of its root: what locations of different spellings are compared by, where a *place* is meant.
pub(super) fn canonical(location: &str) -> String {
    match split(location) {
        Ok((Root::Disk, key)) => format!("file://{key}"),
        Ok((Root::S3 { bucket }, key)) => format!("s3://{bucket}/{key}"),
        Ok((Root::Gcs { bucket }, key)) => format!("gs://{bucket}/{key}"),
        Ok((Root::Azure { container, host }, key)) => format!("abfss://{container}@{}/{key}", host.unwrap_or_default()),
        // A prefix need not be a location: `s3` stands for every bucket.
        Err(_) => location.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_bucket_has_one_root() {
        let s3 = Root::S3 { bucket: "b.x".into() };
        for location in ["s3://b.x/p/q=%2F a", "s3a://b.x/p/q=%2F a", "s3n://b.x/p/q=%2F a"] {
            assert_eq!(split(location).unwrap(), (s3.clone(), "p/q=%2F a"), "{location}");
            assert_eq!(canonical(location), "s3://b.x/p/q=%2F a");
        }
        let azure = Root::Azure { container: "c".into(), host: Some("a.blob.core.windows.net".into()) };
        for scheme in ["abfs", "abfss", "wasb", "wasbs"] {
            for service in ["dfs", "blob"] {
                let location = format!("{scheme}://c@a.{service}.core.windows.net/p");
                assert_eq!(split(&location).unwrap(), (azure.clone(), "p"), "{location}");
            }
        }
        assert_eq!(split("gs://b/p").unwrap().0, Root::Gcs { bucket: "b".into() });
        assert_eq!(split("s3://b").unwrap(), (Root::S3 { bucket: "b".into() }, ""));
        assert_eq!(split("/a:b/c").unwrap(), (Root::Disk, "/a:b/c"));
    }

    #[test]
    fn a_key_is_the_name_of_the_object() {
        let root = Root::S3 { bucket: "b".into() };
        for key in ["a//b", "a///b//c", "a/b c%20+&=é#?*", "x"] {
            assert_eq!(parse_key("s3://b/...", &root, key).unwrap().as_ref(), key);
        }
        assert_eq!(parse_key("s3://b/a/", &root, "a/").unwrap().as_ref(), "a");
        assert_eq!(parse_key("s3://b", &root, "").unwrap().as_ref(), "");
        for key in ["/a", "a/../b", "a/./b", "a\u{7}"] {
            assert_eq!(parse_key("s3://b/...", &root, key).unwrap_err().exit_code(), 78, "{key}");
        }
    }
}
