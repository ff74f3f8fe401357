//! What every store keeps, asked of a real one.
//!
//! The local disk, unless TIDEGATE_TEST_STORE names a file of `key=value` lines: `warehouse` and the properties that open it, as
//! `scripts/servers up` prints them; `lacks` names what a server does not know, separated by commas.

mod disk;
mod scripted;

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::future::join_all;
use tempfile::TempDir;

use super::{Store, failed};

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

/// A folder of its own in the store under test.
struct Place {
    properties: BTreeMap<String, String>,
    root: String,
    _folder: TempDir,
}

impl Place {
    #[expect(clippy::disallowed_methods, reason = "which store to test is said from outside")]
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let Ok(file) = std::env::var("TIDEGATE_TEST_STORE") else {
            return Self { properties: BTreeMap::new(), root: format!("file://{}", folder.path().display()), _folder: folder };
        };
        let text = std::fs::read_to_string(&file).expect("TIDEGATE_TEST_STORE names a file that can be read");
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        let mut properties: BTreeMap<_, _> = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let warehouse = properties.remove("warehouse").expect("the file of TIDEGATE_TEST_STORE has a warehouse");
        let root = format!("{warehouse}/rust{}", folder.path().display());
        Self { properties, root, _folder: folder }
    }

    /// With clients of its own.
    fn store(&self) -> Store {
        Store::with(self.properties.clone())
    }

    fn at(&self, name: &str) -> String {
        format!("{}/{name}", self.root)
    }

    /// Whether it is a server that lacks what the tests name.
    fn lacks(&self, what: &str) -> bool {
        self.properties.get("lacks").is_some_and(|lacks| lacks.split(',').any(|lacking| lacking == what))
    }

    fn is_bucket(&self) -> bool {
        !self.root.starts_with("file:")
    }
}

#[tokio::test]
async fn a_file_of_any_name_is_found_under_it() {
    for name in NAMES {
        let place = Place::new();
        // Azure takes a backslash for a slash.
        if name.contains('\\') && place.root.starts_with("abfss:") {
            continue;
        }
        let (writer, reader) = (place.store(), place.store());
        let location = place.at(name);
        writer.create(&location, Bytes::copy_from_slice(name.as_bytes())).await.unwrap();
        assert_eq!(reader.read(&location).await.unwrap(), name, "{name}");
        assert_eq!(reader.size(&location).await.unwrap(), Some(u64::try_from(name.len()).unwrap()), "{name}");
        let listed = reader.list(&place.root).await.unwrap();
        let found: Vec<_> = listed.iter().map(|file| (file.location.as_str(), file.size)).collect();
        assert_eq!(found, [(location.as_str(), u64::try_from(name.len()).unwrap())], "{name}");
        reader.delete(&location).await.unwrap();
        reader.delete(&location).await.unwrap();
        assert_eq!(reader.size(&location).await.unwrap(), None, "{name}");
        assert_eq!(reader.list(&place.root).await.unwrap(), [], "{name}");
    }
}

#[tokio::test]
async fn every_scheme_of_a_store_opens_the_same_file_and_a_listing_keeps_it() {
    let place = Place::new();
    let store = place.store();
    store.create(&place.at("d/x"), Bytes::from_static(b"here")).await.unwrap();
    let (scheme, rest) = place.root.split_once("://").unwrap();
    let schemes = match scheme {
        "s3" => &["s3", "s3a", "s3n"][..],
        "abfss" => &["abfss", "abfs", "wasb", "wasbs"],
        scheme => &[scheme],
    };
    for scheme in schemes {
        let location = format!("{scheme}://{rest}/d/x");
        assert_eq!(store.read(&location).await.unwrap(), "here", "{location}");
        let listed = store.list(&format!("{scheme}://{rest}/")).await.unwrap();
        assert_eq!(listed[0].location, location);
    }
}

#[tokio::test]
async fn a_listing_has_what_is_below_a_folder_and_nothing_else() {
    let place = Place::new();
    let store = place.store();
    for name in ["d/x", "d/e/y", "d2/x", "dx"] {
        store.create(&place.at(name), Bytes::from_static(b"1")).await.unwrap();
    }
    let mut listed: Vec<_> = store.list(&place.at("d")).await.unwrap().into_iter().map(|file| file.location).collect();
    listed.sort();
    assert_eq!(listed, [place.at("d/e/y"), place.at("d/x")]);
    assert_eq!(store.list(&place.at("no such folder")).await.unwrap(), []);
}

#[tokio::test]
async fn an_existing_name_is_an_error_and_stays_as_it_is() {
    let place = Place::new();
    let store = place.store();
    let location = place.at("a/b/x");
    store.create(&location, Bytes::from_static(b"first")).await.unwrap();
    if place.lacks("preconditions") {
        // Nothing but the names of files, which no two runs share, keeps such a store from overwriting.
        store.create(&location, Bytes::from_static(b"second")).await.unwrap();
        return;
    }
    for content in [&b"second"[..], b"first"] {
        assert_eq!(store.create(&location, Bytes::from_static(content)).await.unwrap_err().exit_code(), 101);
    }
    let mut small = store.writer(&location).unwrap();
    small.write(Bytes::from_static(b"second")).await.unwrap();
    assert_eq!(small.finish().await.unwrap_err().exit_code(), 101);
    let mut large = store.writer(&location).unwrap();
    assert_eq!(large.write(Bytes::from(vec![0; 20 << 20])).await.unwrap_err().exit_code(), 101);
    drop(large);
    assert!(store.file_io().new_output(&location).unwrap().write(Bytes::from_static(b"second")).await.is_err());
    assert_eq!(place.store().read(&location).await.unwrap(), "first");
}

fn content(size: usize) -> Vec<u8> {
    (0..size).map(|i| u8::try_from((i / 3 + i / 65_536) % 251).unwrap()).collect()
}

#[tokio::test]
async fn an_upload_of_any_size_is_what_was_written() {
    let place = Place::new();
    let store = place.store();
    for size in [0_usize, 1, (8 << 20) - 1, 8 << 20, (8 << 20) + 1, 50 << 20] {
        let content = content(size);
        let location = place.at(&format!("d{size}/x"));
        let mut upload = store.writer(&location).unwrap();
        for chunk in content.chunks(3_000_001) {
            upload.write(Bytes::copy_from_slice(chunk)).await.unwrap();
        }
        assert_eq!(upload.finish().await.unwrap(), u64::try_from(size).unwrap());
        assert!(upload.finish().await.is_err() && upload.write(Bytes::from_static(b"x")).await.is_err());
        assert!(place.store().read(&location).await.unwrap() == content, "size {size}");
    }
}

#[tokio::test]
async fn an_unfinished_upload_leaves_no_file() {
    let place = Place::new();
    let store = place.store();
    let location = place.at("x");
    let mut upload = store.writer(&location).unwrap();
    upload.write(Bytes::from(vec![7; 30 << 20])).await.unwrap();
    drop(upload);
    store.wind_down().await;
    assert_eq!(store.size(&location).await.unwrap(), None);
    assert_eq!(store.list(&place.root).await.unwrap(), []);
}

#[tokio::test]
async fn ranges_come_in_the_order_asked_for_and_whole() {
    let place = Place::new();
    let store = place.store();
    let location = place.at("x");
    store.create(&location, Bytes::from_static(b"0123456789")).await.unwrap();
    assert_eq!(store.read_range(&location, 3..5).await.unwrap(), "34");
    assert_eq!(store.read_ranges(&location, &[8..10, 0..1, 4..4]).await.unwrap(), ["89", "0", ""]);
    for range in [8..11, 11..12] {
        let error = store.read_range(&location, range.clone()).await.unwrap_err();
        assert!(!place.is_bucket() || error.exit_code() == 78, "{range:?}: {error:?}");
    }
    let reader = store.file_io().new_input(&location).unwrap().reader().await.unwrap();
    assert_eq!(reader.read(1..4).await.unwrap(), "123");
}

#[tokio::test]
async fn large_ranges_are_put_together_from_their_pieces() {
    let place = Place::new();
    let store = place.store();
    let (location, content) = (place.at("x"), content(40 << 20));
    let mut upload = store.writer(&location).unwrap();
    upload.write(Bytes::from(content.clone())).await.unwrap();
    upload.finish().await.unwrap();
    let end = 40 << 20;
    let ranges = [5..(33 << 20) + 1, 0..3, (39 << 20)..end, (38 << 20)..(38 << 20) + 7];
    let found = store.read_ranges(&location, &ranges).await.unwrap();
    for (range, bytes) in ranges.iter().zip(found) {
        let (start, end) = (usize::try_from(range.start).unwrap(), usize::try_from(range.end).unwrap());
        assert!(bytes == content[start..end], "{range:?}");
    }
}

#[tokio::test]
async fn many_writers_share_new_folders() {
    let place = Place::new();
    let store = place.store();
    let writes = (0..50).map(|i| {
        let store = store.clone();
        let location = place.at(&format!("a/b/c/{}/{i}", i % 3));
        async move { store.create(&location, Bytes::from(i.to_string())).await }
    });
    for written in join_all(writes).await {
        written.unwrap();
    }
    assert_eq!(store.list(&place.at("a")).await.unwrap().len(), 50);
}

#[tokio::test]
async fn requests_are_counted() {
    let place = Place::new();
    let store = place.store();
    let location = place.at("x");
    store.create(&location, Bytes::from_static(b"hello")).await.unwrap();
    store.read(&location).await.unwrap();
    store.read_ranges(&location, &[0..2, 3..5]).await.unwrap();
    store.size(&location).await.unwrap();
    store.list(&place.root).await.unwrap();
    store.delete(&location).await.unwrap();
    let requests = store.requests();
    assert_eq!(
        (requests.get, requests.put, requests.delete, requests.list, requests.head, requests.failed),
        (2, 1, 1, 1, 1, 0),
        "{requests:?}"
    );
    // The hole between the ranges is not worth a request.
    let read = if place.is_bucket() { 10 } else { 9 };
    assert_eq!((requests.bytes_read, requests.bytes_written), (read, 5));
}

#[tokio::test]
async fn what_is_missing_is_said() {
    let place = Place::new();
    let store = place.store();
    let missing = store.read(&place.at("gone")).await.unwrap_err();
    assert_eq!(missing.exit_code(), 78);
    assert!(missing.to_string().contains("gone"));
    let io = store.file_io().new_input(place.at("gone")).unwrap().read().await.unwrap_err();
    assert_eq!(failed(|| "read it".into(), io).exit_code(), 78, "also through iceberg");
    if !place.is_bucket() {
        return;
    }
    let elsewhere = place.at("x").replacen("warehouse", "no-such-bucket", 1);
    for error in [
        store.create(&elsewhere, Bytes::from_static(b"x")).await.unwrap_err(),
        store.list(&elsewhere).await.unwrap_err(),
        store.read(&elsewhere).await.unwrap_err(),
    ] {
        assert!(error.exit_code() == 78 && error.to_string().contains("bucket does not exist"), "{error:?}");
    }
}

/// A server that asks for credentials refuses wrong ones, and nothing shows those that it was given.
#[tokio::test]
async fn wrong_credentials_are_refused_and_never_shown() {
    let place = Place::new();
    let secrets = ["s3.secret-access-key", "adls.account-key"];
    let Some(secret) = secrets.into_iter().find(|name| place.properties.contains_key(*name)) else { return };
    // A key is base64.
    let wrong = "d3JvbmctYnV0LXNlY3JldA==";
    let mut properties = place.properties.clone();
    properties.insert(secret.to_owned(), wrong.to_owned());
    let store = Store::with(properties);
    if place.lacks("signatures") {
        store.create(&place.at("x"), Bytes::from_static(b"x")).await.unwrap();
        return;
    }
    let (client, _) = store.object(&place.at("x")).unwrap();
    for error in [
        store.create(&place.at("x"), Bytes::from_static(b"x")).await.unwrap_err(),
        store.list(&place.root).await.unwrap_err(),
        store.size(&place.at("x")).await.unwrap_err(),
    ] {
        assert_eq!(error.exit_code(), 77, "{error:?}");
        assert!(!format!("{error:?} {error}").contains(wrong));
    }
    let upload = store.writer(&place.at("x")).unwrap();
    assert!(!format!("{store:?} {client:?} {upload:?}").contains(wrong));
}

#[tokio::test]
async fn a_store_that_is_not_there_is_unavailable() {
    let place = Place::new();
    let endpoints = ["s3.endpoint", "gcs.service.host", "adls.endpoint"];
    let Some(endpoint) = endpoints.into_iter().find(|name| place.properties.contains_key(*name)) else { return };
    let mut properties = place.properties.clone();
    let path = if endpoint == "adls.endpoint" { "/devstoreaccount1" } else { "" };
    // A port that was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    properties.insert(endpoint.to_owned(), format!("http://{free}{path}"));
    let store = Store::with(properties);
    let error = store.read(&place.at("x")).await.unwrap_err();
    assert_eq!(error.exit_code(), 75, "{error:?}");
    assert!(store.requests().failed > 1, "it tried again");
}
