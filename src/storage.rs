//! PLACEHOLDER of branch `write`: just enough of the `store` helper's room to write files to a local disk.
//! It is replaced whole when the branches meet.

use std::sync::Arc;

use bytes::Bytes;
use object_store::buffered::BufWriter;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutPayload};

use crate::error::{Doing, Result};

/// Opens every location of a table.
#[derive(Clone, Debug)]
pub struct Store {
    disk: Arc<LocalFileSystem>,
}

/// A file being written.
#[derive(Debug)]
pub struct Upload {
    inner: BufWriter,
    location: String,
}

impl Store {
    /// A store for `file:` locations.
    #[expect(clippy::new_without_default, reason = "placeholder")]
    pub fn new() -> Self {
        Self { disk: Arc::new(LocalFileSystem::new()) }
    }

    /// Creates a file; it must not exist.
    pub async fn create(&self, location: &str, bytes: Bytes) -> Result<()> {
        let options = PutMode::Create.into();
        self.disk
            .put_opts(&path(location), PutPayload::from_bytes(bytes), options)
            .await
            .doing(|| format!("create `{location}`"))?;
        Ok(())
    }

    /// Starts a file.
    pub async fn writer(&self, location: &str) -> Result<Upload> {
        let disk: Arc<dyn ObjectStore> = Arc::<LocalFileSystem>::clone(&self.disk);
        Ok(Upload { inner: BufWriter::new(disk, path(location)), location: location.to_owned() })
    }

    /// Reads a whole file.
    pub async fn read(&self, location: &str) -> Result<Bytes> {
        let found = self.disk.get(&path(location)).await.doing(|| format!("open `{location}`"))?;
        found.bytes().await.doing(|| format!("read `{location}`"))
    }

    /// Deletes a file.
    pub async fn delete(&self, location: &str) -> Result<()> {
        self.disk.delete(&path(location)).await.doing(|| format!("delete `{location}`"))
    }
}

impl Upload {
    /// Appends bytes.
    pub async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.inner.put(bytes).await.doing(|| format!("write `{}`", self.location))
    }

    /// Ends the file; it exists only after this.
    pub async fn finish(mut self) -> Result<()> {
        use tokio::io::AsyncWriteExt;
        self.inner.shutdown().await.doing(|| format!("finish `{}`", self.location))
    }
}

fn path(location: &str) -> Path {
    Path::from_absolute_path(location.strip_prefix("file://").unwrap_or(location)).expect("placeholder: local paths only")
}
