//! Writes a small file whole, so that no reader ever sees half of it.
//!
//! Never leaves a temporary file behind, and never replaces what must keep its identity: a device, a pipe, a link, or a file that
//! Kubernetes mounted into the container.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// How a path has to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Under another name in the same directory, then renamed.
    Replace,
    /// Over what is there.
    Overwrite,
    /// After what is there: an open stream of this process.
    Append,
}

/// Writes `text` to `path`. `unique` names the writer (the run's id), so that no two share a temporary file.
pub(super) fn write(path: &Path, text: &str, unique: &str) -> io::Result<()> {
    match way(path) {
        Way::Append => put(OpenOptions::new().append(true).open(path)?, text),
        Way::Overwrite => overwrite(path, text),
        Way::Replace => match replace(path, text, unique) {
            // A mounted file can be written but not renamed over, and its directory may be read-only.
            Err(_) if path.exists() => overwrite(path, text),
            result => result,
        },
    }
}

fn way(path: &Path) -> Way {
    // The shell may have sent these to a file, which must not be cut.
    if ["/dev/stdout", "/dev/stderr", "/dev/fd", "/proc/self/fd"].iter().any(|stream| path.starts_with(stream)) {
        return Way::Append;
    }
    if path.starts_with("/dev") || fs::symlink_metadata(path).is_ok_and(|found| !found.is_file()) {
        return Way::Overwrite;
    }
    Way::Replace
}

fn overwrite(path: &Path, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    if fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo()) {
        // A pipe that nobody reads would hold up the end of the run for ever.
        options.custom_flags(libc::O_NONBLOCK);
    }
    put(options.open(path)?, text)
}

fn replace(path: &Path, text: &str, unique: &str) -> io::Result<()> {
    let Some(name) = path.file_name() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not the name of a file"));
    };
    // It ends in `.tmp` so that no collector of `*.prom` files takes it.
    let temporary = path.with_file_name(format!(".{}.{unique}.tmp", name.display()));
    let file = File::create_new(&temporary)?;
    let written = put(&file, text).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // The first error is the one to report, and there may be nothing to remove.
        fs::remove_file(&temporary).ok();
    }
    written
}

fn put(mut file: impl Write, text: &str) -> io::Result<()> {
    file.write_all(text.as_bytes())?;
    file.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        write(&path, "first, which is longer", "run1").unwrap();
        let before = fs::metadata(&path).unwrap().ino();
        let still_open = File::open(&path).unwrap();
        write(&path, "second", "run2").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "second");
        assert_eq!(names(folder.path()), ["a.json"]);
        assert_ne!(fs::metadata(&path).unwrap().ino(), before, "a reader of the old file must not see it change");
        assert_eq!(io::read_to_string(still_open).unwrap(), "first, which is longer");
    }

    #[test]
    fn a_link_stays_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("target"), folder.path().join("link"));
        fs::write(&target, "old and longer").unwrap();
        symlink(&target, &link).unwrap();
        write(&link, "new", "run1").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&target).unwrap(), "new");
    }

    #[test]
    fn an_existing_file_is_overwritten_where_it_cannot_be_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("termination-log");
        fs::write(&path, "old and longer").unwrap();
        // The temporary name is taken by a directory: stands for a directory that cannot be written.
        fs::create_dir(folder.path().join(".termination-log.run1.tmp")).unwrap();
        let before = fs::metadata(&path).unwrap().ino();
        write(&path, "new", "run1").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::metadata(&path).unwrap().ino(), before);
    }

    #[test]
    fn a_missing_directory_is_an_error_and_not_made() {
        let folder = tempfile::tempdir().unwrap();
        let error = write(&folder.path().join("gone/a.json"), "x", "run1").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn a_directory_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(write(folder.path(), "x", "run1").is_err());
        assert_eq!(fs::metadata(folder.path()).unwrap().permissions().mode() & 0o170_000, 0o040_000);
        assert!(write(Path::new("/"), "x", "run1").is_err());
    }

    #[test]
    fn devices_and_streams_keep_their_identity() {
        for (path, expected) in [
            ("/dev/termination-log", Way::Overwrite),
            ("/dev/null", Way::Overwrite),
            ("/dev/stdout", Way::Append),
            ("/dev/fd/2", Way::Append),
            ("/tmp/does-not-exist.json", Way::Replace),
        ] {
            assert_eq!(way(Path::new(path)), expected, "{path}");
        }
        write(Path::new("/dev/null"), "x", "run1").unwrap();
    }
}
