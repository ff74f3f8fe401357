//! The store as Iceberg's `Storage`, so that the crate's readers and writers go through the same clients.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use iceberg::io::{FileMetadata, FileRead, FileWrite, InputFile, OutputFile, Storage, StorageConfig, StorageFactory};
use iceberg::{Error, ErrorKind, Result};

use super::{Store, Upload};

#[typetag::serde(name = "tidegate")]
impl StorageFactory for Store {
    fn build(&self, _: &StorageConfig) -> Result<Arc<dyn Storage>> {
        Ok(Arc::new(self.clone()))
    }
}

#[async_trait]
#[typetag::serde(name = "tidegate")]
impl Storage for Store {
    async fn exists(&self, path: &str) -> Result<bool> {
        Ok(self.size(path).await.map_err(iceberg_error)?.is_some())
    }

    async fn metadata(&self, path: &str) -> Result<FileMetadata> {
        match self.size(path).await.map_err(iceberg_error)? {
            Some(size) => Ok(FileMetadata { size }),
            None => Err(Error::new(ErrorKind::DataInvalid, format!("file `{path}` does not exist"))),
        }
    }

    async fn read(&self, path: &str) -> Result<Bytes> {
        Self::read(self, path).await.map_err(iceberg_error)
    }

    async fn reader(&self, path: &str) -> Result<Box<dyn FileRead>> {
        Ok(Box::new(Reader { store: self.clone(), location: path.to_owned() }))
    }

    async fn write(&self, path: &str, bytes: Bytes) -> Result<()> {
        self.create(path, bytes).await.map_err(iceberg_error)
    }

    async fn writer(&self, path: &str) -> Result<Box<dyn FileWrite>> {
        Ok(Box::new(Writer(Self::writer(self, path).map_err(iceberg_error)?)))
    }

    async fn delete(&self, path: &str) -> Result<()> {
        Self::delete(self, path).await.map_err(iceberg_error)
    }

    async fn delete_prefix(&self, path: &str) -> Result<()> {
        for file in self.list(path).await.map_err(iceberg_error)? {
            Self::delete(self, &file.location).await.map_err(iceberg_error)?;
        }
        Ok(())
    }

    async fn delete_stream(&self, mut paths: BoxStream<'static, String>) -> Result<()> {
        while let Some(path) = paths.next().await {
            Self::delete(self, &path).await.map_err(iceberg_error)?;
        }
        Ok(())
    }

    fn new_input(&self, path: &str) -> Result<InputFile> {
        Ok(InputFile::new(Arc::new(self.clone()), path.to_owned()))
    }

    fn new_output(&self, path: &str) -> Result<OutputFile> {
        Ok(OutputFile::new(Arc::new(self.clone()), path.to_owned()))
    }
}

struct Reader {
    store: Store,
    location: String,
}

#[async_trait]
impl FileRead for Reader {
    async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        self.store.read_range(&self.location, range).await.map_err(iceberg_error)
    }
}

struct Writer(Upload);

#[async_trait]
impl FileWrite for Writer {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.0.write(bytes).await.map_err(iceberg_error)
    }

    async fn close(&mut self) -> Result<()> {
        self.0.finish().await.map(|_| ()).map_err(iceberg_error)
    }
}

/// Keeps our error as the cause, where `storage::failed` finds it again.
fn iceberg_error(error: crate::error::Error) -> Error {
    Error::new(ErrorKind::Unexpected, error.to_string()).with_source(error)
}
