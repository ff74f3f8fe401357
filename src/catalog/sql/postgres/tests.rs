//! Against a real PostgreSQL, with a database for each test.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use iceberg::{NamespaceIdent, TableIdent};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Executor};
use tempfile::TempDir;
use uuid::Uuid;

use self::proxy::{Proxy, Trick};
use super::super::super::contract::{a_replaced_base_is_refused, append, committed, contract, load, metadata, on_base};
use super::super::super::servers::server;
use super::super::super::{Catalog, Change, CommitOutcome, LoadedTable};
use super::super::SqlCatalog;
use crate::error::Error;
use crate::storage::Store;

mod proxy;

/// A database of its own, and a warehouse.
struct Place {
    database: String,
    address: String,
    password: String,
    authority: PathBuf,
    folder: TempDir,
}

impl Place {
    async fn new() -> Self {
        let facts = server("postgres");
        let (_, address) = facts["uri"].split_once('@').unwrap();
        #[expect(clippy::disallowed_methods, reason = "tests share the server, and each wants a database of its own")]
        let database = format!("test_{}", Uuid::new_v4().simple());
        let place = Self {
            database,
            address: address.split('/').next().unwrap().to_owned(),
            password: facts["password"].clone(),
            authority: facts["ca"].clone().into(),
            folder: TempDir::new().unwrap(),
        };
        let mut server = place.connect("postgres").await;
        server.execute(format!("CREATE DATABASE {}", place.database).as_str()).await.unwrap();
        place
    }

    fn uri(&self, user: &str, address: &str) -> String {
        format!("postgresql://{user}@{address}/{}", self.database)
    }

    /// A client that is not ours.
    async fn connect(&self, database: &str) -> PgConnection {
        let uri = format!("postgresql://tidegate@{}/{database}", self.address);
        let options: PgConnectOptions = uri.parse().unwrap();
        options.password(&self.password).connect().await.unwrap()
    }

    async fn sql(&self, statement: &str) {
        self.connect(&self.database).await.execute(statement).await.unwrap();
    }

    async fn text(&self, query: &str) -> String {
        sqlx::query_scalar(query).fetch_one(&mut self.connect(&self.database).await).await.unwrap()
    }

    fn open(&self) -> SqlCatalog {
        self.open_at(&self.uri("tidegate", &self.address))
    }

    fn open_at(&self, uri: &str) -> SqlCatalog {
        self.open_with(uri, &self.password)
    }

    fn open_with(&self, uri: &str, password: &str) -> SqlCatalog {
        let warehouse = format!("file://{}/warehouse/", self.folder.path().display());
        SqlCatalog::open("demo", uri, Some(password), &warehouse, Store::new()).unwrap()
    }

    /// A catalog with a table, by way of a proxy that plays a trick when told to.
    async fn behind_proxy(&self) -> (Proxy, SqlCatalog) {
        let proxy = Proxy::to(&self.address).await;
        let catalog = self.open_at(&format!("{}?sslmode=disable", self.uri("tidegate", &proxy.address)));
        create(&catalog).await;
        (proxy, SqlCatalog { answer_timeout: Duration::from_secs(5), ..catalog })
    }

    fn metadata_files(&self) -> usize {
        fs::read_dir(self.folder.path().join("warehouse/a/news/articles/metadata")).unwrap().count()
    }
}

fn news() -> TableIdent {
    TableIdent::new(NamespaceIdent::from_strs(["a", "news"]).unwrap(), "articles".into())
}

async fn create(catalog: &SqlCatalog) -> LoadedTable {
    assert!(catalog.create(&news(), metadata(catalog, &news())).await.unwrap());
    load(catalog, &news()).await
}

async fn change(catalog: &SqlCatalog, snapshot: i64) -> Change {
    let base = load(catalog, &news()).await;
    Change { requirements: on_base(&base), updates: append(&base, snapshot), base }
}

async fn head(catalog: &SqlCatalog) -> Option<i64> {
    load(catalog, &news()).await.metadata.current_snapshot_id()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn passes_the_contract() {
    let place = Place::new().await;
    contract("top.inner", || place.open()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn passes_the_contract_with_its_files_in_s3() {
    let place = Place::new().await;
    let properties = server("versitygw");
    let warehouse = format!("{}/{}", properties["warehouse"], place.database);
    let store = Store::with(properties);
    let uri = place.uri("tidegate", &place.address);
    contract("top", || SqlCatalog::open("demo", &uri, Some(&place.password), &warehouse, store.clone()).unwrap()).await;
}

#[tokio::test]
async fn a_table_made_again_is_another() {
    let place = Place::new().await;
    a_replaced_base_is_refused(&place.open(), "again", async |_: &TableIdent| {
        place.sql("DELETE FROM iceberg_tables").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn passes_the_contract_on_tables_without_types() {
    let place = Place::new().await;
    place.sql(super::super::tests::V0).await;
    contract("top", || place.open()).await;
    let columns = "SELECT string_agg(column_name, ' ') FROM information_schema.columns WHERE table_name = 'iceberg_tables'";
    assert!(!place.text(columns).await.contains("iceberg_type"), "the schema stays as it was found");
}

#[tokio::test]
async fn a_created_table_is_seen_by_java_and_pyiceberg() {
    let place = Place::new().await;
    let catalog = place.open();
    assert!(catalog.load(&news()).await.unwrap().is_none(), "an empty database has no tables");
    create(&catalog).await;
    let row = "SELECT concat_ws(' ', catalog_name, table_namespace, table_name, iceberg_type) FROM iceberg_tables";
    assert_eq!(place.text(row).await, "demo a.news articles TABLE");
    let namespaces = "SELECT string_agg(concat_ws(' ', catalog_name, namespace, property_key, property_value), ',') \
        FROM iceberg_namespace_properties";
    assert_eq!(place.text(namespaces).await, "demo a.news exists true");
    let second = TableIdent::new(news().namespace().clone(), "more".into());
    assert!(catalog.create(&second, metadata(&catalog, &second)).await.unwrap());
    assert_eq!(place.text(namespaces).await, "demo a.news exists true", "a namespace is made once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_that_make_the_tables_at_once_both_can() {
    let place = Place::new().await;
    let mut creations = tokio::task::JoinSet::new();
    for number in 0..8 {
        let catalog = place.open();
        creations.spawn(async move {
            let table = TableIdent::new(news().namespace().clone(), format!("t{number}"));
            assert!(catalog.create(&table, metadata(&catalog, &table)).await.unwrap());
        });
    }
    creations.join_all().await;
    assert_eq!(place.text("SELECT count(*)::text FROM iceberg_tables").await, "8");
}

#[tokio::test]
async fn what_is_wrong_with_the_address_says_who_acts() {
    let place = Place::new().await;
    let answer = async |uri: String, password: &str| place.open_with(&uri, password).load(&news()).await.unwrap_err();

    let error = answer(place.uri("tidegate", &place.address), "wrong").await;
    assert_eq!(error.exit_code(), 77, "{error:?}");
    assert!(!format!("{error:?}").contains("wrong\""), "{error:?}");
    let error = answer(place.uri("nobody", &place.address), &place.password).await;
    assert_eq!(error.exit_code(), 77, "{error:?}");
    let error = answer(format!("{}x", place.uri("tidegate", &place.address)), &place.password).await;
    assert_eq!(error.exit_code(), 78, "{error:?}");
    assert_eq!(error.to_string(), format!("database `{}x` does not exist on localhost", place.database));
    let error = answer(place.uri("tidegate", "127.0.0.1:1"), &place.password).await;
    assert_eq!(error.exit_code(), 75, "{error:?}");
}

#[tokio::test]
async fn the_servers_certificate_is_checked_as_asked() {
    let place = Place::new().await;
    let authority = format!("sslrootcert={}", place.authority.display());
    let catalog = place.open_at(&format!("{}?sslmode=verify-full&{authority}", place.uri("tidegate", &place.address)));
    create(&catalog).await;
    let encrypted = "SELECT bool_and(ssl)::text FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
        WHERE application_name = 'tidegate' AND datname = current_database()";
    assert_eq!(place.text(encrypted).await, "true");

    let unknown = place.open_at(&format!("{}?sslmode=verify-full", place.uri("tidegate", &place.address)));
    let error = unknown.load(&news()).await.unwrap_err();
    assert_eq!(error.exit_code(), 77, "{error:?}");
    assert!(format!("{error:?}").contains("UnknownIssuer"), "{error:?}");

    let proxy = Proxy::at("127.0.0.2:0", &place.address).await;
    let other_name = place.open_at(&format!("{}?sslmode=verify-full&{authority}", place.uri("tidegate", &proxy.address)));
    let error = other_name.load(&news()).await.unwrap_err();
    assert_eq!(error.exit_code(), 77, "{error:?}");

    let no_file = place.open_at(&format!("{}?sslmode=verify-ca&sslrootcert=/nowhere.pem", place.uri("tidegate", &place.address)));
    assert_eq!(no_file.load(&news()).await.unwrap_err().exit_code(), 78);
}

#[tokio::test]
async fn the_password_is_not_shown() {
    let catalog = SqlCatalog::open("demo", "postgresql://u@h/d", Some("s3cret"), "file:///w", Store::new()).unwrap();
    assert!(!format!("{catalog:?}").contains("s3cret"), "{catalog:?}");
}

/// The commit is done, the connection ends before its answer arrives.
#[tokio::test]
async fn a_lost_answer_is_unclear() {
    let place = Place::new().await;
    let (proxy, catalog) = place.behind_proxy().await;
    let change = change(&catalog, 5).await;
    proxy.play(Trick::LoseAnswer);
    let outcome = catalog.swap(&change).await;
    assert!(matches!(outcome, CommitOutcome::Unclear(_)), "{outcome:?}");
    assert_eq!(place.metadata_files(), 2, "what may be the head is not deleted");
    assert_eq!(head(&catalog).await, Some(5), "the catalog connects again, and the change is in");
}

/// The request is held back for longer than an answer is waited for.
#[tokio::test]
async fn a_request_that_lands_late_is_unclear() {
    let place = Place::new().await;
    let (proxy, catalog) = place.behind_proxy().await;
    let change = change(&catalog, 5).await;
    proxy.play(Trick::HoldRequest);
    let outcome = catalog.swap(&change).await;
    assert!(matches!(outcome, CommitOutcome::Unclear(_)), "{outcome:?}");
    let reader = place.open();
    assert_eq!(head(&reader).await, None, "it has not landed yet");
    proxy.release();
    for _ in 0..1_200 {
        if head(&reader).await == Some(5) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it never landed");
}

/// Terminated by an administrator in mid-statement: PostgreSQL may say so after a commit, too.
#[tokio::test]
async fn a_session_that_the_server_ends_is_unclear() {
    let place = Place::new().await;
    let catalog = place.open();
    create(&catalog).await;
    let change = change(&catalog, 5).await;
    let mut other = place.connect(&place.database).await;
    other.execute("BEGIN; UPDATE iceberg_tables SET catalog_name = catalog_name").await.unwrap();
    let end = async {
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tidegate' \
            AND datname = current_database() AND wait_event_type = 'Lock'";
        while sqlx::query(end).fetch_all(&mut other).await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let (outcome, ()) = tokio::join!(catalog.swap(&change), end);
    assert!(matches!(outcome, CommitOutcome::Unclear(_)), "{outcome:?}");
    other.execute("ROLLBACK").await.unwrap();
    committed(catalog.swap(&change).await);
}

#[tokio::test]
async fn a_connection_that_ended_while_it_stood_idle_is_opened_again() {
    let place = Place::new().await;
    let catalog = place.open();
    create(&catalog).await;
    let change = change(&catalog, 5).await;
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tidegate' AND datname = current_database()";
    place.sql(end).await;
    committed(catalog.swap(&change).await);
}

#[tokio::test]
async fn a_locked_row_is_temporary_and_nothing_was_changed() {
    let place = Place::new().await;
    let catalog = place.open();
    create(&catalog).await;
    let change = change(&catalog, 5).await;
    let mut other = place.connect(&place.database).await;
    other.execute("BEGIN; UPDATE iceberg_tables SET catalog_name = catalog_name").await.unwrap();
    let CommitOutcome::Refused(why) = catalog.swap(&change).await else { panic!("nothing can be written now") };
    assert_eq!(why.downcast_ref::<Error>().unwrap().exit_code(), 75, "{why:?}");
    assert_eq!(place.metadata_files(), 1, "the metadata file of the refused swap is gone");
    other.execute("ROLLBACK").await.unwrap();
    committed(catalog.swap(&change).await);
}

/// A deadlock or a serialization failure undoes the statement; so the change was refused.
#[tokio::test]
async fn a_serialization_failure_is_a_refusal() {
    let place = Place::new().await;
    create(&place.open()).await;
    place.sql(&format!("ALTER DATABASE {} SET default_transaction_isolation = 'serializable'", place.database)).await;
    let catalog = place.open();
    let change = change(&catalog, 5).await;
    let mut other = place.connect(&place.database).await;
    other.execute("BEGIN; UPDATE iceberg_tables SET previous_metadata_location = 'x'").await.unwrap();
    let commit = async {
        let waits = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'tidegate' AND datname = current_database() \
            AND wait_event_type = 'Lock'";
        let mut watcher = place.connect(&place.database).await;
        while sqlx::query(waits).fetch_all(&mut watcher).await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        other.execute("COMMIT").await.unwrap();
    };
    let (outcome, ()) = tokio::join!(catalog.swap(&change), commit);
    let CommitOutcome::Refused(why) = outcome else { panic!("{outcome:?}") };
    assert!(format!("{why:?}").contains("40001"), "{why:?}");
    assert_eq!(place.metadata_files(), 1);
    committed(catalog.swap(&change).await);
}

#[tokio::test]
async fn rights_are_asked_for_only_where_they_are_used() {
    let place = Place::new().await;
    let owner = place.open();
    create(&owner).await;
    let (reader, writer) = (format!("{}_r", place.database), format!("{}_w", place.database));
    let password = &place.password;
    place
        .sql(&format!(
            "CREATE ROLE {reader} LOGIN PASSWORD '{password}'; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {reader}; \
             CREATE ROLE {writer} LOGIN PASSWORD '{password}'; \
             GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO {writer}"
        ))
        .await;
    let catalog = place.open_at(&place.uri(&reader, &place.address));
    let change = change(&catalog, 5).await;
    let CommitOutcome::Refused(why) = catalog.swap(&change).await else { panic!("it may not write") };
    assert_eq!(why.downcast_ref::<Error>().unwrap().exit_code(), 77, "{why:?}");

    let catalog = place.open_at(&place.uri(&writer, &place.address));
    let second = TableIdent::new(news().namespace().clone(), "more".into());
    assert!(catalog.create(&second, metadata(&catalog, &second)).await.unwrap(), "it may make no tables, and need not");
    committed(catalog.swap(&change).await);
    place.sql(&format!("DROP OWNED BY {reader}, {writer}; DROP ROLE {reader}, {writer}")).await;
}
