//! The examples under `jobs/`, run as they are written: job files, crontab line, CronJob arguments, Airflow arguments.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::broker::Broker;
use crate::program::Place;

fn example(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("jobs").join(name)).unwrap()
}

/// A directory as the examples expect it, with `jobs/` and a broker that has their topics.
fn place() -> (Broker, Place) {
    let broker = Broker::start();
    for topic in ["articles.raw.v1", "health-data-raw", "prices"] {
        broker.cluster.create_topic(topic, 3, 1).unwrap();
    }
    broker.produce_to(
        "articles.raw.v1",
        0,
        &[r#"{"id": "a", "published_at": "2025-01-01T00:00:00Z", "title": "t", "version": 1}"#],
    );
    broker.produce_to(
        "health-data-raw",
        2,
        &[r#"{"sample_id": "s", "type": "heart_rate", "value": 61.5, "start_time": 1735689600000}"#],
    );
    broker.produce_to("prices", 1, &[r#"{"product": "p", "price": 9.95, "changed_at": "2025-01-01T00:00:00Z"}"#]);
    let place = Place::new(&broker.address()).with("KAFKA_BOOTSTRAP_SERVERS", &broker.address());
    std::fs::create_dir(place.path().join("jobs")).unwrap();
    for name in ["articles.toml", "health.toml", "prices.toml", "catalogs.toml"] {
        place.write(&format!("jobs/{name}"), example(name));
    }
    (broker, place)
}

#[test]
fn every_file_is_tested_here() {
    let files = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("jobs")).unwrap();
    let mut jobs: Vec<_> =
        files.map(|file| file.unwrap().file_name().into_string().unwrap()).filter(|name| name.ends_with(".toml")).collect();
    jobs.sort();
    assert_eq!(jobs, ["articles.toml", "catalogs.toml", "health.toml", "prices.toml"]);
}

#[test]
fn each_is_sound_before_anything_exists() {
    for job in ["jobs/articles.toml", "jobs/health.toml", "jobs/prices.toml"] {
        let place = Place::without_broker();
        std::fs::create_dir(place.path().join("jobs")).unwrap();
        place.write(job, example(job.strip_prefix("jobs/").unwrap()));
        place.write("jobs/catalogs.toml", example("catalogs.toml"));
        let checked =
            place.with("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1").tidegate(&format!("check {job} --output json")).expect(78).json();
        assert_eq!((&checked["tests"][0]["name"], &checked["tests"][0]["error"]), (&"job file".into(), &Value::Null), "{checked}");
    }
}

#[test]
fn each_runs_from_its_first_command_to_its_last() {
    let (_broker, place) = place();
    for job in ["jobs/articles.toml", "jobs/health.toml", "jobs/prices.toml"] {
        place.tidegate(&format!("init {job}")).expect(0);
        let checked = place.tidegate(&format!("check {job} --output json")).expect(0).json();
        assert!(checked["tests"].as_array().unwrap().iter().all(|test| test["error"].is_null()), "{checked}");
        let report = place.tidegate(&format!("run {job} --output json")).expect(0).json();
        assert_eq!((&report["outcome"], &report["records"]["inserted"]), (&"committed".into(), &1.into()), "{report}");
        assert_eq!(place.tidegate(&format!("run {job} --output json")).expect(0).json()["outcome"], "nothing_new");
    }
}

#[test]
fn the_crontab_line_moves_a_batch_and_prints_only_on_failure() {
    let (_broker, place) = place();
    place.tidegate("init jobs/articles.toml").expect(0);
    let crontab = example("articles.crontab");
    let line = crontab.lines().find(|line| line.starts_with("*/")).unwrap();
    let command = line.splitn(6, ' ').nth(5).unwrap().replace("/srv/tidegate", &place.path().display().to_string());
    let cron = |command: &str| {
        let mut shell = Command::new("sh");
        shell.args(["-c", command]);
        place.start_command(shell).answer().expect(0).stdout
    };
    assert_eq!(cron(&command), "");
    let log = place.read("articles.log");
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().any(|line| line["outcome"] == "committed"), "{log}");

    std::fs::remove_dir_all(place.path().join("warehouse")).unwrap();
    assert_eq!(cron(&command), "articles: exit code 78\n");
}

/// The list behind `key`, which is JSON in YAML's flow style and in Python alike, but for Python's comma after the last word.
fn arguments(text: &str, key: &str) -> Vec<String> {
    let (_, after) = text.split_once(key).unwrap_or_else(|| panic!("no `{key}`"));
    let (list, _) = after.split_once(']').expect("the list ends");
    serde_json::from_str(&format!("{}]", list.trim_end().trim_end_matches(','))).unwrap()
}

fn run_in_pod(arguments: &[String], result: &str) -> (Value, i32) {
    let (_broker, place) = place();
    place.tidegate("init jobs/articles.toml").expect(0);
    assert!(arguments.iter().any(|argument| argument == "/etc/tidegate/articles.toml"), "{arguments:?}");
    assert!(arguments.iter().any(|argument| argument == result), "{arguments:?}");
    let line = arguments.join(" ").replace("/etc/tidegate/", "jobs/").replace(result, "result.json");
    place.tidegate(&line).expect(0);
    let first = serde_json::from_str(&place.read("result.json")).unwrap();
    (first, place.tidegate(&line).code())
}

#[test]
fn the_cronjob_leaves_its_result_as_the_pod_s_last_message() {
    let yaml = example("articles.cronjob.yaml");
    let (result, nothing_new) = run_in_pod(&arguments(&yaml, "args:"), "/dev/termination-log");
    assert_eq!((&result["outcome"], nothing_new), (&"committed".into(), 0));
    assert!(yaml.contains("terminationMessagePath: /dev/termination-log"));
}

#[test]
fn the_airflow_task_is_skipped_when_nothing_is_new() {
    let dag = example("articles_dag.py");
    let (result, nothing_new) = run_in_pod(&arguments(&dag, "arguments="), "/airflow/xcom/return.json");
    assert_eq!((&result["outcome"], nothing_new), (&"committed".into(), 99));
    assert!(dag.contains("NOTHING_NEW = 99") && dag.contains("skip_on_exit_code=NOTHING_NEW"));
}
