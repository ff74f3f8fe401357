//! Bad values in job files: the key is named with its line, and what is near or what may stand there.

use insta::assert_snapshot;

use super::job_file::{answered, mistaken};
use crate::program::{JOB, Place};

#[test]
fn a_bad_start() {
    assert_snapshot!(mistaken("topic =", "start = \"erliest\"\ntopic ="), @r"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: job file `job.toml` is not usable
      line 4: `kafka.start`: `erliest` is not a place to start; did you mean `earliest`?
    ");
}

#[test]
fn a_start_that_is_no_time() {
    assert_snapshot!(mistaken("topic =", "start = \"2026-13-01\"\ntopic ="), @r#"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: job file `job.toml` is not usable
      line 4: `kafka.start`: `2026-13-01` is not a place to start; expected `earliest`, `latest`, a time with its offset such as 2026-01-31T12:00:00Z, or offsets such as { "0" = 12 }
    "#);
}

#[test]
fn a_bad_unit() {
    assert_snapshot!(mistaken(r#"event_time = "at""#, "event_time = \"at\"\n[limits]\nmax_duration = \"10 mins\"\nmemory_limit = \"1 GB?\""), @r#"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: job file `job.toml` is not usable
      line 21: `limits.max_duration`: unknown unit `mins` in "10 mins"; did you mean `min`?
      line 22: `limits.memory_limit`: unknown unit `GB?` in "1 GB?"; did you mean `GB`?
    "#);
}

#[test]
fn a_bad_column_type() {
    assert_snapshot!(mistaken("timestamptz", "timestmptz"), @r"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: job file `job.toml` is not usable
      line 14: `table.columns.type`: unknown type `timestmptz`; did you mean `timestamptz`?
    ");
}

#[test]
fn a_column_twice() {
    assert_snapshot!(mistaken(r#""title", type"#, r#""id", type"#), @r"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: job file `job.toml` is not usable
      line 15: column `id` is given twice in `table.columns`
    ");
}

#[test]
fn a_bad_transform() {
    assert_snapshot!(mistaken("columns = [", "partition_by = [\"dya(at)\"]\ncolumns = ["), @r"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: job file `job.toml` is not usable
      line 12: `table.partition_by`: unknown transform `dya` in `dya(at)`; did you mean `day`?
    ");
}

#[test]
fn a_transform_that_does_not_fit_its_column() {
    assert_snapshot!(mistaken("columns = [", "partition_by = [\"day(title)\", \"bucket(id)\"]\ncolumns = ["), @r"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: job file `job.toml` is not usable
      line 12: `table.partition_by`: `bucket(id)`: write `bucket(16, id)`
      line 12: `table.partition_by`: column `title` has type string, but must be a date or a timestamp for this transform
    ");
}

#[test]
fn a_bad_sort_order() {
    assert_snapshot!(mistaken("columns = [", "sort_by = [\"at down\"]\ncolumns = ["), @r"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: job file `job.toml` is not usable
      line 12: `table.sort_by`: `down` is not an order; write `asc` or `desc`, then `nulls first` or `nulls last`
    ");
}

#[test]
fn an_unknown_value() {
    assert_snapshot!(mistaken("event_time =", "ties = \"first\"\nevent_time ="), @r"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: job file `job.toml` is not usable
      line 19: unknown value `first` for `merge.ties`; expected `replace` or `keep`
    ");
}

#[test]
fn a_mode_that_is_near_another() {
    assert_snapshot!(mistaken(r#""merge""#, r#""mrege""#), @r"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: job file `job.toml` is not usable
      line 2: unknown value `mrege` for `mode`; did you mean `merge`?
    ");
}

#[test]
fn an_id_that_is_no_column() {
    assert_snapshot!(mistaken(r#"["id"]"#, r#"["idd"]"#), @r"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: job file `job.toml` is not usable
      line 18: `merge.id`: `idd` is not a column of [table]; did you mean `id`?
    ");
}

#[test]
fn an_event_time_that_is_no_time() {
    assert_snapshot!(mistaken(r#"event_time = "at""#, r#"event_time = "title""#), @r"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: job file `job.toml` is not usable
      line 19: `merge.event_time`: column `title` has type string, but must be a date or a timestamp
    ");
}

#[test]
fn soft_deletes_without_a_flag() {
    assert_snapshot!(mistaken("event_time =", "deletes = \"soft\"\nevent_time ="), @r#"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: job file `job.toml` is not usable
      line 19: `merge.deletes`: "soft" has no effect without `tombstones = "delete"`: nothing else deletes
      line 19: `merge.deletes`: "soft" needs `deleted_column`, the boolean column that is true for deleted rows
    "#);
}

#[test]
fn a_deleted_column_that_is_no_column() {
    let flag = "tombstones = \"delete\"\ndeletes = \"soft\"\ndeleted_column = \"titel\"\nevent_time =";
    assert_snapshot!(mistaken("event_time =", flag), @r#"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: job file `job.toml` is not usable
      line 21: `merge.deleted_column`: `titel` is not a column of [table]; did you mean `title`?
    "#);
}

#[test]
fn a_deleted_column_that_is_no_flag() {
    let flag = "tombstones = \"delete\"\ndeletes = \"soft\"\ndeleted_column = \"title\"\nevent_time =";
    assert_snapshot!(mistaken("event_time =", flag), @r#"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: job file `job.toml` is not usable
      line 21: `merge.deleted_column`: column `title` has type string, but must be a boolean to say whether the row is deleted
    "#);
}

#[test]
fn soft_deletes_in_append_mode() {
    let place = Place::without_broker();
    place.write("job.toml", JOB.replace("\"merge\"", "\"append\"").replace("id = [\"id\"]", "deletes = \"soft\""));
    assert_snapshot!(answered(&place), @r#"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: job file `job.toml` is not usable
      line 18: `merge.deletes` has no meaning in mode "append", which never looks at the table
    "#);
}

#[test]
fn an_id_in_append_mode() {
    assert_snapshot!(mistaken(r#"mode = "merge""#, r#"mode = "append""#), @r#"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: job file `job.toml` is not usable
      line 18: `merge.id` has no meaning in mode "append", which never looks at the table
    "#);
}

#[test]
fn an_unknown_catalog() {
    assert_snapshot!(mistaken(r#""sql""#, r#""hive""#), @r#"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: job file `job.toml` is not usable
      line 7: `catalog.type`: "hive" cannot be written to: the Hive Metastore's own protocol gives no safe commit from here; use the Iceberg REST endpoint of the same metastore: Hive 4.1 and later serve one themselves (`metastore.catalog.servlet.port`), Gravitino and Polaris serve one in front of it
    "#);
}

#[test]
fn another_database() {
    assert_snapshot!(mistaken("sqlite://", "mysql://"), @r#"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: job file `job.toml` is not usable
      line 8: `catalog.uri`: must begin with postgresql:// or sqlite://, the databases that there are; write "postgresql://user@host/database", or "sqlite:///absolute/path/catalog.db"
    "#);
}

#[test]
fn a_warehouse_elsewhere() {
    assert_snapshot!(mistaken("file://", "hdfs://"), @r#"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: job file `job.toml` is not usable
      line 9: `catalog.warehouse`: "hdfs://[DIR]/warehouse" is of no kind that can be opened; known are file, s3, s3a, s3n, gs, abfs, abfss, wasb, wasbs
    "#);
}

#[test]
fn a_relative_warehouse() {
    assert_snapshot!(mistaken("file://${PWD}/", ""), @r#"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: job file `job.toml` is not usable
      line 9: `catalog.warehouse`: "warehouse" is a relative path; write "file://${PWD}/warehouse"
    "#);
}

#[test]
fn limits_of_nothing() {
    assert_snapshot!(mistaken(r#"event_time = "at""#, "event_time = \"at\"\n[limits]\nmax_offsets_per_trigger = 0\nmax_bytes_per_trigger = \"0 B\"\nmax_duration = \"0 s\"\nmemory_limit = \"0 B\"\nstall_timeout = \"0 s\""), @r"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: job file `job.toml` is not usable
      line 21: `limits.max_offsets_per_trigger` must be above zero
      line 22: `limits.max_bytes_per_trigger` must be above zero
      line 23: `limits.max_duration` must be above zero
      line 24: `limits.memory_limit` must be above zero
      line 25: `limits.stall_timeout` must be above zero
    ");
}

#[test]
fn too_little_memory() {
    assert_snapshot!(mistaken(r#"event_time = "at""#, "event_time = \"at\"\n[limits]\nmemory_limit = \"1 MiB\""), @r"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: job file `job.toml` is not usable
      line 21: `limits.memory_limit` must be at least 64 MiB, not 1048576 bytes
    ");
}

#[test]
fn a_bad_job_name() {
    assert_snapshot!(mistaken(r#""articles""#, r#""my articles""#), @r"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: job file `job.toml` is not usable
      line 1: `name`: `my articles` is not a job name: 1 to 64 letters, digits, `.`, `_` and `-`
    ");
}

#[test]
fn a_table_without_a_namespace() {
    assert_snapshot!(mistaken("news.articles", "articles"), @r"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: job file `job.toml` is not usable
      line 11: `table.name`: `articles` is not a table name; write it with its namespace, as in `news.articles`
    ");
}

#[test]
fn a_bad_rejects_table() {
    assert_snapshot!(mistaken(r#"event_time = "at""#, "event_time = \"at\"\n[rejects]\ntable = \"rejects\""), @r"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: job file `job.toml` is not usable
      line 21: `rejects.table`: `rejects` is not a table name; write it with its namespace, as in `news.articles`
    ");
}

#[test]
fn rejects_in_the_table_itself() {
    assert_snapshot!(mistaken(r#"event_time = "at""#, "event_time = \"at\"\n[rejects]\ntable = \"news.articles\""), @r"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: job file `job.toml` is not usable
      line 21: `rejects.table` is the job's own table; rejects have columns of their own and need another
    ");
}

#[test]
fn a_ratio_above_one() {
    assert_snapshot!(mistaken(r#"event_time = "at""#, "event_time = \"at\"\n[rejects]\nmax_ratio = 10"), @r"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: job file `job.toml` is not usable
      line 21: `rejects.max_ratio` must be a share from 0 to 1, not 10
    ");
}

#[test]
fn a_negative_delay() {
    assert_snapshot!(mistaken(r#"event_time = "at""#, "event_time = \"at\"\n[watermark]\ndelay = \"-1 h\""), @r#"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: job file `job.toml` is not usable
      line 21: `watermark.delay`: "-1 h" does not begin with a number and a unit, as "256 MiB" or "2 h" does
    "#);
}

#[test]
fn an_unknown_piece_of_metadata() {
    assert_snapshot!(mistaken(r#"event_time = "at""#, "event_time = \"at\"\n[metadata]\ncolumns = { title = \"ofset\", part = \"partition\" }"), @r"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: job file `job.toml` is not usable
      line 21: unknown value `ofset` for `metadata.columns.title`; did you mean `offset`?
      line 21: `metadata.columns.part`: `part` is not a column of [table]; columns are `id`, `at` and `title`
    ");
}

#[test]
fn an_unknown_format_version() {
    assert_snapshot!(mistaken("columns = [", "format_version = 1\ncolumns = ["), @r"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: job file `job.toml` is not usable
      line 12: `table.format_version` must be 2 or 3, not 1
    ");
}
