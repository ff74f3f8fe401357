use iceberg::spec::{PrimitiveType, TableMetadata, Type};
use serde_json::{Value, json};

use super::super::create::new_table;
use super::super::sample::{COLUMNS, appending, job};
use super::{MergeMode, describe, fit, supplied};
use crate::config::Config;

/// The sample job's own table, after an edit of its metadata as JSON.
fn table(edit: impl FnOnce(&mut Value)) -> TableMetadata {
    let metadata = new_table(&job(COLUMNS, ""), "file:///w/news".into()).unwrap();
    let mut value = serde_json::to_value(metadata).unwrap();
    edit(&mut value);
    serde_json::from_value(value).unwrap()
}

fn add_column(value: &mut Value, field: Value) {
    value["last-column-id"] = json!(50);
    value["schemas"][0]["fields"].as_array_mut().unwrap().push(field);
}

fn refusal(config: &Config, metadata: &TableMetadata) -> String {
    let error = fit(config, metadata).unwrap_err();
    assert_eq!(error.exit_code(), 78);
    format!("{error}\nhint: {}", error.hint().expect("every refusal says what to do"))
}

#[test]
fn a_job_fits_the_table_made_from_it() {
    fit(&job(COLUMNS, ""), &table(|_| ())).unwrap();
    fit(&job("", ""), &table(|_| ())).unwrap();
    fit(&appending(COLUMNS), &table(|_| ())).unwrap();
    fit(&job("", ""), &table(|value| value["properties"] = json!({}))).unwrap();
}

#[test]
fn tables_of_version_1_are_append_only() {
    let v1 = || {
        table(|value| {
            value["format-version"] = json!(1);
            value["schema"] = value["schemas"][0].clone();
            value["partition-spec"] = json!([]);
        })
    };
    let refusal = refusal(&job("", ""), &v1());
    assert!(refusal.starts_with("job `news` cannot run on table `demo.news`: the table has format version 1"), "{refusal}");
    fit(&appending(""), &v1()).unwrap();
}

#[test]
fn encrypted_tables_are_refused() {
    let encrypted = table(|value| value["properties"]["encryption.key-id"] = json!("k"));
    assert!(refusal(&appending(""), &encrypted).contains("encrypted"));
}

#[test]
fn the_merge_mode_is_javas_and_an_unknown_one_is_refused() {
    let of = |mode: &str| table(|value| value["properties"]["write.merge.mode"] = json!(mode));
    fit(&job("", ""), &of("copy-on-write")).unwrap();
    assert_eq!(MergeMode::of(&of("copy-on-write")), Ok(MergeMode::CopyOnWrite));
    assert_eq!(MergeMode::of(&of("Merge-On-Read")), Ok(MergeMode::MergeOnRead));
    let silent = table(|value| value["properties"] = json!({ "write.update.mode": "copy-on-write" }));
    assert_eq!(MergeMode::of(&silent), Ok(MergeMode::MergeOnRead));
    assert!(refusal(&job("", ""), &of("copy")).contains("`write.merge.mode` is `copy`"));
    fit(&appending(""), &of("copy")).unwrap();
}

/// Every commit of such a table would fail while its first manifest is written.
#[test]
fn a_table_partitioned_by_a_uuid_as_it_is_is_refused() {
    let partitioned = |transform: &str| {
        let field = json!({"source-id": 51, "field-id": 1009, "name": "trace", "transform": transform});
        table(|value| {
            add_column(value, json!({"id": 51, "name": "trace", "required": false, "type": "uuid"}));
            value["last-column-id"] = json!(51);
            value["last-partition-id"] = json!(1009);
            value["partition-specs"][0]["fields"].as_array_mut().unwrap().push(field);
        })
    };
    assert!(refusal(&appending(""), &partitioned("identity")).contains("partition field `trace` is a uuid column as it is"));
    fit(&appending(""), &partitioned("bucket[4]")).unwrap();
}

#[test]
fn listed_columns_must_be_there_with_their_types() {
    let text = refusal(&job(&COLUMNS.replace("name = \"extra\"", "name = \"Version\""), "unmapped = \"null\""), &table(|_| ()));
    assert!(text.contains("no column `Version`") && text.contains("called `version`"), "{text}");
    let text = refusal(&job(&COLUMNS.replace("weight: double", "weight: float"), ""), &table(|_| ()));
    let wanted = "column `tags` is list<struct<name: string, weight: double>> in the table, \
        but list<struct<name: string, weight: float>> in `[table] columns`";
    assert!(text.contains(wanted), "{text}");
    let text = refusal(&job(&COLUMNS.replace("list<int>", "list<long>"), ""), &table(|_| ()));
    assert!(text.contains("map<string, list<int>>"), "{text}");
}

#[test]
fn merge_columns_must_be_there_and_comparable() {
    let without = |name: &str| {
        let name = name.to_owned();
        table(move |value| {
            value["schemas"][0].as_object_mut().unwrap().remove("identifier-field-ids");
            value["schemas"][0]["fields"].as_array_mut().unwrap().retain(|field| field["name"] != name.as_str());
        })
    };
    for (column, setting) in [("id", "merge.id"), ("published_at", "merge.event_time"), ("version", "merge.order_by")] {
        let text = refusal(&job("", ""), &without(column));
        assert!(text.contains(&format!("no column `{column}`, which `{setting}` names")), "{text}");
        assert!(text.contains("its columns are `"), "{text}");
    }
    let retyped = |at: usize, to: &str| {
        let to = to.to_owned();
        table(move |value| value["schemas"][0]["fields"][at]["type"] = json!(to))
    };
    assert!(
        refusal(&job("", ""), &retyped(1, "string")).contains("`merge.event_time` names `published_at`, a column of type string")
    );
    for time in ["date", "timestamp", "timestamptz"] {
        fit(&job("", ""), &retyped(1, time)).unwrap();
    }
    let nested = table(|value| {
        value["schemas"][0]["fields"][2]["type"] =
            json!({ "type": "list", "element-id": 20, "element": "int", "element-required": false });
        value["last-column-id"] = json!(20);
    });
    assert!(refusal(&job("", ""), &nested).contains("`merge.order_by` names `version`, a column of type list<int>"));
}

#[test]
fn columns_that_the_job_does_not_fill_need_a_word() {
    let wider = table(|value| add_column(value, json!({ "id": 50, "name": "later", "required": false, "type": "int" })));
    let text = refusal(&job(COLUMNS, ""), &wider);
    assert!(text.contains("does not fill column `later`") && text.contains("`merge.unmapped = \"null\"`"), "{text}");
    for said in ["unmapped = \"null\"", "unmapped = \"keep\""] {
        fit(&job(COLUMNS, said), &wider).unwrap();
    }
    fit(&job("", ""), &wider).unwrap();
    fit(&appending(COLUMNS), &wider).unwrap();

    let required = table(|value| add_column(value, json!({ "id": 50, "name": "later", "required": true, "type": "int" })));
    for config in [job(COLUMNS, "unmapped = \"null\""), job(COLUMNS, "unmapped = \"keep\""), appending(COLUMNS)] {
        assert!(refusal(&config, &required).contains("does not fill `later`, a required column"));
    }
}

#[test]
fn metadata_columns_must_be_there() {
    let text = refusal(&job("", "[metadata]\ncolumns = { src = \"topic\" }"), &table(|_| ()));
    assert!(text.contains("no column `src`, which `metadata.columns` names"), "{text}");
    let wider = table(|value| add_column(value, json!({ "id": 50, "name": "src", "required": true, "type": "string" })));
    let config = job("", "[metadata]\ncolumns = { src = \"topic\" }");
    fit(&config, &wider).unwrap();
    assert!(supplied(&config, wider.current_schema()).contains("src"));
}

#[test]
fn a_soft_delete_must_be_a_row_that_the_table_takes() {
    let soft = |flag: &str, rest: &str| {
        job("", &format!("tombstones = \"delete\"\ndeletes = \"soft\"\ndeleted_column = \"{flag}\"\n{rest}"))
    };
    let with = |name: &str, kind: &str, required: bool| {
        let field = json!({ "id": 50, "name": name, "required": required, "type": kind });
        table(move |value| add_column(value, field))
    };
    for required in [true, false] {
        fit(&soft("gone", ""), &with("gone", "boolean", required)).unwrap();
    }
    assert!(refusal(&soft("gone", ""), &table(|_| ())).contains("no column `gone`, which `merge.deleted_column` names"));
    let text = refusal(&soft("gone", ""), &with("gone", "int", false));
    assert!(text.contains("`merge.deleted_column` names `gone`, a column of type int"), "{text}");

    let required = |name: &str, kind: &str| {
        let mut value = serde_json::to_value(with("gone", "boolean", false)).unwrap();
        value["last-column-id"] = json!(51);
        let field = json!({ "id": 51, "name": name, "required": true, "type": kind });
        value["schemas"][0]["fields"].as_array_mut().unwrap().push(field);
        serde_json::from_value::<TableMetadata>(value).unwrap()
    };
    let text = refusal(&soft("gone", ""), &required("title", "string"));
    assert!(text.contains("column `title` is required, and a delete") && text.contains("DROP NOT NULL"), "{text}");
    fit(&soft("gone", "[metadata]\ncolumns = { title = \"topic\" }"), &required("title", "string")).unwrap();
    let text = refusal(&soft("gone", "[metadata]\ncolumns = { title = \"sha256\" }"), &required("title", "string"));
    assert!(text.contains("column `title` is required, and a delete"), "{text}");
}

#[test]
fn every_reason_is_named_at_once() {
    let wrong = table(|value| {
        value["properties"] = json!({ "write.merge.mode": "copying" });
        value["schemas"][0]["fields"][1]["type"] = json!("string");
        add_column(value, json!({ "id": 50, "name": "later", "required": true, "type": "int" }));
    });
    let text = refusal(&job(COLUMNS, ""), &wrong);
    for reason in ["`copying`", "column `published_at` is string", "`merge.event_time` names", "required column"] {
        assert!(text.contains(reason), "{reason}: {text}");
    }
    assert_eq!(text.matches("\n  ").count(), 4, "{text}");
}

#[test]
fn types_are_written_as_the_job_file_writes_them() {
    let config = job(COLUMNS, "");
    let written: Vec<_> = config.table.columns.iter().map(|column| describe(&column.field_type)).collect();
    assert_eq!(written, ["string", "timestamptz", "long", "list<struct<name: string, weight: double>>", "map<string, list<int>>",]);
    assert_eq!(describe(&Type::Primitive(PrimitiveType::Decimal { precision: 9, scale: 2 })), "decimal(9, 2)");
}
