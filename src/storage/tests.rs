use std::fs;

use bytes::Bytes;
use futures::future::join_all;
use tempfile::TempDir;

use super::{Store, failed};

fn at(folder: &TempDir, name: &str) -> String {
    format!("file://{}/{name}", folder.path().display())
}

/// Names as Hive-style partition values, people and other engines make them.
const NAMES: [&str; 12] = [
    "plain.parquet",
    "with space/a b.parquet",
    "published_at_day=2026-11-20/x.parquet",
    "source=a%2Fb%20c/x.parquet",
    "percent 100%/%25.parquet",
    "ümlaut/日本語=だ/é.parquet",
    "plus+and&more;x/a,b@c$d!e'f(g)h*i.parquet",
    "hash#1/q?x=1#part.parquet",
    "brackets[0]{a}/<x>|\"y\"^`~.parquet",
    "back\\slash/x.parquet",
    ".hidden/..dots../...parquet",
    "trailing /  space.parquet ",
];

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
    assert_eq!(store.list(&at(&folder, "no such folder")).await.unwrap(), []);
}

#[tokio::test]
async fn locations_that_cannot_be_meant_are_refused() {
    let store = Store::new();
    for location in
        ["relative/x", "file:x", "file://host/x", "s3://bucket/x", "s3a://bucket/x", "hdfs://n/x", "/a/../x", "/a/./x", ""]
    {
        let error = store.read(location).await.unwrap_err();
        assert_eq!(error.exit_code(), 78, "{location}: {error}");
        assert!(error.to_string().contains(location), "{error}");
    }
}

#[tokio::test]
async fn an_existing_name_is_an_error_and_stays_as_it_is() {
    let folder = TempDir::new().unwrap();
    let store = Store::new();
    let location = at(&folder, "a/b/x");
    store.create(&location, Bytes::from_static(b"first")).await.unwrap();
    assert_eq!(store.create(&location, Bytes::from_static(b"second")).await.unwrap_err().exit_code(), 101);
    let mut small = store.writer(&location).unwrap();
    small.write(Bytes::from_static(b"second")).await.unwrap();
    assert_eq!(small.finish().await.unwrap_err().exit_code(), 101);
    let mut large = store.writer(&location).unwrap();
    assert!(large.write(Bytes::from(vec![0; 20 << 20])).await.is_err());
    drop(large);
    assert!(store.file_io().new_output(&location).unwrap().write(Bytes::from_static(b"second")).await.is_err());
    assert_eq!(store.read(&location).await.unwrap(), "first");
}

#[tokio::test]
async fn an_upload_of_any_size_is_what_was_written() {
    let folder = TempDir::new().unwrap();
    let store = Store::new();
    for size in [0_usize, 1, (8 << 20) - 1, 8 << 20, (8 << 20) + 1, 50 << 20] {
        let content: Vec<u8> = (0..size).map(|i| u8::try_from((i / 3 + i / 65_536) % 251).unwrap()).collect();
        let location = at(&folder, &format!("d{size}/x"));
        let mut upload = store.writer(&location).unwrap();
        for chunk in content.chunks(3_000_001) {
            upload.write(Bytes::copy_from_slice(chunk)).await.unwrap();
        }
        assert_eq!(upload.finish().await.unwrap(), u64::try_from(size).unwrap());
        assert!(upload.finish().await.is_err() && upload.write(Bytes::from_static(b"x")).await.is_err());
        assert!(fs::read(folder.path().join(format!("d{size}/x"))).unwrap() == content, "size {size}");
    }
}

#[tokio::test]
async fn an_unfinished_upload_leaves_no_file() {
    let folder = TempDir::new().unwrap();
    let store = Store::new();
    let mut upload = store.writer(&at(&folder, "x")).unwrap();
    upload.write(Bytes::from(vec![7; 30 << 20])).await.unwrap();
    assert!(folder.path().join("x").exists());
    drop(upload);
    assert!(!folder.path().join("x").exists());
}

#[tokio::test]
async fn ranges_come_in_the_order_asked_for_and_whole() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("x"), "0123456789").unwrap();
    let store = Store::new();
    let location = at(&folder, "x");
    assert_eq!(store.read_range(&location, 3..5).await.unwrap(), "34");
    assert_eq!(store.read_ranges(&location, &[8..10, 0..1, 4..4]).await.unwrap(), ["89", "0", ""]);
    for range in [8..11, 11..12] {
        assert!(store.read_range(&location, range).await.is_err());
    }
    let reader = store.file_io().new_input(&location).unwrap().reader().await.unwrap();
    assert_eq!(reader.read(1..4).await.unwrap(), "123");
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
        let refused = super::disk::explain(&path, std::io::Error::from_raw_os_error(errno));
        let error = failed(|| "write `x`".into(), refused);
        assert_eq!(error.exit_code(), code, "{error:?}");
        assert_eq!(error.exit_code(), failed(|| "do it".into(), error).exit_code(), "a cause keeps its class");
    }
}

#[tokio::test]
async fn many_writers_share_new_folders() {
    let folder = TempDir::new().unwrap();
    let store = Store::new();
    let writes = (0..50).map(|i| {
        let store = store.clone();
        let location = at(&folder, &format!("a/b/c/{}/{i}", i % 3));
        async move { store.create(&location, Bytes::from(i.to_string())).await }
    });
    for written in join_all(writes).await {
        written.unwrap();
    }
    assert_eq!(store.list(&at(&folder, "a")).await.unwrap().len(), 50);
}
