//! Counts requests and bytes: of stores behind HTTP as they go out ([`super::wire`]), of the others on their way to the client.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions,
    PutPayload, PutResult, Result, UploadPart,
};
use serde::Serialize;

/// Requests made to storage, each try of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Requests {
    /// Reads of files or ranges of files.
    pub get: u64,
    /// Writes: whole files, begun uploads, parts, finished uploads.
    pub put: u64,
    /// Deletes.
    pub delete: u64,
    /// Listings.
    pub list: u64,
    /// Looks at a file's size.
    pub head: u64,
    /// Bytes asked for.
    pub bytes_read: u64,
    /// Bytes handed over.
    pub bytes_written: u64,
    /// Requests without an answer, or with one that asks to try again later: 408, 429, 5xx.
    pub failed: u64,
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Get,
    Put,
    Delete,
    List,
    Head,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    get: AtomicU64,
    put: AtomicU64,
    delete: AtomicU64,
    list: AtomicU64,
    head: AtomicU64,
    bytes_read: AtomicU64,
    bytes_written: AtomicU64,
    failed: AtomicU64,
}

impl Counts {
    pub(super) fn requests(&self) -> Requests {
        Requests {
            get: self.get.load(Ordering::Relaxed),
            put: self.put.load(Ordering::Relaxed),
            delete: self.delete.load(Ordering::Relaxed),
            list: self.list.load(Ordering::Relaxed),
            head: self.head.load(Ordering::Relaxed),
            bytes_read: self.bytes_read.load(Ordering::Relaxed),
            bytes_written: self.bytes_written.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
        }
    }

    /// A request over HTTP, and what it carries.
    pub(super) fn sent(&self, kind: Kind, bytes: u64) {
        let count = match kind {
            Kind::Get => &self.get,
            Kind::Put => &self.put,
            Kind::Delete => &self.delete,
            Kind::List => &self.list,
            Kind::Head => &self.head,
        };
        add(count, 1);
        if kind == Kind::Put {
            add(&self.bytes_written, bytes);
        }
    }

    pub(super) fn received(&self, bytes: u64) {
        add(&self.bytes_read, bytes);
    }

    pub(super) fn failed(&self) {
        add(&self.failed, 1);
    }

    fn wrote(&self, payload: &PutPayload) {
        add(&self.put, 1);
        add(&self.bytes_written, u64::try_from(payload.content_length()).expect("a payload fits into memory"));
    }
}

fn add(count: &AtomicU64, n: u64) {
    count.fetch_add(n, Ordering::Relaxed);
}

pub(super) fn metered(inner: Arc<dyn ObjectStore>, counts: Arc<Counts>) -> Arc<dyn ObjectStore> {
    Arc::new(Metered { inner, counts })
}

/// The local disk, or a client that someone brought.
#[derive(Debug)]
struct Metered {
    inner: Arc<dyn ObjectStore>,
    counts: Arc<Counts>,
}

impl std::fmt::Display for Metered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for Metered {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.counts.wrote(&payload);
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        add(&self.counts.put, 1);
        let inner = self.inner.put_multipart_opts(location, options).await?;
        Ok(Box::new(MeteredUpload { inner, counts: Arc::clone(&self.counts) }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let head = options.head;
        add(if head { &self.counts.head } else { &self.counts.get }, 1);
        let found = self.inner.get_opts(location, options).await?;
        if !head {
            add(&self.counts.bytes_read, found.range.end - found.range.start);
        }
        Ok(found)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        add(&self.counts.get, 1);
        add(&self.counts.bytes_read, ranges.iter().map(|range| range.end - range.start).sum());
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let counts = Arc::clone(&self.counts);
        self.inner.delete_stream(locations.inspect(move |_| add(&counts.delete, 1)).boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        add(&self.counts.list, 1);
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        add(&self.counts.list, 1);
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        add(&self.counts.put, 1);
        self.inner.copy_opts(from, to, options).await
    }
}

#[derive(Debug)]
struct MeteredUpload {
    inner: Box<dyn MultipartUpload>,
    counts: Arc<Counts>,
}

#[async_trait]
impl MultipartUpload for MeteredUpload {
    fn put_part(&mut self, payload: PutPayload) -> UploadPart {
        self.counts.wrote(&payload);
        self.inner.put_part(payload)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        add(&self.counts.put, 1);
        self.inner.complete().await
    }

    async fn abort(&mut self) -> Result<()> {
        add(&self.counts.delete, 1);
        self.inner.abort().await
    }
}
