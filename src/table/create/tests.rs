use std::path::Path;

use iceberg::spec::{TableMetadata, Transform};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::super::sample::{COLUMNS, appending, job};
use super::{init, new_table, partition_name};
use crate::catalog::Catalog;
use crate::catalog::sql::SqlCatalog;
use crate::config::Config;
use crate::storage::Store;

fn made(config: &Config) -> Value {
    serde_json::to_value(new_table(config, "file:///w/demo/news".into()).unwrap()).unwrap()
}

fn open(folder: &Path) -> SqlCatalog {
    let uri = format!("sqlite://{}/catalog.db", folder.display());
    SqlCatalog::open("demo", &uri, None, &format!("file://{}", folder.display()), Store::new()).unwrap()
}

#[test]
fn field_ids_are_given_to_the_top_level_first() {
    let schema = &made(&job(COLUMNS, ""))["schemas"][0];
    let expected = json!([
        { "id": 1, "name": "id", "required": true, "type": "string" },
        { "id": 2, "name": "published_at", "required": true, "type": "timestamptz" },
        { "id": 3, "name": "version", "required": false, "type": "long" },
        { "id": 4, "name": "tags", "required": false, "doc": "as given", "type": {
            "type": "list", "element-id": 6, "element-required": false, "element": { "type": "struct", "fields": [
                { "id": 7, "name": "name", "required": false, "type": "string" },
                { "id": 8, "name": "weight", "required": false, "type": "double" },
            ] },
        } },
        { "id": 5, "name": "extra", "required": false, "type": {
            "type": "map", "key-id": 9, "key": "string", "value-id": 10, "value-required": false,
            "value": { "type": "list", "element-id": 11, "element": "int", "element-required": false },
        } },
    ]);
    assert_eq!(schema["fields"], expected);
    assert_eq!(schema["identifier-field-ids"], json!([1]));
}

#[test]
fn a_new_table_is_empty_and_merges_on_read() {
    let table = made(&job(COLUMNS, ""));
    assert_eq!(table["format-version"], 2);
    assert_eq!(table["location"], "file:///w/demo/news");
    assert_eq!(table["last-column-id"], 11);
    assert!(table.get("snapshots").is_none_or(|snapshots| *snapshots == json!([])));
    assert_eq!(table["partition-specs"], json!([{ "spec-id": 0, "fields": [] }]));
    assert_eq!(table["sort-orders"], json!([{ "order-id": 0, "fields": [] }]));
    let properties = json!({
        "write.merge.mode": "merge-on-read", "write.update.mode": "merge-on-read", "write.delete.mode": "merge-on-read",
        "write.parquet.compression-codec": "zstd", "commit.manifest.min-count-to-merge": "5",
    });
    assert_eq!(table["properties"], properties);
}

#[test]
fn the_job_file_has_the_last_word_on_properties_and_format() {
    let table = format!(
        "{COLUMNS}\nformat_version = 3\n\
         properties = {{ \"write.parquet.compression-codec\" = \"snappy\", \"write.delete.mode\" = \"copy-on-write\", a = \"b\" }}"
    );
    let table = made(&job(&table, ""));
    assert_eq!(table["format-version"], 3);
    assert_eq!(table["next-row-id"], 0);
    assert_eq!(table["properties"]["write.parquet.compression-codec"], "snappy");
    assert_eq!(table["properties"]["write.delete.mode"], "copy-on-write");
    assert_eq!(table["properties"]["a"], "b");
    assert_eq!(table["properties"]["write.merge.mode"], "merge-on-read");
}

#[test]
fn partition_and_sort_fields_have_sparks_names() {
    let table = format!(
        "{COLUMNS}\npartition_by = [\"day(published_at)\", \"bucket(16, id)\", \"truncate(4, id)\", \"version\"]\n\
         sort_by = [\"bucket(16, id)\", \"version desc nulls last\"]"
    );
    let table = made(&job(&table, ""));
    let fields = json!([
        { "source-id": 2, "field-id": 1000, "name": "published_at_day", "transform": "day" },
        { "source-id": 1, "field-id": 1001, "name": "id_bucket", "transform": "bucket[16]" },
        { "source-id": 1, "field-id": 1002, "name": "id_trunc", "transform": "truncate[4]" },
        { "source-id": 3, "field-id": 1003, "name": "version", "transform": "identity" },
    ]);
    assert_eq!(table["partition-specs"], json!([{ "spec-id": 0, "fields": fields }]));
    assert_eq!(table["default-spec-id"], 0);
    assert_eq!(table["last-partition-id"], 1003);
    let fields = json!([
        { "transform": "bucket[16]", "source-id": 1, "direction": "asc", "null-order": "nulls-first" },
        { "transform": "identity", "source-id": 3, "direction": "desc", "null-order": "nulls-last" },
    ]);
    assert_eq!(table["sort-orders"], json!([{ "order-id": 1, "fields": fields }]));
    for (transform, name) in [(Transform::Year, "c_year"), (Transform::Month, "c_month"), (Transform::Hour, "c_hour")] {
        assert_eq!(partition_name("c", transform), name);
    }
}

#[test]
fn ids_that_can_be_null_or_nan_are_no_identifier() {
    let optional = r#"columns = [{ name = "id", type = "string" }, { name = "published_at", type = "date" }, { name = "version", type = "int" }]"#;
    assert_eq!(made(&job(optional, ""))["schemas"][0].get("identifier-field-ids"), None);
    let float = optional.replace("type = \"string\"", "type = \"double\", required = true");
    assert_eq!(made(&job(&float, ""))["schemas"][0].get("identifier-field-ids"), None);
    assert_eq!(made(&appending(COLUMNS))["schemas"][0].get("identifier-field-ids"), None);
}

/// What was made is read back by the crate's own parser, which checks what Iceberg demands of metadata.
#[test]
fn new_metadata_reads_back() {
    let table = format!("{COLUMNS}\nformat_version = 3\npartition_by = [\"hour(published_at)\"]");
    let metadata = new_table(&job(&table, ""), "file:///w/x/".into()).unwrap();
    let text = serde_json::to_string(&metadata).unwrap();
    assert_eq!(serde_json::from_str::<TableMetadata>(&text).unwrap(), metadata);
    assert_eq!(metadata.location(), "file:///w/x");
}

#[tokio::test]
async fn init_makes_the_table_once() {
    let folder = TempDir::new().unwrap();
    let catalog = open(folder.path());
    let config = job(COLUMNS, "");
    let created = init(&config, &catalog).await.unwrap();
    assert!(!created.already_there);
    assert_eq!(created.location, format!("file://{}/demo/news", folder.path().display()));
    let again = init(&config, &catalog).await.unwrap();
    assert!(again.already_there);
    assert_eq!(again.differences, Vec::<String>::new());
    assert_eq!(again.location, created.location);
    assert_eq!(init(&job("", ""), &catalog).await.unwrap().differences, Vec::<String>::new(), "no columns, nothing to compare");
}

#[tokio::test]
async fn init_says_how_an_existing_table_differs() {
    let folder = TempDir::new().unwrap();
    let catalog = open(folder.path());
    let more = COLUMNS.replace("]\"", "]").replace("\n]", "\n    { name = \"later\", type = \"int\" },\n]");
    init(&job(&more, ""), &catalog).await.unwrap();
    let wanted = COLUMNS.replace("name = \"version\", type = \"long\"", "name = \"version\", type = \"long\", required = true");
    let wanted = format!(
        "{wanted}\nformat_version = 3\npartition_by = [\"day(published_at)\"]\nsort_by = [\"id\"]\n\
         properties = {{ \"write.parquet.compression-codec\" = \"snappy\", a = \"b\" }}"
    );
    let found = init(&job(&wanted, "unmapped = \"null\""), &catalog).await.unwrap();
    let expected = [
        "its format version is v2, not v3",
        "its column `version` is optional, not required",
        "it has a column `later` that the job file does not list",
        "its partition is [], not [day(published_at)]",
        "its sort order is [], not [identity(id) ascending nulls first]",
        "its property `a` is not set, not `b`",
        "its property `write.parquet.compression-codec` is `zstd`, not `snappy`",
    ];
    assert_eq!(found.differences, expected);
}

#[tokio::test]
async fn init_refuses_what_a_job_could_not_run_on() {
    let folder = TempDir::new().unwrap();
    let catalog = open(folder.path());
    let unknown = format!("{COLUMNS}\nproperties = {{ \"write.merge.mode\" = \"copying\" }}");
    let error = init(&job(&unknown, ""), &catalog).await.unwrap_err();
    assert_eq!(error.exit_code(), 78);
    assert!(!folder.path().join("catalog.db").exists(), "nothing was made");

    let error = init(&job("", ""), &catalog).await.unwrap_err();
    assert!(error.to_string().contains("catalog.db` does not exist"), "{error}");
    let other = COLUMNS.replace("name = \"extra\"", "name = \"other\"");
    init(&job(&other, ""), &catalog).await.unwrap();
    let error = init(&job(COLUMNS, ""), &catalog).await.unwrap_err();
    assert_eq!(error.exit_code(), 78);
    assert!(error.to_string().contains("no column `extra`"), "{error}");
}

#[tokio::test]
async fn init_without_columns_needs_a_table() {
    let folder = TempDir::new().unwrap();
    let catalog = open(folder.path());
    let another = job(COLUMNS, "");
    let mut elsewhere = another.clone();
    elsewhere.table.name = "other".into();
    init(&elsewhere, &catalog).await.unwrap();
    let error = init(&job("", ""), &catalog).await.unwrap_err();
    assert_eq!(error.exit_code(), 78);
    assert!(error.to_string().contains("table `demo.news` does not exist"), "{error}");
    assert!(catalog.load(&crate::job::table_ident(&another)).await.unwrap().is_none());
}
