//! Opens, reads, writes and lists files by the location strings that catalogs, metadata files and manifests hold.
//!
//! The only room that touches `object_store`: one client per bucket (one for the local disk), whichever scheme spells it, opened
//! when first needed, shared by all clones, every request counted. Never normalises a location that is handed on: two spellings of one file stay two strings,
//! because delete files point at data files by exact string. Never overwrites: a name that exists is an error. What is written is
//! durable (on disk: file and directory synced) before the call that wrote it returns.

mod azure;
mod client;
mod disk;
mod fault;
mod file_io;
mod gcs;
mod meter;
mod place;
mod remote;
mod s3;
mod upload;
mod vended;
mod wire;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use iceberg::io::{FileIO, FileIOBuilder};
use object_store::path::Path;
use object_store::{GetOptions, ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use serde::{Deserialize, Serialize};

use client::Properties;
pub(crate) use disk::make_directory;
pub(crate) use fault::{failed, is_damage, is_down};
pub use meter::Requests;
use place::{Root, parse_key, split};
pub(crate) use upload::Upload;
use vended::Lease;
pub use vended::{Refresh, Vended};

use crate::error::{Error, Result};

/// How long the end of a run waits for uploads that are taken back.
const WIND_DOWN: Duration = Duration::from_secs(5);

/// All storage of one process. Clones share clients and counts.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Store {
    // Iceberg wants a storage that can be sent elsewhere; one that arrives there opens its own clients, without any secret.
    #[serde(skip)]
    shared: Arc<Shared>,
}

/// A root and, where a catalog vended credentials, the number of the table and the prefix.
type ClientName = (Root, Option<(usize, String)>);

#[derive(Default)]
struct Shared {
    properties: Properties,
    opened: Mutex<BTreeMap<ClientName, Arc<dyn ObjectStore>>>,
    leases: Mutex<Vec<Arc<Lease>>>,
    counts: Arc<meter::Counts>,
    aborting: Mutex<Vec<tokio::task::JoinHandle<()>>>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("properties", &self.shared.properties).finish_non_exhaustive()
    }
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
    /// Without properties, which the local disk needs none of. Nothing is opened yet.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// With the properties of a catalog's stores, in plain text. Nothing is opened yet.
    pub(crate) fn with(properties: BTreeMap<String, String>) -> Self {
        Self { shared: Arc::new(Shared { properties: Properties(properties), ..Shared::default() }) }
    }

    /// One that opens every local location through `client`. Tests put faults behind it; a program that embeds a job brings a
    /// client of its own.
    pub fn over(client: Arc<dyn ObjectStore>) -> Self {
        let store = Self::new();
        let client = meter::metered(client, Arc::clone(&store.shared.counts));
        locked(&store.shared.opened).insert((Root::Disk, None), client);
        store
    }

    /// Takes what a catalog vends for the table at a location: used, from now on, for every location below one of the prefixes. Where
    /// several tables have such a prefix, that of the table in which the location lies counts, then the longest. `refresh` is asked before what was vended
    /// expires, and when a store calls it expired. Vending again for the same table replaces what was vended before.
    pub fn vend(&self, table: &str, vended: Vec<Vended>, refresh: Refresh) {
        let mut leases = locked(&self.shared.leases);
        match leases.iter().find(|lease| lease.is_of(table)) {
            Some(lease) => lease.renew(vended, refresh),
            None => leases.push(Arc::new(Lease::new(table, vended, refresh))),
        }
    }

    /// The same clients as Iceberg's `FileIO`. Its writes fail, too, where the name exists.
    pub fn file_io(&self) -> FileIO {
        FileIOBuilder::new(Arc::new(self.clone())).build()
    }

    /// The client and the path in it for a location in any spelling: `file:/x`, `file:///x`, `file://localhost/x`, `/x`,
    /// `s3://bucket/x`, `s3a://bucket/x`.
    pub(crate) fn object(&self, location: &str) -> Result<(Arc<dyn ObjectStore>, Path)> {
        let (root, key) = split(location)?;
        let path = parse_key(location, &root, key)?;
        let lease = if root == Root::Disk { None } else { self.lease(location) };
        let name = (root, lease.as_ref().map(|(at, _, prefix)| (*at, prefix.clone())));
        let mut opened = locked(&self.shared.opened);
        if let Some(client) = opened.get(&name) {
            return Ok((Arc::clone(client), path));
        }
        let counts = &self.shared.counts;
        let client: Arc<dyn ObjectStore> = match &name.0 {
            Root::Disk => meter::metered(Arc::new(disk::Disk::default()), Arc::clone(counts)),
            root => {
                let lease = lease.map(|(_, lease, prefix)| (lease, prefix));
                Arc::new(client::open(root, &self.shared.properties, lease, counts)?)
            }
        };
        opened.insert(name, Arc::clone(&client));
        Ok((client, path))
    }

    /// What was vended for a location: its number, itself, and the prefix.
    fn lease(&self, location: &str) -> Option<(usize, Arc<Lease>, String)> {
        let leases = locked(&self.shared.leases);
        let fitting = leases.iter().enumerate().filter_map(|(at, lease)| Some((at, lease, lease.fit(location)?)));
        let (at, lease, (_, _, prefix)) = fitting.max_by_key(|(_, _, (inside, length, _))| (*inside, *length))?;
        Some((at, Arc::clone(lease), prefix))
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

    /// Bytes between two ranges of a file that are read along rather than asked for apart.
    pub(crate) fn gap(&self, location: &str) -> Result<u64> {
        Ok(if split(location)?.0 == Root::Disk { disk::HOLE_BYTES } else { remote::HOLE_BYTES })
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
            Err(error) if is_down(&error) => return Err(failed(|| format!("read `{location}`"), error)),
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
        Ok(Upload::new(location.to_owned(), client, path, self.clone()))
    }

    /// Waits a while for what dropped uploads still take back. Parts of an upload that is neither ended nor taken back cost money
    /// until a rule of the bucket removes them.
    pub(crate) async fn wind_down(&self) {
        let aborting = std::mem::take(&mut *locked(&self.shared.aborting));
        if tokio::time::timeout(WIND_DOWN, futures::future::join_all(aborting)).await.is_err() {
            tracing::warn!("parts of unfinished files stay in the store; a lifecycle rule for incomplete uploads removes them");
        }
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
        let folder = prefix.trim_end_matches('/');
        let (client, path) = self.object(if folder.is_empty() { prefix } else { folder })?;
        let skip = path.as_ref().len();
        let found: Result<Vec<_>, _> = client
            .list(Some(&path))
            // The empty object with which other programs mark a folder.
            .try_filter(|meta| std::future::ready(meta.location != path))
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

/// What another thread left when it panicked is as good as ever: nothing is changed in steps.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
