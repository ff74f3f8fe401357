//! One new file on its way to storage, in parts, some of them in flight.

use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use tokio::task::{JoinError, JoinSet};

use super::{Store, failed, locked};
use crate::error::{Error, Result};

/// Large enough that a 512 MiB file has 64 parts, small enough that the parts in flight stay below 50 MiB. S3 wants at least 5 MiB.
const PART_BYTES: usize = 8 << 20;

/// Parts on their way at once; the next one waits.
const PARTS_IN_FLIGHT_MAX: usize = 4;

/// A file being written. Without [`Upload::finish`] there is no file; dropping it takes back what it can.
#[derive(Debug)]
pub(crate) struct Upload {
    location: String,
    client: Arc<dyn ObjectStore>,
    path: Path,
    /// The part that is being filled.
    pending: Vec<Bytes>,
    pending_bytes: usize,
    /// Parts that are full, until the file is known to be larger than `whole_max`.
    full: Vec<PutPayload>,
    whole_max: usize,
    written: u64,
    parts: Option<Box<dyn MultipartUpload>>,
    in_flight: JoinSet<object_store::Result<()>>,
    finished: bool,
    store: Store,
}

impl Upload {
    pub(super) fn new(location: String, client: Arc<dyn ObjectStore>, path: Path, store: Store) -> Self {
        Self {
            location,
            client,
            path,
            pending: Vec::new(),
            pending_bytes: 0,
            full: Vec::new(),
            whole_max: PART_BYTES,
            written: 0,
            parts: None,
            in_flight: JoinSet::new(),
            finished: false,
            store,
        }
    }

    /// Holds a file of up to so many bytes back until its end, for one request instead of several; rounded down to whole parts.
    pub(crate) fn whole_up_to(mut self, bytes: usize) -> Self {
        self.whole_max = bytes.max(PART_BYTES) / PART_BYTES * PART_BYTES;
        self
    }

    /// Bytes that it holds: of parts on their way, of those that wait, and of the one that is being filled.
    pub(crate) fn held(&self) -> usize {
        self.pending_bytes + (self.full.len() + self.in_flight.len()) * PART_BYTES
    }

    /// Waits for the parts that are on their way; false if there are none.
    pub(crate) async fn settle(&mut self) -> Result<bool> {
        let any = !self.in_flight.is_empty();
        while !self.in_flight.is_empty() {
            self.join_part().await?;
        }
        Ok(any)
    }

    /// Takes the next bytes; waits while too many parts are on their way.
    pub(crate) async fn write(&mut self, mut bytes: Bytes) -> Result<()> {
        if self.finished {
            return Err(Error::broken(format!("bytes for `{}` after its end", self.location)));
        }
        self.written += u64::try_from(bytes.len()).expect("a buffer fits into memory");
        while let Some(arrived) = self.in_flight.try_join_next() {
            self.arrived(arrived)?;
        }
        while !bytes.is_empty() {
            let next = bytes.split_to(bytes.len().min(PART_BYTES - self.pending_bytes));
            self.pending_bytes += next.len();
            self.pending.push(next);
            if self.pending_bytes == PART_BYTES {
                self.end_part().await?;
            }
        }
        Ok(())
    }

    /// Ends the file and makes it durable; answers its size.
    pub(crate) async fn finish(&mut self) -> Result<u64> {
        if self.finished {
            return Err(Error::broken(format!("`{}` is finished twice", self.location)));
        }
        self.finished = true;
        if self.parts.is_none() {
            let full = self.full.drain(..).flatten();
            let content = PutPayload::from_iter(full.chain(self.pending.drain(..)));
            let written = self.client.put_opts(&self.path, content, PutMode::Create.into()).await;
            written.map_err(|e| self.failed(e))?;
            return Ok(self.written);
        }
        if self.pending_bytes > 0 {
            let last = self.take_pending();
            self.send(last).await?;
        }
        self.settle().await?;
        let parts = self.parts.as_mut().expect("there are parts");
        let completed = parts.complete().await;
        completed.map_err(|e| self.failed(e))?;
        self.parts = None;
        Ok(self.written)
    }

    fn take_pending(&mut self) -> PutPayload {
        self.pending_bytes = 0;
        PutPayload::from_iter(self.pending.drain(..))
    }

    async fn end_part(&mut self) -> Result<()> {
        let part = self.take_pending();
        self.full.push(part);
        if self.parts.is_none() {
            if self.full.len() * PART_BYTES < self.whole_max {
                return Ok(());
            }
            let begun = self.client.put_multipart(&self.path).await;
            self.parts = Some(begun.map_err(|e| self.failed(e))?);
        }
        for part in std::mem::take(&mut self.full) {
            self.send(part).await?;
        }
        Ok(())
    }

    async fn send(&mut self, part: PutPayload) -> Result<()> {
        while self.in_flight.len() >= PARTS_IN_FLIGHT_MAX {
            self.join_part().await?;
        }
        let parts = self.parts.as_mut().expect("an upload in parts has begun");
        self.in_flight.spawn(parts.put_part(part));
        Ok(())
    }

    async fn join_part(&mut self) -> Result<()> {
        let arrived = self.in_flight.join_next().await;
        arrived.map_or(Ok(()), |arrived| self.arrived(arrived))
    }

    fn arrived(&self, part: Result<object_store::Result<()>, JoinError>) -> Result<()> {
        let written = part.map_err(|join| Error::broken(format!("writing `{}`: {join}", self.location)))?;
        written.map_err(|e| self.failed(e))
    }

    fn failed(&self, error: object_store::Error) -> Error {
        failed(|| format!("write `{}`", self.location), error)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some(mut parts) = self.parts.take() else { return };
        // Nothing can be awaited here; the end of the run waits for it.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (location, mut in_flight) = (std::mem::take(&mut self.location), std::mem::take(&mut self.in_flight));
        let abort = runtime.spawn(async move {
            // A part that arrives after the end would stay.
            in_flight.shutdown().await;
            if let Err(error) = parts.abort().await {
                tracing::warn!(location, %error, "parts of an unfinished file stay in the store");
            }
        });
        locked(&self.store.shared.aborting).push(abort);
    }
}
