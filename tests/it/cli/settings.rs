//! What overrides a job file: variables, `--set`, the catalogs file; and `check --show`, which tells them apart.

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::broker::Broker;
use crate::program::{JOB, Place};

const CATALOGS: &str = r#"[local]
type = "sql"
uri = "sqlite://${PWD}/shared.db"
warehouse = "file://${PWD}/shared"

[local.s3]
endpoint = "https://s3.example"
secret-access-key = "${SECRET:-none}"
"#;

/// A job that uses the catalog `local`, beside the file that names it.
fn shared(place: &Place) {
    let (before, after) = JOB.split_once("[catalog]\n").unwrap();
    let (_, after) = after.split_once("[table]").unwrap();
    place.write("job.toml", format!("{before}[catalog]\nuse = \"local\"\n[table]{after}"));
    place.write("catalogs.toml", CATALOGS);
}

#[test]
fn a_job_as_it_takes_effect() {
    let place = Place::without_broker()
        .with("TIDEGATE__KAFKA__SASL_PASSWORD", "open-sesame")
        .with("tidegate__limits__max_duration", "90 s")
        .with("TIDEGATE__MERGE__ORDER_BY", "[\"title\"]");
    shared(&place);
    // The comments stand below one another, wherever this test runs.
    place.write("catalogs.toml", CATALOGS.replace("${PWD}", "/srv"));
    let sets = "--set kafka.topic=ebb --set kafka.topic=flood --set catalog.s3.region=eu --set table.properties.write.format.default=parquet";
    assert_snapshot!(place.tidegate(&format!("check job.toml --show {sets}")), @r#"
    exit code: 0
    ----- stdout -----
    # job.toml as it takes effect, and where each value comes from
    name = "articles"  # line 1
    mode = "merge"     # line 2

    [kafka]
    topic = "flood"                      # --set kafka.topic
    start = "earliest"                   # default
    on_data_loss = "fail"                # default
    mirror_group = true                  # default
    "bootstrap.servers" = "[BROKER]"  # line 5
    "sasl.password" = "***"              # variable TIDEGATE__KAFKA__SASL_PASSWORD

    [format]
    type = "json"              # default
    epoch_unit = "ms"          # default
    unknown_fields = "ignore"  # default

    [catalog]
    type = "sql"                          # catalogs.toml, line 2
    name = "local"                        # catalogs.toml, line 1
    uri = "sqlite:///srv/shared.db"       # catalogs.toml, line 3
    warehouse = "file:///srv/shared"      # catalogs.toml, line 4
    "s3.endpoint" = "https://s3.example"  # catalogs.toml, line 7
    "s3.region" = "eu"                    # --set catalog.s3.region
    "s3.secret-access-key" = "***"        # catalogs.toml, line 8

    [table]
    name = "news.articles"  # line 9
    branch = "main"         # default
    columns = [
        { name = "id", required = true, type = "string" },
        { name = "at", required = true, type = "timestamptz" },
        { name = "title", type = "string" },
    ]                       # line 10
    partition_by = []       # default
    sort_by = []            # default
    format_version = 2      # default

    [table.properties]
    "write.format.default" = "parquet"  # --set table.properties.write.format.default

    [merge]
    id = ["id"]            # line 16
    event_time = "at"      # line 17
    order_by = ["title"]   # variable TIDEGATE__MERGE__ORDER_BY
    ties = "replace"       # default
    match = "table"        # default
    tombstones = "reject"  # default
    deletes = "hard"       # default
    unmapped = "refuse"    # default

    [watermark]
    delay = "0 s"       # default
    late = "reject"     # default
    max_future = "1 h"  # default

    [limits]
    max_offsets_per_trigger = 1000000  # default
    max_bytes_per_trigger = "1 GiB"    # default
    max_duration = "90 s"              # variable tidegate__limits__max_duration
    min_offsets_per_trigger = 0        # default
    max_trigger_delay = "15 min"       # default
    memory_limit = "1 GiB"             # default
    stall_timeout = "1 min"            # default
    shutdown_grace = "25 s"            # default

    [rejects]
    table = "news.articles_rejects"  # default
    max_ratio = 1.0                  # default

    [verify]
    unique = []  # default
    ----- stderr -----
    "#);
}

#[test]
fn a_job_as_it_takes_effect_for_machines() {
    let place = Place::without_broker().with("TIDEGATE__TABLE__BRANCH", "audit").with("SECRET", "open-sesame");
    shared(&place);
    let shown = place.tidegate("check job.toml --show --set merge.id=[\"id\",\"title\"] --output json").expect(0).json();
    assert_eq!((&shown["command"], &shown["job"], &shown["exit_code"]), (&json!("check"), &json!("articles"), &json!(0)));
    let row = |key: &str| {
        let rows = shown["settings"].as_array().unwrap().iter();
        rows.filter(|row| row["key"] == key).cloned().collect::<Vec<Value>>()
    };
    for (key, value, secret, from) in [
        ("kafka.topic", json!("tide"), false, json!({ "kind": "file", "file": "job.toml", "line": 4 })),
        (
            "catalog.uri",
            json!(format!("sqlite://{}/shared.db", place.path().display())),
            false,
            json!({ "kind": "catalogs", "file": "catalogs.toml", "line": 3 }),
        ),
        ("catalog.\"s3.secret-access-key\"", json!("***"), true, json!({ "kind": "catalogs", "file": "catalogs.toml", "line": 8 })),
        ("table.branch", json!("audit"), false, json!({ "kind": "variable", "variable": "TIDEGATE__TABLE__BRANCH" })),
        ("merge.id", json!(["id", "title"]), false, json!({ "kind": "set" })),
        ("limits.memory_limit", json!("1 GiB"), false, json!({ "kind": "default" })),
        ("kafka.mirror_group", json!(true), false, json!({ "kind": "default" })),
    ] {
        assert_eq!(row(key), [json!({ "key": key, "value": value, "secret": secret, "from": from })]);
    }
}

/// What is shown is a job file: with its own text as the job it shows the same values, each of the file.
#[test]
fn what_is_shown_can_be_run() {
    let broker = Broker::with_articles();
    let place = Place::new(&broker.address());
    shared(&place);
    let shown = place.tidegate("check job.toml --show").expect(0).stdout;
    let alone = Place::new(&broker.address());
    alone.write("job.toml", &shown);
    let again = alone.tidegate("check job.toml --show").expect(0).stdout;
    let values = |text: &str| text.lines().map(|line| line.split("  # ").next().unwrap().trim_end().to_owned()).collect::<Vec<_>>();
    assert_eq!(values(&shown), values(&again));
    alone.tidegate("init job.toml").expect(0);
    alone.tidegate("run job.toml").expect(0);
    assert_eq!(place.tidegate("status job.toml --output json").expect(0).json()["last_batch"]["batch"], 1);
}

#[test]
fn every_command_takes_overrides() {
    let broker = Broker::with_articles();
    let place =
        Place::new(&broker.address()).with("TIDEGATE__TABLE__NAME", "other.table").with("TIDEGATE__KAFKA__TOPIC", "nowhere");
    for command in ["init", "check", "plan", "run", "status", "verify", "clean", "reset --to earliest"] {
        let answer = place.tidegate(&format!("{command} job.toml --set kafka.topic=tide --output json")).expect(0);
        assert!(command == "clean" || answer.stdout.contains("other") && answer.stdout.contains("table"), "{command}\n{answer}");
    }
    assert_eq!(place.tidegate("run job.toml").code(), 78);
}

#[test]
fn mistakes_name_where_the_value_came_from() {
    let place = Place::without_broker()
        .with("TIDEGATE__KAFKA__TOPC", "x")
        .with("TIDEGATE__LIMITS__MAX_DURATION", "soon")
        .with("TIDEGATE__WATERMARK__LATE", "dorp");
    place.change("job.toml", "mode = \"merge\"", "mode = \"mrege\"");
    assert_snapshot!(place.tidegate("run job.toml --set merge.match=tabel --set kafak.x=1 --set kafka.ssl.key.password=open-sesame"), @r#"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: job file `job.toml` is not usable
      line 2: unknown value `mrege` for `mode`; did you mean `merge`?
      variable TIDEGATE__KAFKA__TOPC: names no key; did you mean TIDEGATE__KAFKA__TOPIC?
      variable TIDEGATE__LIMITS__MAX_DURATION: `limits.max_duration`: "soon" does not begin with a number and a unit, as "256 MiB" or "2 h" does
      variable TIDEGATE__WATERMARK__LATE: unknown value `dorp` for `watermark.late`; did you mean `drop`?
      --set merge.match: unknown value `tabel` for `merge.match`; did you mean `table`?
      --set kafak.x: unknown table [kafak]; did you mean [kafka]?
      --set kafka.ssl.key.password: a secret has no place on the command line, where others can read it; set TIDEGATE__KAFKA__SSL_KEY_PASSWORD, or name a file with `file:PATH`
    "#);
}

#[test]
fn a_catalogs_file_with_a_mistake_names_its_own_file_and_line() {
    let place = Place::without_broker();
    shared(&place);
    place.write("catalogs.toml", CATALOGS.replace("warehouse", "warehose").replace("\"sql\"", "\"sqll\""));
    assert_snapshot!(place.tidegate("plan job.toml"), @r"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: job file `job.toml` is not usable
      catalogs.toml, line 2: unknown value `sqll` for `catalog.type`; did you mean `sql`?
      catalogs.toml, line 4: unknown key `warehose`; did you mean `warehouse`?
    ");
    place.write("catalogs.toml", CATALOGS.replace("[local]", "[local"));
    assert_snapshot!(place.tidegate("plan job.toml"), @r"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: job file `job.toml` is not usable
      catalogs.toml, line 1: not TOML: unclosed table, expected `]`
    ");
    place.write("catalogs.toml", CATALOGS.replace("local", "locale"));
    assert_snapshot!(place.tidegate("plan job.toml"), @r"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: job file `job.toml` is not usable
      line 7: `catalog.use`: no catalog `local` in `catalogs.toml`; did you mean `locale`?
    ");
}

#[test]
fn the_catalogs_file_is_found_in_three_places() {
    let show = |place: &Place, options: &str| {
        let shown = place.tidegate(&format!("check job.toml --show --output json {options}")).expect(0).json();
        let rows = shown["settings"].as_array().unwrap().clone();
        rows.iter().find(|row| row["key"] == "catalog.uri").unwrap()["from"]["file"].as_str().unwrap().to_owned()
    };
    let place = Place::without_broker();
    shared(&place);
    assert_eq!(show(&place, ""), "catalogs.toml");
    let place = place.with("TIDEGATE_CATALOGS", "elsewhere.toml");
    assert_snapshot!(place.tidegate("check job.toml"), @r"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: job file `job.toml` is not usable
      line 7: `catalog.use`: cannot read `elsewhere.toml`: No such file or directory (os error 2)
    ");
    place.write("elsewhere.toml", CATALOGS);
    place.write("given.toml", CATALOGS);
    assert_eq!(show(&place, ""), "elsewhere.toml");
    assert_eq!(show(&place, "--catalogs given.toml"), "given.toml");
    let place = Place::without_broker();
    shared(&place);
    std::fs::remove_file(place.path().join("catalogs.toml")).unwrap();
    assert_snapshot!(place.tidegate("check job.toml"), @r"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: job file `job.toml` is not usable
      line 7: `catalog.use` needs a catalogs file: name it with --catalogs FILE or TIDEGATE_CATALOGS, or put `catalogs.toml` beside the job file
    ");
}

#[test]
fn two_jobs_share_a_catalog() {
    let broker = Broker::with_articles();
    let place = Place::new(&broker.address());
    shared(&place);
    std::fs::create_dir(place.path().join("more")).unwrap();
    place.write(
        "more/job.toml",
        place.read("job.toml").replace("news.articles", "news.others").replace("name = \"articles\"", "name = \"others\""),
    );
    for job in ["job.toml", "more/job.toml --catalogs catalogs.toml"] {
        place.tidegate(&format!("init {job}")).expect(0);
        place.tidegate(&format!("run {job}")).expect(0);
    }
    assert!(place.path().join("shared.db").exists() && !place.path().join("catalog.db").exists());
}

#[test]
fn a_set_that_is_none_is_a_mistake_on_the_command_line() {
    let place = Place::without_broker();
    assert_snapshot!(place.tidegate("run job.toml --set kafka.topic"), @r"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: invalid value 'kafka.topic' for '--set <KEY=VALUE>': write it KEY=VALUE, as in kafka.topic=articles

    For more information, try '--help'.
    ");
    assert_eq!(place.tidegate("demo --set kafka.topic=x").code(), 2);
}
