//! A bucket behind HTTP, with the promises of [`super::Store`]: nothing is overwritten, what is unclear is settled by looking.
//!
//! *A new name.* A file of one part is put with `If-None-Match: *` (S3, Azure) or a generation of 0 (GCS). Where a try got no
//! answer, or one of 5xx, it may have been done all the same; the next then meets its own file and is told that the name exists. So
//! after more than one try the file that exists is read and compared: same content means that it is ours, as names are never
//! shared. A store without such requests (501) is asked before each file whether it exists. A file of many parts has no such
//! request everywhere: whether its name is free is asked before it begins, and an end without an answer is settled by its size.
//!
//! *Vended credentials* that the store calls expired are fetched anew, and the request is sent again, once.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt, TryFutureExt, TryStreamExt};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetRange, GetResult, ListResult, MultipartId, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart, coalesce_ranges,
};

use super::fault::{Trouble, trouble};
use super::vended::Lease;
use super::wire::Attempts;

/// A hole between two ranges is read too where it is smaller than this: about what one more request costs in time.
pub(super) const HOLE_BYTES: u64 = 256 << 10;

/// A range larger than this is fetched in pieces side by side: one connection to a store is slow, and a piece is soon tried again.
const PIECE_BYTES: u64 = 32 << 20;
const PIECES_IN_FLIGHT: usize = 2;
const DELETES_IN_FLIGHT: usize = 4;

/// Tries of a request that the client must not send again by itself, since it cannot know what an unanswered one did.
const TRIES_MAX: u32 = 3;
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// What each client of a bucket can do.
pub(super) trait Bucket: ObjectStore + MultipartStore {}

impl<T: ObjectStore + MultipartStore> Bucket for T {}

#[derive(Clone)]
pub(super) struct Remote {
    bucket: Arc<dyn Bucket>,
    lease: Option<Arc<Lease>>,
    /// Whether the store knows requests for a new name.
    conditional: Arc<AtomicBool>,
}

impl fmt::Debug for Remote {
    // A client's own form shows how it is configured.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.bucket, f)
    }
}

impl Remote {
    pub(super) fn new(bucket: Arc<dyn Bucket>, lease: Option<Arc<Lease>>) -> Self {
        Self { bucket, lease, conditional: Arc::new(AtomicBool::new(true)) }
    }

    /// Asks, and asks again with fresh credentials where the store calls those it was sent expired.
    async fn ask<T, F: Future<Output = Result<T>> + Send>(&self, request: impl Fn() -> F + Send + Sync) -> Result<T> {
        let lease = self.lease.as_ref().map(|lease| (lease, lease.age()));
        match (request().await, lease) {
            (Err(error), Some((lease, age))) if trouble(&error) == Trouble::Expired => {
                lease.expire(age);
                request().await
            }
            (answer, _) => answer,
        }
    }

    /// The same for what the client does not send again by itself where no answer comes, but may be sent again here.
    async fn insist<T, F: Future<Output = Result<T>> + Send>(&self, request: impl Fn() -> F + Send + Sync) -> Result<T> {
        let mut tries = 1;
        loop {
            match self.ask(&request).await {
                Err(error) if tries < TRIES_MAX && trouble(&error) == Trouble::Unanswered => {
                    tracing::info!(%error, tries, "asking a store again");
                    tokio::time::sleep(TRY_AGAIN_AFTER * tries).await;
                    tries += 1;
                }
                answer => return answer,
            }
        }
    }

    async fn size(&self, location: &Path) -> Result<Option<u64>> {
        match self.ask(|| self.bucket.get_opts(location, GetOptions::new().with_head(true))).await {
            Ok(found) => Ok(Some(found.meta.size)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn create(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        if !self.conditional.load(Ordering::Relaxed) {
            return self.create_unconditionally(location, payload, options).await;
        }
        let attempts = Attempts::default();
        let put = || {
            let mut options = options.clone();
            options.extensions.insert(attempts.clone());
            self.bucket.put_opts(location, payload.clone(), options)
        };
        match self.insist(put).await {
            Err(error @ Error::AlreadyExists { .. }) if attempts.made() > 1 => match self.holds(location, &payload).await? {
                Some(true) => Ok(PutResult { e_tag: None, version: None }),
                Some(false) => Err(error),
                // Two tries met; S3 then lets neither through.
                None => self.create_unconditionally(location, payload, options).await,
            },
            Err(error) if trouble(&error) == Trouble::Unknown => {
                tracing::warn!(store = %self, "the store knows no request for a new name (`If-None-Match`); each is looked for instead");
                self.conditional.store(false, Ordering::Relaxed);
                self.create_unconditionally(location, payload, options).await
            }
            written => written,
        }
    }

    async fn create_unconditionally(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.must_be_free(location).await?;
        let put = || self.bucket.put_opts(location, payload.clone(), PutOptions { mode: PutMode::Overwrite, ..options.clone() });
        self.ask(put).await
    }

    async fn must_be_free(&self, location: &Path) -> Result<()> {
        match self.size(location).await? {
            None => Ok(()),
            Some(size) => {
                let source = format!("a file of {size} bytes is there").into();
                Err(Error::AlreadyExists { path: location.to_string(), source })
            }
        }
    }

    /// Whether a file holds just this; none where there is no file.
    async fn holds(&self, location: &Path, content: &PutPayload) -> Result<Option<bool>> {
        let length = u64::try_from(content.content_length()).expect("a payload fits into memory");
        let look = || async {
            let found = self.bucket.get(location).await?;
            if found.meta.size == length { found.bytes().await.map(Some) } else { Ok(None) }
        };
        let found = match self.ask(look).await {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(Some(false)),
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut rest = found.as_ref();
        for part in content.iter() {
            let Some(after) = rest.strip_prefix(part.as_ref()) else { return Ok(Some(false)) };
            rest = after;
        }
        Ok(Some(rest.is_empty()))
    }

    async fn range(&self, location: &Path, range: Range<u64>) -> Result<Bytes> {
        let one = |range: Range<u64>| {
            self.ask(move || {
                let options = GetOptions::new().with_range(Some(GetRange::Bounded(range.clone())));
                async move { self.bucket.get_opts(location, options).await?.bytes().await }
            })
        };
        if range.end - range.start <= PIECE_BYTES {
            return one(range).await;
        }
        let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let starts = (range.start..range.end).step_by(usize::try_from(PIECE_BYTES).expect("a piece fits into memory"));
        let pieces = stream::iter(starts.map(|start| one(start..range.end.min(start + PIECE_BYTES)))).buffered(PIECES_IN_FLIGHT);
        let whole = pieces.try_fold(BytesMut::with_capacity(length), |mut whole, piece| async move {
            whole.extend_from_slice(&piece);
            Ok(whole)
        });
        Ok(whole.await?.freeze())
    }
}

#[async_trait]
impl ObjectStore for Remote {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        if options.mode != PutMode::Create {
            return Err(unsupported("overwrite a file"));
        }
        self.create(location, payload, options).await
    }

    async fn put_multipart_opts(&self, location: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.must_be_free(location).await?;
        let id = self.ask(|| self.bucket.create_multipart(location)).await?;
        Ok(Box::new(Parts { remote: self.clone(), location: location.clone(), id, next: 0, bytes: 0, done: Arc::default() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.ask(|| self.bucket.get_opts(location, options.clone())).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        // A request for nothing is refused.
        let wanted: Vec<_> = ranges.iter().filter(|range| !range.is_empty()).cloned().collect();
        let found = coalesce_ranges(&wanted, |range| self.range(location, range), HOLE_BYTES).await?;
        let mut found = found.into_iter();
        Ok(ranges.iter().map(|range| if range.is_empty() { Bytes::new() } else { found.next().unwrap_or_default() }).collect())
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let remote = self.clone();
        let delete = move |location: Result<Path>| {
            let remote = remote.clone();
            async move {
                let location = location?;
                remote.insist(|| remote.bucket.delete(&location)).await.map(|()| location)
            }
        };
        locations.map(delete).buffered(DELETES_IN_FLIGHT).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (remote, prefix) = (self.clone(), prefix.cloned());
        // Whole, so that expired credentials can begin it anew.
        let whole = async move { remote.ask(|| remote.bucket.list(prefix.as_ref()).try_collect::<Vec<_>>()).await };
        whole.map_ok(|found| stream::iter(found.into_iter().map(Ok))).try_flatten_stream().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.ask(|| self.bucket.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(unsupported("copy a file"))
    }
}

/// A file of many parts on its way.
#[derive(Debug)]
struct Parts {
    remote: Remote,
    location: Path,
    id: MultipartId,
    next: usize,
    bytes: u64,
    done: Arc<Mutex<BTreeMap<usize, PartId>>>,
}

#[async_trait]
impl MultipartUpload for Parts {
    fn put_part(&mut self, payload: PutPayload) -> UploadPart {
        let at = self.next;
        self.next += 1;
        self.bytes += u64::try_from(payload.content_length()).expect("a part fits into memory");
        let (remote, location, id, done) = (self.remote.clone(), self.location.clone(), self.id.clone(), Arc::clone(&self.done));
        async move {
            let part = remote.ask(|| remote.bucket.put_part(&location, &id, at, payload.clone())).await?;
            done.lock().unwrap_or_else(PoisonError::into_inner).insert(at, part);
            Ok(())
        }
        .boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let parts: Vec<_> = {
            let done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
            done.values().map(|part| PartId { content_id: part.content_id.clone() }).collect()
        };
        if parts.len() != self.next {
            let source = format!("{} of {} parts are written", parts.len(), self.next).into();
            return Err(Error::Generic { store: "parts", source });
        }
        let again = || parts.iter().map(|part| PartId { content_id: part.content_id.clone() }).collect();
        let completed = self.remote.ask(|| self.remote.bucket.complete_multipart(&self.location, &self.id, again())).await;
        match completed {
            // An end that was not answered can have been done: then a second one finds no upload.
            Err(_) if self.remote.size(&self.location).await.ok().flatten() == Some(self.bytes) => {
                Ok(PutResult { e_tag: None, version: None })
            }
            completed => completed,
        }
    }

    async fn abort(&mut self) -> Result<()> {
        self.remote.ask(|| self.remote.bucket.abort_multipart(&self.location, &self.id)).await
    }
}

fn unsupported(what: &str) -> Error {
    Error::NotSupported { source: format!("tidegate does not {what}").into() }
}
