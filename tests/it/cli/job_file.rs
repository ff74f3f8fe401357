//! Bad job files: every mistake is named with its line, nothing is contacted, and the exit code is 78.

use insta::assert_snapshot;

use crate::program::{JOB, Place};

/// The answer to a job file with one change, which is the same from every command.
#[track_caller]
fn mistaken(from: &str, to: &str) -> String {
    let place = Place::without_broker();
    place.change("job.toml", from, to);
    answered(&place)
}

#[track_caller]
fn answered(place: &Place) -> String {
    let checked = place.tidegate("check job.toml").expect(78).to_string();
    for command in ["run", "plan", "init", "status"] {
        assert_eq!(place.tidegate(&format!("{command} job.toml")).to_string(), checked, "{command}");
    }
    checked
}

#[test]
fn a_file_that_is_not_toml() {
    assert_snapshot!(mistaken("[kafka]", "[kafka"), @r"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: job file `job.toml` is not usable
      line 3: not TOML: unclosed table, expected `]`
    ");
}

#[test]
fn the_same_key_twice() {
    assert_snapshot!(mistaken(r#"topic = "tide""#, "topic = \"tide\"\ntopic = \"ebb\""), @r"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: job file `job.toml` is not usable
      line 5: not TOML: duplicate key
    ");
}

#[test]
fn an_unknown_key() {
    assert_snapshot!(mistaken("topic =", "topc ="), @r"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: job file `job.toml` is not usable
      line 4: unknown key `topc` in [kafka]; did you mean `topic`?
    ");
}

#[test]
fn a_key_in_the_wrong_table() {
    assert_snapshot!(mistaken("event_time =", "delay = \"2 h\"\nevent_time ="), @r"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: job file `job.toml` is not usable
      line 19: unknown key `delay` in [merge]; it belongs in [watermark]
    ");
}

#[test]
fn an_unknown_table() {
    assert_snapshot!(mistaken(r#"event_time = "at""#, "event_time = \"at\"\n[watermak]"), @r"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: job file `job.toml` is not usable
      line 20: unknown table [watermak]; did you mean [watermark]?
    ");
}

#[test]
fn a_wrong_type() {
    assert_snapshot!(mistaken(r#""tide""#, "7"), @r"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: job file `job.toml` is not usable
      line 4: `kafka.topic` must be a string, not an integer
    ");
}

#[test]
fn a_variable_that_is_not_set() {
    assert_snapshot!(mistaken("${BROKER}", "${BROKERS}"), @r#"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: job file `job.toml` is not usable
      line 5: `kafka."bootstrap.servers"`: environment variable `BROKERS` is not set; set it, or write `${BROKERS:-default}`
    "#);
}

#[test]
fn a_property_that_would_break_the_guarantee() {
    assert_snapshot!(mistaken("topic =", "\"enable.auto.commit\" = true\ntopic ="), @r"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: job file `job.toml` is not usable
      line 4: `enable.auto.commit` cannot be set in [kafka]: offsets are kept in the table and nowhere else
    ");
}

#[test]
fn a_consumer_group() {
    assert_snapshot!(mistaken("topic =", "\"group.id\" = \"mine\"\ntopic ="), @r"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: job file `job.toml` is not usable
      line 4: `group.id` cannot be set in [kafka]: tidegate never joins a consumer group; `mirror_group` shows the offsets in the group `tidegate-<name>`
    ");
}

#[test]
fn an_unknown_property() {
    assert_snapshot!(mistaken("topic =", "\"fetch.max.byte\" = 1\ntopic ="), @r"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: job file `job.toml` is not usable
      line 4: librdkafka has no property `fetch.max.byte`; did you mean `fetch.max.bytes`?
    ");
}

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
fn a_missing_key() {
    assert_snapshot!(mistaken(r#"event_time = "at""#, ""), @r"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: job file `job.toml` is not usable
      line 17: missing key `event_time` in [merge]
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
fn a_rest_catalog() {
    assert_snapshot!(mistaken(r#""sql""#, r#""rest""#), @r#"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: job file `job.toml` is not usable
      line 7: `catalog.type`: "rest" is not built yet; the only catalog today is "sql"
    "#);
}

#[test]
fn an_unknown_catalog() {
    assert_snapshot!(mistaken(r#""sql""#, r#""hive""#), @r"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: job file `job.toml` is not usable
      line 7: unknown value `hive` for `catalog.type`; expected `sql`
    ");
}

#[test]
fn another_database() {
    assert_snapshot!(mistaken("sqlite://", "postgres://"), @r#"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: job file `job.toml` is not usable
      line 8: `catalog.uri`: must begin with sqlite://, the only database today; write "sqlite:///absolute/path/catalog.db"
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

#[test]
fn several_mistakes_come_all_at_once_in_the_order_of_the_file() {
    let place = Place::without_broker();
    let job = JOB.replace("mode =", "mood =").replace("\"tide\"", "[\"a\", \"b\"]").replace("timestamptz", "time stamp");
    place.write("job.toml", job.replace("id = [\"id\"]", "id = [\"title\", \"ID\"]\nmatch = \"all\""));
    assert_snapshot!(answered(&place), @r"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: job file `job.toml` is not usable
      line 2: unknown key `mood`; known are `name`, `mode`, `kafka`, `format`, `metadata`, `catalog`, `table`, `merge`, `watermark`, `limits`, `rejects` and `verify`
      line 4: `kafka.topic` must be a string, not an array
      line 14: `table.columns.type`: expected the end before `stamp` in type `time stamp`
      line 18: `merge.id`: `ID` is not a column of [table]; did you mean `id`?
      line 19: unknown value `all` for `merge.match`; expected `table` or `watermark`
    ");
}

#[test]
fn an_empty_file_lacks_everything_that_is_required() {
    let place = Place::without_broker();
    place.write("job.toml", "");
    assert_snapshot!(answered(&place), @r"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: job file `job.toml` is not usable
      missing key `name` in [table]
      missing key `id` in [merge]
      missing key `event_time` in [merge]
      missing key `name`
      missing key `topic` in [kafka]
      missing key `bootstrap.servers` in [kafka]
      missing key `type` in [catalog]
      missing key `uri` in [catalog]
      missing key `warehouse` in [catalog]
    ");
}

#[test]
fn a_file_that_is_not_there() {
    let place = Place::without_broker();
    std::fs::remove_file(place.path().join("job.toml")).unwrap();
    assert_snapshot!(answered(&place), @r"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: job file `job.toml` is not usable
      cannot read it: No such file or directory (os error 2)
    ");
}

#[test]
fn a_directory_in_place_of_a_file() {
    let place = Place::without_broker();
    std::fs::remove_file(place.path().join("job.toml")).unwrap();
    std::fs::create_dir(place.path().join("job.toml")).unwrap();
    assert_snapshot!(answered(&place), @r"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: job file `job.toml` is not usable
      cannot read it: Is a directory (os error 21)
    ");
}

#[test]
fn a_file_that_is_not_text() {
    let place = Place::without_broker();
    place.write("job.toml", b"name = \"\xff\xfe\"");
    assert_snapshot!(answered(&place), @r"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: job file `job.toml` is not usable
      cannot read it: stream did not contain valid UTF-8
    ");
}

#[test]
fn a_secret_is_never_shown() {
    let place = Place::without_broker().with("PASSWORD", "open-sesame");
    for line in [
        "\"sasl.password\" = \"${PASSWORD}\"\nstart = \"soon\"",
        "\"sasl.password\" = \"${PASSWORD}",
        "sasl.pasword = \"${PASSWORD}\"",
    ] {
        place.change("job.toml", "topic =", &format!("{line}\ntopic ="));
        let answer = place.tidegate("run job.toml --output json -vv").expect(78);
        assert!(!answer.stdout.contains("open-sesame") && !answer.stderr.contains("open-sesame"), "{line}\n{answer}");
    }
}
