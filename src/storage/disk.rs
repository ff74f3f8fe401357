//! The local disk as an object store whose writes survive a power cut.
//!
//! `object_store`'s own local store never syncs, and its multipart upload replaces an existing file. This one makes each file
//! under its final name (which must be free), syncs its content before it says so, and syncs each directory that got an entry.
//! Reads, listings and deletes are those of `object_store`. Nothing is ever overwritten, copied or renamed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use tokio::sync::Mutex;

/// What lies between two ranges is better read along where it is smaller than this: it costs less than another read.
pub(super) const HOLE_BYTES: u64 = 32 << 10;

/// The whole local file system: path `a/b` is file `/a/b`, character for character.
#[derive(Debug, Default)]
pub(super) struct Disk {
    reader: LocalFileSystem,
}

impl std::fmt::Display for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Disk")
    }
}

#[async_trait]
impl ObjectStore for Disk {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        if options.mode != PutMode::Create {
            return Err(unsupported("overwrite a file"));
        }
        let path = file_path(location);
        blocking(move || {
            let mut new = NewFile::create(path)?;
            for bytes in payload.iter() {
                new.file.as_ref().write_all(bytes)?;
            }
            new.keep()
        })
        .await
        .map_err(|e| explain(location, e))?;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn put_multipart_opts(&self, location: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let path = file_path(location);
        let new = blocking(move || NewFile::create(path)).await.map_err(|e| explain(location, e))?;
        Ok(Box::new(DiskUpload { location: location.clone(), new, offset: 0, turn: Arc::default() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.reader.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.reader.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.reader.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.reader.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.reader.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(unsupported("copy a file"))
    }
}

/// A file being written by the only one who could make it. Removed again unless kept.
#[derive(Debug)]
struct NewFile {
    file: Arc<File>,
    path: PathBuf,
    kept: bool,
}

impl NewFile {
    fn create(path: PathBuf) -> io::Result<Self> {
        let open = || OpenOptions::new().write(true).create_new(true).open(&path);
        let file = match open() {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                make_directory(parent(&path))?;
                open()?
            }
            opened => opened?,
        };
        Ok(Self { file: Arc::new(file), path, kept: false })
    }

    /// Makes content and name durable.
    fn keep(&mut self) -> io::Result<()> {
        self.file.sync_all()?;
        sync_directory(parent(&self.path))?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::debug!(path = %self.path.display(), %error, "an unfinished file stays behind");
        }
    }
}

#[derive(Debug)]
struct DiskUpload {
    location: Path,
    new: NewFile,
    offset: u64,
    /// The kernel lets one write to a file in at a time, and the others spin: they wait here instead.
    turn: Arc<Mutex<()>>,
}

#[async_trait]
impl MultipartUpload for DiskUpload {
    fn put_part(&mut self, payload: PutPayload) -> UploadPart {
        let file = Arc::clone(&self.new.file);
        let location = self.location.clone();
        let mut offset = self.offset;
        self.offset += u64::try_from(payload.content_length()).expect("a part fits into memory");
        let turn = Arc::clone(&self.turn).lock_owned();
        async move {
            let turn = turn.await;
            let written = blocking(move || {
                for bytes in payload.iter() {
                    file.write_all_at(bytes, offset)?;
                    offset += u64::try_from(bytes.len()).expect("a part fits into memory");
                }
                drop((payload, turn));
                // Writing back while later parts are still being encoded: the sync at the end then finds little left to do.
                file.sync_data()
            });
            written.await.map_err(|e| explain(&location, e))
        }
        .boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        // The blocking thread owns what it works on; a failure there leaves `kept` unset here, so the file is removed.
        let file = Arc::clone(&self.new.file);
        let path = self.new.path.clone();
        let synced = blocking(move || {
            file.sync_all()?;
            sync_directory(parent(&path))
        });
        synced.await.map_err(|e| explain(&self.location, e))?;
        self.new.kept = true;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn abort(&mut self) -> Result<()> {
        // Dropping the file removes it.
        Ok(())
    }
}

/// Makes a directory and all that is missing above it, each synced into the one above.
pub(crate) fn make_directory(path: &FsPath) -> io::Result<()> {
    let made = match fs::create_dir(path) {
        Err(e) if e.kind() == ErrorKind::NotFound && path.parent().is_some() => {
            make_directory(parent(path))?;
            fs::create_dir(path)
        }
        made => made,
    };
    match made {
        Ok(()) => sync_directory(parent(path)),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(e),
    }
}

fn sync_directory(path: &FsPath) -> io::Result<()> {
    match File::open(path)?.sync_all() {
        // Some network file systems cannot sync a directory; there the server answers for the entry.
        Err(e) if matches!(e.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => Ok(()),
        synced => synced,
    }
}

fn parent(path: &FsPath) -> &FsPath {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => FsPath::new("."),
        None => FsPath::new("/"),
    }
}

fn file_path(location: &Path) -> PathBuf {
    PathBuf::from(format!("/{location}"))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(join) => Err(io::Error::other(join)),
    }
}

pub(super) fn explain(location: &Path, source: io::Error) -> Error {
    let path = file_path(location).display().to_string();
    match source.kind() {
        ErrorKind::AlreadyExists => Error::AlreadyExists { path, source: source.into() },
        ErrorKind::PermissionDenied => Error::PermissionDenied { path, source: source.into() },
        _ => Error::Generic { store: "disk", source: source.into() },
    }
}

fn unsupported(what: &str) -> Error {
    Error::NotSupported { source: format!("tidegate does not {what}").into() }
}
