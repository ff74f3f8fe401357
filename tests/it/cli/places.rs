//! What a job names but does not find: broker, topic, database, table, columns, state.

use std::net::TcpListener;
use std::time::Duration;

use insta::assert_snapshot;

use crate::broker::Broker;
use crate::program::{JOB, Place, stopwatch};

#[test]
fn a_broker_that_refuses_is_named_soon() {
    let place = Place::without_broker();
    place.tidegate("init job.toml").expect(0);
    let took = stopwatch();
    assert_snapshot!(place.tidegate("run job.toml"), @r"
    exit code: 75
    ----- stdout -----
    ----- stderr -----
    error: could not look up topic `tide` on [BROKER]
      cause: [BROKER]/bootstrap: Connect to ipv4#[BROKER] failed: Connection refused (after ..

    hint: running again is safe; if it keeps failing, `tidegate check` tests each connection
    ");
    assert!(took() < Duration::from_secs(9), "{:?}", took());
    assert_snapshot!(place.tidegate("plan job.toml"), @r"
    exit code: 75
    ----- stdout -----
    ----- stderr -----
    error: could not look up topic `tide` on [BROKER]
      cause: [BROKER]/bootstrap: Connect to ipv4#[BROKER] failed: Connection refused (after ..

    hint: running again is safe; if it keeps failing, `tidegate check` tests each connection
    ");
    assert_snapshot!(place.tidegate("status job.toml"), @r"
    exit code: 0
    ----- stdout -----
    job articles · topic tide · table news.articles
    no batch yet
    watermark   none yet
    lag         unknown: could not look up topic `tide` on [BROKER]
    ----- stderr -----
    ");
}

#[test]
fn one_broker_of_two_is_enough() {
    let broker = Broker::with_articles();
    let place = Place::new(&format!("127.0.0.1:1,{}", broker.address()));
    place.tidegate("init job.toml").expect(0);
    assert_eq!(place.tidegate("run job.toml --output json").expect(0).json()["outcome"], "committed");
}

#[test]
fn a_broker_that_never_answers_is_given_up() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = Place::new(&silent.local_addr().unwrap().to_string());
    place.tidegate("init job.toml").expect(0);
    let took = stopwatch();
    assert_snapshot!(place.tidegate("run job.toml"), @r"
    exit code: 75
    ----- stdout -----
    ----- stderr -----
    error: could not look up topic `tide` on [BROKER]
      cause: no answer within 10 s

    hint: running again is safe; if it keeps failing, `tidegate check` tests each connection
    ");
    assert!(took() < Duration::from_secs(60), "{:?}", took());
}

#[test]
fn a_name_that_does_not_resolve() {
    let place = Place::new("nowhere.invalid:9092");
    place.tidegate("init job.toml").expect(0);
    let answer = place.tidegate("run job.toml").expect(75);
    assert!(answer.stderr.contains("nowhere.invalid:9092"), "{answer}");
}

#[test]
fn a_topic_that_does_not_exist() {
    let broker = Broker::start();
    let place = Place::new(&broker.address());
    place.tidegate("init job.toml").expect(0);
    place.change("job.toml", "\"tide\"", "\"ebb\"");
    assert_snapshot!(place.tidegate("run job.toml"), @r"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: topic `ebb` does not exist on [BROKER]

    hint: `kafka.topic` names the topic; tidegate creates none
    ");
    assert_snapshot!(place.tidegate("check job.toml"), @r"
    exit code: 78
    ----- stdout -----
    ok    job file   job `articles`
    ok    table      `news.articles`, format v2, 3 columns, at file://[DIR]/warehouse/news/articles
    ok    state      no batch yet
    ok    rejects    `news.articles_rejects` will be made for the first reject
    FAIL  topic      topic `ebb` does not exist on [BROKER]
                     hint: `kafka.topic` names the topic; tidegate creates none
    ----- stderr -----
    ");
    assert_snapshot!(place.tidegate("status job.toml"), @r"
    exit code: 0
    ----- stdout -----
    job articles · topic ebb · table news.articles
    no batch yet
    watermark   none yet
    lag         unknown: topic `ebb` does not exist on [BROKER]
    ----- stderr -----
    ");
}

#[test]
fn a_start_in_a_partition_that_does_not_exist() {
    let broker = Broker::start();
    let place = Place::new(&broker.address());
    place.tidegate("init job.toml").expect(0);
    place.change("job.toml", "topic =", "start = { \"2\" = 5 }\ntopic =");
    assert_snapshot!(place.tidegate("run job.toml"), @r"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: `kafka.start` names partition 2, which topic `tide` does not have

    hint: its partitions are 0 to 1
    ");
    assert_snapshot!(place.tidegate("check job.toml"), @r"
    exit code: 78
    ----- stdout -----
    ok    job file   job `articles`
    ok    table      `news.articles`, format v2, 3 columns, at file://[DIR]/warehouse/news/articles
    ok    state      no batch yet
    ok    rejects    `news.articles_rejects` will be made for the first reject
    FAIL  topic      `kafka.start` names partition 2, which topic `tide` does not have
                     hint: its partitions are 0 to 1
    ----- stderr -----
    ");
}

#[test]
fn a_property_that_librdkafka_refuses() {
    let place = Place::without_broker();
    place.tidegate("init job.toml").expect(0);
    place.change("job.toml", "topic =", "\"fetch.max.bytes\" = \"many\"\ntopic =");
    assert_snapshot!(place.tidegate("run job.toml"), @r#"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: Kafka property `fetch.max.bytes` is not usable: Invalid value for configuration property "fetch.max.bytes"

    hint: keys of `[kafka]` with a dot are librdkafka's own properties (its CONFIGURATION.md lists them)
    "#);
}

#[test]
fn a_database_that_does_not_exist() {
    let broker = Broker::start();
    let place = Place::new(&broker.address());
    let answer = place.tidegate("run job.toml").to_string();
    assert_snapshot!(answer, @r"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: catalog database `[DIR]/catalog.db` does not exist

    hint: `tidegate init` creates it and the table; is the path right, and the volume mounted?
    ");
    for command in ["plan", "status"] {
        assert_eq!(place.tidegate(&format!("{command} job.toml")).to_string(), answer, "{command}");
    }
    assert_snapshot!(place.tidegate("check job.toml"), @r"
    exit code: 78
    ----- stdout -----
    ok    job file   job `articles`
    FAIL  table      catalog database `[DIR]/catalog.db` does not exist
                     hint: `tidegate init` creates it and the table; is the path right, and the volume mounted?
    FAIL  rejects    catalog database `[DIR]/catalog.db` does not exist
                     hint: `tidegate init` creates it and the table; is the path right, and the volume mounted?
    ok    topic      `tide`, 2 partitions, 0 offsets
    ----- stderr -----
    ");
    assert!(!place.path().join("catalog.db").exists(), "only init makes it");
}

#[test]
fn a_database_that_is_none() {
    let place = Place::without_broker();
    place.write("catalog.db", "this is not SQLite, but it is long enough to have a header of one ".repeat(99));
    let answer = place.tidegate("run job.toml");
    assert!(answer.code() == 78 && answer.stderr.contains("catalog.db"), "{answer}");
}

#[test]
fn a_table_that_does_not_exist() {
    let broker = Broker::start();
    let place = Place::new(&broker.address());
    place.change("other.toml", "news.articles", "news.others");
    place.tidegate("init other.toml").expect(0);
    let answer = place.tidegate("run job.toml").to_string();
    assert_snapshot!(answer, @r"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: table `news.articles` does not exist

    hint: `tidegate init JOB` creates it
    ");
    for command in ["plan", "status"] {
        assert_eq!(place.tidegate(&format!("{command} job.toml")).to_string(), answer, "{command}");
    }
    assert_snapshot!(place.tidegate("check job.toml"), @r"
    exit code: 78
    ----- stdout -----
    ok    job file   job `articles`
    FAIL  table      table `news.articles` does not exist
                     hint: `tidegate init JOB` creates it
    ok    rejects    `news.articles_rejects` will be made for the first reject
    ok    topic      `tide`, 2 partitions, 0 offsets
    ----- stderr -----
    ");
}

#[test]
fn a_table_without_its_files() {
    let broker = Broker::start();
    let place = Place::new(&broker.address());
    place.tidegate("init job.toml").expect(0);
    std::fs::remove_dir_all(place.path().join("warehouse")).unwrap();
    let answer = place.tidegate("run job.toml");
    assert!(answer.code() == 78 && answer.stderr.contains("news/articles/metadata"), "{answer}");
}

#[test]
fn a_schema_that_does_not_fit() {
    let broker = Broker::start();
    let place = Place::new(&broker.address());
    let columns =
        JOB.replace("\"title\", type = \"string\"", "\"title\", type = \"long\"").replace("{ name = \"at\"", "{ name = \"when\"");
    place.write("other.toml", columns.replace("event_time = \"at\"", "event_time = \"when\""));
    place.tidegate("init other.toml").expect(0);
    assert_snapshot!(place.tidegate("run job.toml"), @r"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: job `articles` cannot run on table `news.articles`:
             the table has no column `at`, which `table.columns` names (its columns are `id`, `when`, `title`; add the column to the table, or change the job file)
             column `title` is long in the table, but string in `[table] columns` (make them the same; without `columns` the job takes the table's own)
             the job does not fill `when`, a required column of the table (add it to `[table] columns`, or make it optional in the table)

    hint: `tidegate init` makes a table that fits the job file, under a name that is free
    ");
    let checked = place.tidegate("check job.toml").expect(78);
    for column in ["no column `at`", "column `title` is long", "does not fill `when`"] {
        assert!(checked.stdout.contains(column), "{checked}");
    }
}

#[test]
fn a_column_that_the_job_does_not_supply() {
    let broker = Broker::with_articles();
    let place = Place::new(&broker.address());
    place.tidegate("init job.toml").expect(0);
    place.change("job.toml", "    { name = \"title\", type = \"string\" },\n", "");
    assert_snapshot!(place.tidegate("run job.toml"), @r#"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: job `articles` cannot run on table `news.articles`: the job does not fill column `title` of the table

    hint: add it to `[table] columns`, or say what becomes of it: `merge.unmapped = "null"` or `"keep"`
    "#);
    for answer in ["null", "keep"] {
        let job = place.read("job.toml").replace("[merge]", &format!("[merge]\nunmapped = \"{answer}\""));
        place.write("decided.toml", job);
        place.tidegate("check decided.toml").expect(0);
    }
    assert_eq!(place.tidegate("run decided.toml --output json").expect(0).json()["records"]["inserted"], 3);
}

#[test]
fn a_table_that_others_wrote_is_a_question() {
    let broker = Broker::with_articles();
    let place = Place::new(&broker.address());
    place.tidegate("init job.toml").expect(0);
    place.tidegate("run job.toml").expect(0);
    place.change("other.toml", "\"articles\"", "\"others\"");
    assert_snapshot!(place.tidegate("run other.toml"), @r"
    exit code: 65
    ----- stdout -----
    ----- stderr -----
    error: table `news.articles` has snapshots, but no state of job `others`

    hint: if this job never wrote the table, say so with `--first-run`; if it did under another `name`, use that name; if its state was lost, `tidegate reset JOB --to earliest --execute` gives it a new start
    ");
    assert_snapshot!(place.tidegate("check other.toml"), @r"
    exit code: 65
    ----- stdout -----
    ok    job file   job `others`
    ok    table      `news.articles`, format v2, 3 columns, at file://[DIR]/warehouse/news/articles
    FAIL  state      table `news.articles` has snapshots, but no state of job `others`
                     hint: if this job never wrote the table, say so with `--first-run`; if it did under another `name`, use that name; if its state was lost, `tidegate reset JOB --to earliest --execute` gives it a new start
    ok    rejects    `news.articles_rejects` will be made for the first reject
    ok    topic      `tide`, 2 partitions, 4 offsets
    ----- stderr -----
    ");
    let answer = place.tidegate("run other.toml --first-run --output json").expect(0).json();
    assert_eq!((&answer["outcome"], &answer["batches"][0]["batch"]), (&"committed".into(), &1.into()));
    assert_snapshot!(place.tidegate("run other.toml --first-run"), @r"
    exit code: 65
    ----- stdout -----
    ----- stderr -----
    error: `--first-run` was given, but job `others` has a state in table `news.articles`

    hint: leave the flag out: the run goes on where the last one ended
    ");
}

#[test]
fn a_branch_that_does_not_exist() {
    let broker = Broker::with_articles();
    let place = Place::new(&broker.address());
    place.tidegate("init job.toml").expect(0);
    place.tidegate("run job.toml").expect(0);
    place.change("job.toml", "columns = [", "branch = \"audit\"\ncolumns = [");
    assert_snapshot!(place.tidegate("run job.toml"), @r"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: branch `audit` of table `news.articles` does not exist

    hint: create it first, as in Spark's `ALTER TABLE ... CREATE BRANCH audit`
    ");
}

#[test]
fn a_file_where_the_warehouse_should_be() {
    let place = Place::without_broker();
    place.write("warehouse", "a file where a directory should be");
    let answer = place.tidegate("init job.toml");
    assert!(answer.code() == 78 && answer.stderr.contains("warehouse"), "{answer}");
}

#[test]
fn a_catalog_database_that_is_a_directory() {
    let broker = Broker::with_articles();
    let place = Place::new(&broker.address());
    std::fs::create_dir(place.path().join("catalog.db")).unwrap();
    for command in ["init", "run", "check", "status", "reset --to latest"] {
        let answer = place.tidegate(&format!("{command} job.toml")).expect(78);
        assert!(answer.to_string().contains("catalog database `[DIR]/catalog.db` is a directory"), "{answer}");
    }
}
