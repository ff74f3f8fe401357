//! Bad job files: every mistake is named with its line, nothing is contacted, and the exit code is 78.

use insta::assert_snapshot;

use crate::program::{JOB, Place};

/// The answer to a job file with one change, which is the same from every command.
#[track_caller]
pub(super) fn mistaken(from: &str, to: &str) -> String {
    let place = Place::without_broker();
    place.change("job.toml", from, to);
    answered(&place)
}

#[track_caller]
pub(super) fn answered(place: &Place) -> String {
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
