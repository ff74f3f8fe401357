//! What only the local disk does.

use std::fs;

use bytes::Bytes;
use tempfile::TempDir;

use super::super::{Store, disk, failed};
use super::NAMES;

fn at(folder: &TempDir, name: &str) -> String {
    format!("file://{}/{name}", folder.path().display())
}

#[tokio::test]
async fn a_location_is_the_name_of_the_file() {
    for name in NAMES {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, name).unwrap();
        let store = Store::new();
        let location = at(&folder, name);
        assert_eq!(store.read(&location).await.unwrap(), name, "{name}");
        assert_eq!(store.size(&location).await.unwrap(), Some(u64::try_from(name.len()).unwrap()), "{name}");
        let listed = store.list(&at(&folder, "")).await.unwrap();
        assert_eq!(listed.iter().map(|file| file.location.as_str()).collect::<Vec<_>>(), [&location], "{name}");

        let copy = format!("{location}.copy");
        store.create(&copy, Bytes::from_static(b"copied")).await.unwrap();
        assert_eq!(fs::read(format!("{}.copy", path.display())).unwrap(), b"copied", "{name}");
        store.delete(&location).await.unwrap();
        assert!(!path.exists(), "{name}");
    }
}

#[tokio::test]
async fn every_spelling_opens_the_same_file() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("x"), "here").unwrap();
    let path = folder.path().join("x").display().to_string();
    let store = Store::new();
    for location in [
        path.clone(),
        format!("file:{path}"),
        format!("file://{path}"),
        format!("file://localhost{path}"),
        format!("file:////{path}"),
        path.replacen('/', "//", 2),
    ] {
        assert_eq!(store.read(&location).await.unwrap(), "here", "{location}");
    }
}

#[tokio::test]
async fn locations_that_cannot_be_meant_are_refused() {
    let store = Store::new();
    for location in
        ["relative/x", "file:x", "file://host/x", "s3:///x", "s3:x", "gs://", "abfss://@a/x", "hdfs://n/x", "/a/../x", "/a/./x", ""]
    {
        let error = store.read(location).await.unwrap_err();
        assert_eq!(error.exit_code(), 78, "{location}: {error}");
        assert!(error.to_string().contains(location), "{error}");
    }
}

#[tokio::test]
async fn a_listing_keeps_the_spelling_it_was_asked_in() {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("d")).unwrap();
    fs::write(folder.path().join("d/x"), "").unwrap();
    let path = folder.path().display();
    let store = Store::new();
    for prefix in [format!("{path}"), format!("file:{path}/"), format!("file://localhost{path}")] {
        let listed = store.list(&prefix).await.unwrap();
        assert_eq!(listed[0].location, format!("{}/d/x", prefix.trim_end_matches('/')));
    }
}

#[tokio::test]
async fn an_upload_that_is_dropped_takes_its_file_along() {
    let folder = TempDir::new().unwrap();
    let store = Store::new();
    let mut upload = store.writer(&at(&folder, "x")).unwrap();
    upload.write(Bytes::from(vec![7; 30 << 20])).await.unwrap();
    assert!(folder.path().join("x").exists());
    drop(upload);
    store.wind_down().await;
    assert!(!folder.path().join("x").exists());
}

#[tokio::test]
async fn requests_of_all_clones_are_counted() {
    let folder = TempDir::new().unwrap();
    let store = Store::new();
    let location = at(&folder, "x");
    store.clone().create(&location, Bytes::from_static(b"hello")).await.unwrap();
    store.read(&location).await.unwrap();
    store.file_io().new_input(&location).unwrap().read().await.unwrap();
    store.read_ranges(&location, &[0..2, 3..5]).await.unwrap();
    store.size(&location).await.unwrap();
    store.list(&at(&folder, "")).await.unwrap();
    store.delete(&location).await.unwrap();
    store.delete(&location).await.unwrap();
    assert_eq!(store.size(&location).await.unwrap(), None);
    let requests = store.requests();
    assert_eq!((requests.get, requests.put, requests.delete, requests.list, requests.head), (3, 1, 2, 1, 2));
    assert_eq!((requests.bytes_read, requests.bytes_written), (14, 5));
    let mut upload = store.writer(&location).unwrap();
    upload.write(Bytes::from(vec![0; 20 << 20])).await.unwrap();
    upload.finish().await.unwrap();
    assert_eq!(store.requests().bytes_written, 5 + (20 << 20));
}

#[tokio::test]
async fn faults_say_who_acts() {
    let folder = TempDir::new().unwrap();
    let store = Store::new();
    let missing = store.read(&at(&folder, "gone")).await.unwrap_err();
    assert_eq!(missing.exit_code(), 78);
    assert!(missing.to_string().contains("gone"));
    let io = store.file_io().new_input(at(&folder, "gone")).unwrap().read().await.unwrap_err();
    assert_eq!(failed(|| "read it".into(), io).exit_code(), 78, "also through iceberg");

    fs::write(folder.path().join("file"), "").unwrap();
    let below = store.create(&at(&folder, "file/below"), Bytes::new()).await.unwrap_err();
    assert_eq!(below.exit_code(), 78);
    assert!(below.to_string().contains("is no folder"), "{below}");
}

/// What the kernel says when the disk is full (ENOSPC), the quota used up (EDQUOT), the file system or the file closed to us.
#[test]
fn full_and_closed_disks_are_told_apart() {
    let path = object_store::path::Path::from("x");
    for (errno, code) in [(28, 75), (122, 75), (5, 75), (13, 77), (1, 77), (30, 77)] {
        let refused = disk::explain(&path, std::io::Error::from_raw_os_error(errno));
        let error = failed(|| "write `x`".into(), refused);
        assert_eq!(error.exit_code(), code, "{error:?}");
        assert_eq!(error.exit_code(), failed(|| "do it".into(), error).exit_code(), "a cause keeps its class");
    }
}
