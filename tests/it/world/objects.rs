//! An object store in memory behind a door.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use futures::{FutureExt, stream};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use super::{Actor, Lost, Op, World};

/// The answer of something that lives in memory: it never waits.
pub(crate) fn at_once<T>(work: impl Future<Output = T>) -> T {
    work.now_or_never().expect("memory answers at once")
}

impl World {
    /// Writes an object beside all doors.
    pub(crate) fn put(&self, location: &str, content: Vec<u8>) {
        at_once(self.objects.put(&path(location), content.into())).unwrap();
    }

    /// Deletes an object beside all doors.
    pub(crate) fn delete(&self, location: &str) {
        self.deleted.fetch_add(1, Ordering::SeqCst);
        at_once(self.objects.delete(&path(location))).unwrap();
    }

    /// Content of an object; none where there is none.
    pub(crate) fn get(&self, location: &str) -> Option<Bytes> {
        match at_once(self.objects.get(&path(location))) {
            Ok(found) => Some(at_once(found.bytes()).unwrap()),
            Err(Error::NotFound { .. }) => None,
            Err(e) => panic!("{location}: {e}"),
        }
    }
}

fn path(location: &str) -> Path {
    Path::parse(location.strip_prefix("file://").unwrap_or(location)).unwrap()
}

/// The world's objects as one run sees them.
#[derive(Debug)]
pub(crate) struct Objects(pub(crate) Arc<Actor>);

impl Objects {
    fn call<T>(&self, op: Op, path: &Path, effect: impl FnOnce(&World) -> Result<T> + Send + 'static) -> Result<T> {
        self.0
            .call(op, path.as_ref(), effect)
            .unwrap_or_else(|lost: Lost| Err(Error::Generic { store: "world", source: format!("{lost:?}").into() }))
    }
}

impl fmt::Display for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

#[async_trait]
impl ObjectStore for Objects {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let path = location.clone();
        self.call(Op::Put, location, move |world| at_once(world.objects.put_opts(&path, payload, options)))
    }

    async fn put_multipart_opts(&self, location: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        panic!("{location}: the files of these tests are far below one part");
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let path = location.clone();
        let op = if options.head { Op::Head } else { Op::Get };
        self.call(op, location, move |world| at_once(world.objects.get_opts(&path, options)))
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let (path, ranges) = (location.clone(), ranges.to_vec());
        self.call(Op::Get, location, move |world| at_once(world.objects.get_ranges(&path, &ranges)))
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let door = Self(Arc::clone(&self.0));
        let deleted = locations.then(move |location| {
            let deleted = location.and_then(|location| {
                let path = location.clone();
                door.call(Op::Delete, &location, move |world| {
                    world.deleted.fetch_add(1, Ordering::SeqCst);
                    at_once(world.objects.delete(&path))
                })?;
                Ok(location)
            });
            async { deleted }
        });
        deleted.boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let what = format!("a run lists {prefix:?}, which no test has faults for");
        stream::once(async move { panic!("{what}") }).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.world.objects.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        panic!("{from}: nothing is copied");
    }
}
