//! Stand-in for the store room, with local files only: replaced by the branch `store` at merge.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use iceberg::io::FileIO;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::error::{Doing, Result};

/// Opens any path of a table.
#[derive(Clone, Debug)]
pub struct Store {
    local: Arc<LocalFileSystem>,
}

impl Default for Store {
    fn default() -> Self {
        Self::new()
    }
}

impl Store {
    /// Local files.
    pub fn new() -> Self {
        Self { local: Arc::new(LocalFileSystem::new()) }
    }

    /// Client and path of a location.
    pub fn object(&self, location: &str) -> Result<(Arc<dyn ObjectStore>, Path)> {
        let path = location.trim_start_matches("file:").trim_start_matches("//");
        let path = Path::from_absolute_path(path).doing(|| format!("parse `{location}`"))?;
        let local: Arc<LocalFileSystem> = Arc::clone(&self.local);
        Ok((local, path))
    }

    /// A whole file.
    pub async fn read(&self, location: &str) -> Result<Bytes> {
        let (store, path) = self.object(location)?;
        let answer = store.get(&path).await.doing(|| format!("read `{location}`"))?;
        answer.bytes().await.doing(|| format!("read `{location}`"))
    }

    /// Some bytes of a file.
    pub async fn read_range(&self, location: &str, range: Range<u64>) -> Result<Bytes> {
        let (store, path) = self.object(location)?;
        store.get_range(&path, range).await.doing(|| format!("read `{location}`"))
    }

    /// The same files for the iceberg crate.
    pub fn file_io(&self) -> FileIO {
        FileIO::new_with_fs()
    }
}
