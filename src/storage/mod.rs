//! Opens, reads, writes and lists files by the location strings that catalogs, metadata files and manifests hold.
//!
//! The only room that touches `object_store`: one client per bucket (one for the local disk), opened when first needed, shared by
//! all clones, every request counted. Never normalises a location that is handed on: two spellings of one file stay two strings,
//! because delete files point at data files by exact string. Never overwrites: a name that exists is an error. What is written is
//! durable (on disk: file and directory synced) before the call that wrote it returns.

mod disk;
mod file_io;
mod meter;
mod upload;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use iceberg::io::{FileIO, FileIOBuilder};
use object_store::path::Path;
use object_store::{GetOptions, ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use parquet::errors::ParquetError;
use serde::{Deserialize, Serialize};

pub(crate) use disk::make_directory;
pub use meter::Requests;
pub(crate) use upload::Upload;

use crate::error::{BoxError, Error, Result};

/// All storage of one process. Clones share clients and counts.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Store {
    // Iceberg wants a storage that can be sent elsewhere; one that arrives there opens its own clients.
    #[serde(skip)]
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    opened: Mutex<BTreeMap<String, Arc<dyn ObjectStore>>>,
    counts: Arc<meter::Counts>,
}

/// One file of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    /// Location in the spelling of the prefix that was listed.
    pub(crate) location: String,
    /// Size in bytes.
    pub(crate) size: u64,
    /// When it was written last.
    pub(crate) modified: DateTime<Utc>,
}

impl Store {
    /// With nothing opened yet.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// One that opens every location under `root` (`file`: the local disk) through `client`. Tests put faults behind it; a program
    /// that embeds a job brings a client of its own.
    pub fn over(root: &str, client: Arc<dyn ObjectStore>) -> Self {
        let store = Self::new();
        let client = meter::metered(client, Arc::clone(&store.shared.counts));
        store.shared.opened.lock().unwrap_or_else(PoisonError::into_inner).insert(root.to_owned(), client);
        store
    }

    /// The same clients as Iceberg's `FileIO`. Its writes fail, too, where the name exists.
    pub fn file_io(&self) -> FileIO {
        FileIOBuilder::new(Arc::new(self.clone())).build()
    }

    /// The client and the path in it for a location in any spelling: `file:/x`, `file:///x`, `file://localhost/x`, `/x`.
    pub(crate) fn object(&self, location: &str) -> Result<(Arc<dyn ObjectStore>, Path)> {
        let (root, key) = split(location)?;
        let path = parse_key(location, root, key)?;
        let mut opened = self.shared.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = opened.get(root) {
            return Ok((Arc::clone(client), path));
        }
        let client = meter::metered(open(root)?, Arc::clone(&self.shared.counts));
        opened.insert(root.to_owned(), Arc::clone(&client));
        Ok((client, path))
    }

    /// Content of a whole file.
    pub(crate) async fn read(&self, location: &str) -> Result<Bytes> {
        let (client, path) = self.object(location)?;
        let read = async { client.get(&path).await?.bytes().await };
        read.await.map_err(|e| failed(|| format!("read `{location}`"), e))
    }

    /// Bytes `range` of a file, all of them.
    pub(crate) async fn read_range(&self, location: &str, range: Range<u64>) -> Result<Bytes> {
        let ranges = self.read_ranges(location, &[range]).await?;
        Ok(ranges.into_iter().next().expect("one range in, one range out"))
    }

    /// Several ranges of a file, each whole, in the order asked for.
    pub(crate) async fn read_ranges(&self, location: &str, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let (client, path) = self.object(location)?;
        let cut = |end: u64| {
            Error::setup(
                format!("file `{location}` ends before byte {end}"),
                "the file was cut or replaced after it was written; restore it, or roll the table back",
            )
        };
        let read = match client.get_ranges(&path, ranges).await {
            Ok(read) => read,
            // Stores differ in what they call a range behind the end.
            Err(error) => {
                let end = ranges.iter().map(|range| range.end).max().unwrap_or(0);
                return Err(match self.size(location).await {
                    Ok(Some(size)) if size < end => cut(end),
                    _ => failed(|| format!("read `{location}`"), error),
                });
            }
        };
        match ranges.iter().zip(&read).find(|(range, bytes)| u64::try_from(bytes.len()) != Ok(range.end - range.start)) {
            Some((range, _)) => Err(cut(range.end)),
            None => Ok(read),
        }
    }

    /// Size of a file; none where there is no such file.
    pub(crate) async fn size(&self, location: &str) -> Result<Option<u64>> {
        let (client, path) = self.object(location)?;
        match client.get_opts(&path, GetOptions::new().with_head(true)).await {
            Ok(found) => Ok(Some(found.meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(failed(|| format!("look for `{location}`"), e)),
        }
    }

    /// Writes a new file whole.
    pub(crate) async fn create(&self, location: &str, content: Bytes) -> Result<()> {
        let (client, path) = self.object(location)?;
        let written = client.put_opts(&path, PutPayload::from_bytes(content), PutMode::Create.into()).await;
        written.map(|_| ()).map_err(|e| failed(|| format!("write `{location}`"), e))
    }

    /// Begins a new file of any size, in bounded memory. Nothing is kept unless [`Upload::finish`] answers.
    pub(crate) fn writer(&self, location: &str) -> Result<Upload> {
        let (client, path) = self.object(location)?;
        Ok(Upload::new(location.to_owned(), client, path))
    }

    /// Whether a file of this name could be written: begins one and takes it back, so that there never is one.
    pub(crate) async fn may_write(&self, location: &str) -> Result<()> {
        let (client, path) = self.object(location)?;
        let tried = async {
            let mut upload = client.put_multipart(&path).await?;
            upload.put_part(PutPayload::from_static(b"tidegate check")).await?;
            upload.abort().await
        };
        tried.await.map_err(|e| failed(|| format!("write `{location}`"), e))
    }

    /// Deletes a file. One that is not there is as good as deleted.
    pub(crate) async fn delete(&self, location: &str) -> Result<()> {
        let (client, path) = self.object(location)?;
        match client.delete(&path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(failed(|| format!("delete `{location}`"), e)),
        }
    }

    /// Every file below a folder, in no order; empty where there is no such folder.
    pub(crate) async fn list(&self, prefix: &str) -> Result<Vec<Listed>> {
        let (client, path) = self.object(prefix)?;
        let folder = prefix.trim_end_matches('/');
        let skip = path.as_ref().len();
        let found: Result<Vec<_>, _> = client
            .list(Some(&path))
            .map_ok(|meta| Listed {
                location: format!("{folder}/{}", meta.location.as_ref()[skip..].trim_start_matches('/')),
                size: meta.size,
                modified: meta.last_modified,
            })
            .try_collect()
            .await;
        found.map_err(|e| failed(|| format!("list `{prefix}`"), e))
    }

    /// Requests made so far, through all clones.
    pub(crate) fn requests(&self) -> Requests {
        self.shared.counts.requests()
    }
}

/// Splits a location into the root that has a client of its own (`file`, later `s3://bucket`) and the key in it.
fn split(location: &str) -> Result<(&str, &str)> {
    let local = if let Some(rest) = location.strip_prefix("file:") {
        match rest.strip_prefix("//") {
            Some(authority) => authority.strip_prefix("localhost").unwrap_or(authority),
            None => rest,
        }
    } else if let Some((scheme, _)) = location.split_once("://") {
        return Err(Error::setup(
            format!("no storage for `{scheme}://` is built in: `{location}`"),
            "tidegate opens local files (`file:///path`); object stores are not supported yet",
        ));
    } else {
        location
    };
    if local.starts_with('/') {
        return Ok(("file", local));
    }
    Err(Error::setup(
        format!("`{location}` is not an absolute location"),
        "write it as `file:///absolute/path`; a host other than `localhost` cannot be opened",
    ))
}

/// The path of a key, character for character: nothing in it is encoded or decoded.
fn parse_key(location: &str, root: &str, key: &str) -> Result<Path> {
    let unusable = |e: object_store::path::Error| {
        Error::setup(format!("location `{location}` cannot be opened: {e}"), "`.`, `..` and control characters have no place in it")
    };
    if root == "file" && key.contains("//") {
        // On a disk empty segments mean nothing; in a bucket they are part of the name.
        let segments: Vec<_> = key.split('/').filter(|segment| !segment.is_empty()).collect();
        return Path::parse(segments.join("/")).map_err(unusable);
    }
    Path::parse(key).map_err(unusable)
}

fn open(root: &str) -> Result<Arc<dyn ObjectStore>> {
    match root {
        "file" => Ok(Arc::new(disk::Disk::default())),
        _ => Err(Error::broken(format!("no client for storage root `{root}`"))),
    }
}

/// Turns what a storage, or a library that reads through one, says into an error that says who acts: looks through all causes for
/// a refused permission (77), a missing or damaged file (78), a missing folder (78), a name that exists (101); anything else is temporary (75).
pub(crate) fn failed(doing: impl FnOnce() -> String, source: impl Into<BoxError>) -> Error {
    let source = source.into();
    match fault(source.as_ref()) {
        Fault::Denied => Error::Denied { doing: doing(), source },
        Fault::Exists => Error::broken(format!("could not {}: a file of this name exists, and no two runs share a name", doing())),
        Fault::Missing => Error::setup(
            format!("could not {}: it does not exist", doing()),
            "the table names a file that is gone; restore it, or roll the table back to a snapshot without it",
        ),
        Fault::NoFolder => Error::setup(
            format!("could not {}: a part of its path is no folder but a file", doing()),
            "is the path right? move the file away, or choose another place",
        ),
        Fault::Damaged => Error::Damaged { doing: doing(), source },
        Fault::Setup(what, hint) => Error::Setup { what, hint },
        Fault::Temporary => Error::Unavailable { doing: doing(), source },
    }
}

/// Whether an error comes from what a file holds, so that trying again cannot help: it was read, and is not what it should be.
pub(crate) fn is_damage(error: &Error) -> bool {
    let source = match error {
        Error::Refused { .. } | Error::Damaged { .. } => return true,
        Error::Unavailable { source, .. } => source,
        _ => return false,
    };
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(source.as_ref());
    let mut content = false;
    while let Some(error) = cause {
        if error.is::<object_store::Error>() {
            return false;
        }
        if let Some(error) = error.downcast_ref::<std::io::Error>()
            && !matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof | ErrorKind::Other)
        {
            return false;
        }
        content |= error.is::<ParquetError>() || error.is::<iceberg::Error>();
        cause = error.source();
    }
    content
}

enum Fault {
    Denied,
    Exists,
    Missing,
    NoFolder,
    Damaged,
    Setup(String, String),
    Temporary,
}

fn fault(error: &(dyn std::error::Error + 'static)) -> Fault {
    let mut cause = Some(error);
    let mut damaged = false;
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<Error>() {
            match error {
                Error::Denied { .. } => return Fault::Denied,
                Error::Setup { what, hint } => return Fault::Setup(what.clone(), hint.clone()),
                _ => {}
            }
        } else if let Some(error) = error.downcast_ref::<object_store::Error>() {
            match error {
                object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => return Fault::Denied,
                object_store::Error::NotFound { .. } => return Fault::Missing,
                object_store::Error::AlreadyExists { .. } => return Fault::Exists,
                _ => {}
            }
        } else if let Some(error) = error.downcast_ref::<std::io::Error>() {
            match error.kind() {
                ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => return Fault::Denied,
                ErrorKind::NotFound => return Fault::Missing,
                ErrorKind::NotADirectory => return Fault::NoFolder,
                ErrorKind::AlreadyExists => return Fault::Exists,
                _ => {}
            }
        }
        // Trying again reads the same bytes; what a store says beneath it counts for more.
        match error.downcast_ref::<ParquetError>() {
            Some(ParquetError::External(_)) => damaged = false,
            Some(_) => damaged = true,
            None => {}
        }
        damaged |= error.downcast_ref::<iceberg::Error>().is_some_and(|error| error.kind() == iceberg::ErrorKind::DataInvalid);
        cause = error.source();
    }
    if damaged { Fault::Damaged } else { Fault::Temporary }
}

#[cfg(test)]
mod tests;
