use std::fs;
use std::path::Path;

use iceberg::{NamespaceIdent, TableIdent};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};
use tempfile::TempDir;

use super::super::contract::{a_replaced_base_is_refused, append, committed, contract, load, metadata, on_base, set};
use super::super::{AnyCatalog, Catalog, Change, CommitOutcome};
use super::SqlCatalog;
use crate::error::Error;
use crate::storage::Store;

fn open(folder: &Path) -> SqlCatalog {
    let uri = format!("sqlite://{}/db/catalog.db", folder.display());
    SqlCatalog::open("demo", &uri, None, &format!("file://{}/warehouse/", folder.display()), Store::new()).unwrap()
}

fn news() -> TableIdent {
    TableIdent::new(NamespaceIdent::from_strs(["a", "news"]).unwrap(), "articles".into())
}

async fn sql(folder: &Path, statement: &str) {
    let options = SqliteConnectOptions::new().filename(folder.join("db/catalog.db")).create_if_missing(true);
    let mut connection = options.connect().await.unwrap();
    sqlx::raw_sql(statement).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

async fn text(folder: &Path, query: &str) -> String {
    let mut connection = SqliteConnectOptions::new().filename(folder.join("db/catalog.db")).connect().await.unwrap();
    sqlx::query_scalar(query).fetch_one(&mut connection).await.unwrap()
}

fn metadata_files(folder: &Path) -> Vec<String> {
    let files = fs::read_dir(folder.join("warehouse/a/news/articles/metadata")).unwrap();
    let mut names: Vec<_> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn passes_the_contract() {
    let folder = TempDir::new().unwrap();
    contract("top.inner", || open(folder.path())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn passes_the_contract_on_a_write_ahead_log() {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("db")).unwrap();
    sql(folder.path(), "PRAGMA journal_mode = WAL; CREATE TABLE other (x)").await;
    contract("top", || open(folder.path())).await;
    assert_eq!(text(folder.path(), "PRAGMA journal_mode").await, "wal", "the journal mode stays as it was found");
}

/// Java's tables before views, and PyIceberg's up to 0.11.
pub(super) const V0: &str = "CREATE TABLE iceberg_tables (catalog_name VARCHAR(255) NOT NULL, table_namespace VARCHAR(255) NOT NULL, \
    table_name VARCHAR(255) NOT NULL, metadata_location VARCHAR(1000), previous_metadata_location VARCHAR(1000), \
    PRIMARY KEY (catalog_name, table_namespace, table_name))";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn passes_the_contract_on_tables_without_types() {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("db")).unwrap();
    sql(folder.path(), V0).await;
    contract("top", || open(folder.path())).await;
    let columns = "SELECT group_concat(name) FROM pragma_table_info('iceberg_tables')";
    assert!(!text(folder.path(), columns).await.contains("iceberg_type"), "the schema stays as it was found");
}

#[tokio::test]
async fn a_table_made_again_is_another() {
    let folder = TempDir::new().unwrap();
    a_replaced_base_is_refused(&open(folder.path()), "again", async |_: &TableIdent| {
        sql(folder.path(), "DELETE FROM iceberg_tables").await;
    })
    .await;
}

#[tokio::test]
async fn a_created_table_is_seen_by_java_and_pyiceberg() {
    let folder = TempDir::new().unwrap();
    let catalog = open(folder.path());
    assert!(catalog.create(&news(), metadata(&catalog, &news())).await.unwrap());
    let row = "SELECT catalog_name || ' ' || table_namespace || ' ' || table_name || ' ' || iceberg_type FROM iceberg_tables";
    assert_eq!(text(folder.path(), row).await, "demo a.news articles TABLE");
    let namespaces = "SELECT group_concat(catalog_name || ' ' || namespace || ' ' || property_key || ' ' || property_value) \
        FROM iceberg_namespace_properties";
    assert_eq!(text(folder.path(), namespaces).await, "demo a.news exists true");
    let second = TableIdent::new(news().namespace().clone(), "more".into());
    assert!(catalog.create(&second, metadata(&catalog, &second)).await.unwrap());
    assert_eq!(text(folder.path(), namespaces).await, "demo a.news exists true", "a namespace is made once");
}

#[tokio::test]
async fn a_missing_database_is_named_and_not_made() {
    let folder = TempDir::new().unwrap();
    let error = open(folder.path()).load(&news()).await.unwrap_err();
    assert_eq!(error.exit_code(), 78);
    assert!(error.to_string().contains("db/catalog.db` does not exist"), "{error}");
    assert!(error.hint().unwrap().contains("tidegate init"));
    assert!(!folder.path().join("db").exists());
}

/// SQLAlchemy writes a relative path with three slashes.
#[tokio::test]
async fn a_path_meant_as_relative_gets_a_hint() {
    let error =
        SqlCatalog::open("demo", "sqlite:///Cargo.toml", None, "file:///w", Store::new()).unwrap().load(&news()).await.unwrap_err();
    assert!(error.hint().unwrap().ends_with("write `sqlite://Cargo.toml`"), "{error:?}");
    let found =
        SqlCatalog::open("demo", "sqlite://Cargo.toml", None, "file:///w", Store::new()).unwrap().load(&news()).await.unwrap_err();
    assert!(found.to_string().contains("database `Cargo.toml`"), "it is found, and is no database: {found}");
}

#[tokio::test]
async fn an_empty_database_has_no_tables() {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("db")).unwrap();
    fs::write(folder.path().join("db/catalog.db"), "").unwrap();
    assert!(open(folder.path()).load(&news()).await.unwrap().is_none());
}

#[tokio::test]
async fn what_is_no_database_is_the_owners_to_fix() {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("db")).unwrap();
    fs::write(folder.path().join("db/catalog.db"), "these are sixteen bytes and some more").unwrap();
    let error = open(folder.path()).load(&news()).await.unwrap_err();
    assert_eq!(error.exit_code(), 78, "{error:?}");
}

#[tokio::test]
async fn other_uris_are_refused() {
    for uri in ["mysql://u@h/d", "sqlite:relative.db", "sqlite://", "/x.db"] {
        let error = SqlCatalog::open("demo", uri, None, "file:///w", Store::new()).unwrap_err();
        assert_eq!(error.exit_code(), 78, "{uri}");
    }
}

#[tokio::test]
async fn a_view_is_no_table() {
    let folder = TempDir::new().unwrap();
    let catalog = open(folder.path());
    catalog.create(&news(), metadata(&catalog, &news())).await.unwrap();
    sql(folder.path(), "UPDATE iceberg_tables SET iceberg_type = 'VIEW'").await;
    assert_eq!(catalog.load(&news()).await.unwrap_err().to_string(), "`a.news.articles` is a view in catalog `demo`");
    sql(folder.path(), "UPDATE iceberg_tables SET iceberg_type = NULL").await;
    assert!(catalog.load(&news()).await.unwrap().is_some(), "rows from before views have no type");
}

#[tokio::test]
async fn catalogs_of_one_database_do_not_see_each_other() {
    let folder = TempDir::new().unwrap();
    let catalog = open(folder.path());
    catalog.create(&news(), metadata(&catalog, &news())).await.unwrap();
    let uri = format!("sqlite://{}/db/catalog.db", folder.path().display());
    let other = SqlCatalog::open("other", &uri, None, "file:///w", Store::new()).unwrap();
    assert!(other.load(&news()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_locked_database_is_temporary_and_nothing_was_changed() {
    let folder = TempDir::new().unwrap();
    let catalog = open(folder.path());
    catalog.create(&news(), metadata(&catalog, &news())).await.unwrap();
    let base = load(&catalog, &news()).await;
    let mut other = SqliteConnectOptions::new().filename(folder.path().join("db/catalog.db")).connect().await.unwrap();
    sqlx::raw_sql("BEGIN EXCLUSIVE").execute(&mut other).await.unwrap();
    let change = Change { requirements: on_base(&base), updates: append(&base, 5), base };
    let CommitOutcome::Refused(why) = catalog.swap(&change).await else { panic!("nothing can be written now") };
    assert_eq!(why.downcast_ref::<Error>().unwrap().exit_code(), 75);
    assert_eq!(metadata_files(folder.path()).len(), 1, "the metadata file of the refused swap is gone");
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    committed(catalog.swap(&change).await);
}

/// The write is in, a reader keeps the commit out: the only commit error that is known to have changed nothing.
#[tokio::test]
async fn a_commit_that_readers_keep_out_is_refused() {
    let folder = TempDir::new().unwrap();
    let catalog = open(folder.path());
    catalog.create(&news(), metadata(&catalog, &news())).await.unwrap();
    let base = load(&catalog, &news()).await;
    let mut reader = SqliteConnectOptions::new().filename(folder.path().join("db/catalog.db")).connect().await.unwrap();
    sqlx::raw_sql("BEGIN; SELECT * FROM iceberg_tables").execute(&mut reader).await.unwrap();
    let change = Change { requirements: on_base(&base), updates: append(&base, 5), base };
    assert!(matches!(catalog.swap(&change).await, CommitOutcome::Refused(_)));
    sqlx::raw_sql("ROLLBACK").execute(&mut reader).await.unwrap();
    assert_eq!(load(&catalog, &news()).await.metadata.current_snapshot_id(), None);
    committed(catalog.swap(&change).await);
}

/// `tidegate check` asks it of whatever catalog the job names.
#[tokio::test]
async fn a_catalog_that_lets_nobody_commit_says_so_before_a_run() {
    let folder = TempDir::new().unwrap();
    let catalog = open(folder.path());
    catalog.create(&news(), metadata(&catalog, &news())).await.unwrap();
    let base = load(&catalog, &news()).await;
    let catalog = AnyCatalog::Sql(Box::new(catalog));
    catalog.may_swap(&base).await.unwrap();
    sql(folder.path(), "CREATE TRIGGER closed BEFORE UPDATE ON iceberg_tables BEGIN SELECT RAISE(ABORT, 'read only'); END").await;
    let error = catalog.may_swap(&base).await.unwrap_err();
    assert!(format!("{error:?}").contains("read only"), "{error:?}");
}

#[tokio::test]
async fn a_refused_swap_leaves_no_file() {
    let folder = TempDir::new().unwrap();
    let catalog = open(folder.path());
    catalog.create(&news(), metadata(&catalog, &news())).await.unwrap();
    let base = load(&catalog, &news()).await;
    let change = Change { requirements: on_base(&base), updates: append(&base, 5), base };
    committed(catalog.swap(&change).await);
    assert!(matches!(catalog.swap(&change).await, CommitOutcome::Refused(_)));
    let files = metadata_files(folder.path());
    assert_eq!(files.len(), 2, "{files:?}");
    assert!(files[0].starts_with("00000-") && files[1].starts_with("00001-"), "{files:?}");
}

#[tokio::test]
async fn old_metadata_files_go_when_the_table_says_so() {
    let folder = TempDir::new().unwrap();
    let catalog = open(folder.path());
    catalog.create(&news(), metadata(&catalog, &news())).await.unwrap();
    let mut updates = vec![set("write.metadata.previous-versions-max", "2")];
    for round in 0..5 {
        let base = load(&catalog, &news()).await;
        updates.push(set("round", &round.to_string()));
        committed(catalog.swap(&Change { requirements: vec![], updates: std::mem::take(&mut updates), base }).await);
    }
    assert_eq!(metadata_files(folder.path()).len(), 6, "the log is cut, the files stay");
    let base = load(&catalog, &news()).await;
    assert_eq!(base.metadata.metadata_log().len(), 2);
    let updates = vec![set("write.metadata.delete-after-commit.enabled", "true")];
    committed(catalog.swap(&Change { requirements: vec![], updates, base }).await);
    assert_eq!(metadata_files(folder.path()).len(), 6, "one came, the one that fell out of the log went");
    let head = load(&catalog, &news()).await;
    for log in head.metadata.metadata_log() {
        assert!(Store::new().size(&log.metadata_file).await.unwrap().is_some(), "what the log names is there");
    }
}

#[tokio::test]
async fn metadata_files_are_zipped_and_placed_as_the_table_says() {
    let folder = TempDir::new().unwrap();
    let catalog = open(folder.path());
    catalog.create(&news(), metadata(&catalog, &news())).await.unwrap();
    let elsewhere = format!("file:{}/other place", folder.path().display());
    let updates = vec![set("write.metadata.path", &elsewhere), set("write.metadata.compression-codec", "GZIP")];
    let base = load(&catalog, &news()).await;
    committed(catalog.swap(&Change { requirements: vec![], updates, base }).await);
    let head = load(&catalog, &news()).await;
    assert!(head.metadata_location.starts_with(&format!("{elsewhere}/00001-")), "{}", head.metadata_location);
    assert!(head.metadata_location.ends_with(".gz.metadata.json"));
    let bytes = Store::new().read(&head.metadata_location).await.unwrap();
    assert_eq!(bytes[..2], [0x1f, 0x8b]);
    let base = head;
    committed(catalog.swap(&Change { requirements: on_base(&base), updates: append(&base, 3), base }).await);
    let head = load(&catalog, &news()).await;
    assert!(head.metadata_location.starts_with(&format!("{elsewhere}/00002-")));

    let updates = vec![set("write.metadata.compression-codec", "lz4")];
    let CommitOutcome::Refused(why) = catalog.swap(&Change { requirements: vec![], updates, base: head }).await else { panic!() };
    assert_eq!(why.downcast_ref::<Error>().unwrap().exit_code(), 78);
}

#[tokio::test]
async fn a_lost_metadata_file_is_named() {
    let folder = TempDir::new().unwrap();
    let catalog = open(folder.path());
    catalog.create(&news(), metadata(&catalog, &news())).await.unwrap();
    let location = load(&catalog, &news()).await.metadata_location;
    fs::write(location.strip_prefix("file://").unwrap(), "{\"format-version\": 4}").unwrap();
    let error = catalog.load(&news()).await.unwrap_err();
    assert_eq!(error.exit_code(), 78);
    fs::remove_file(location.strip_prefix("file://").unwrap()).unwrap();
    let error = catalog.load(&news()).await.unwrap_err();
    assert_eq!(error.exit_code(), 78);
    assert!(error.to_string().contains(&location), "{error}");
}
