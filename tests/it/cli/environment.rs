//! What a job file takes from the environment of the process that reads it.

use std::process::Command;

use insta::assert_snapshot;

use crate::program::Place;

#[test]
fn the_working_directory_is_where_the_process_is() {
    for said in ["/", "/nowhere", ".", ""] {
        let place = Place::without_broker().with("PWD", said);
        place.tidegate("init job.toml").expect(0);
        assert!(place.path().join("warehouse").is_dir(), "{said}");
    }
}

#[test]
fn the_working_directory_keeps_the_name_that_the_user_knows() {
    let links = tempfile::tempdir().unwrap();
    let link = links.path().canonicalize().unwrap().join("link");
    let place = Place::without_broker().with("PWD", link.to_str().unwrap());
    std::os::unix::fs::symlink(place.path(), &link).unwrap();
    let made = place.tidegate("init job.toml --output json").expect(0).json();
    assert_eq!(made["location"], format!("file://{}/warehouse/news/articles", link.display()));
}

#[test]
fn a_variable_that_is_no_text() {
    let place = Place::without_broker();
    let mut shell = Command::new("sh");
    shell.args(["-c", r"BROKER=$(printf '\351') exec tidegate init job.toml"]);
    assert_snapshot!(place.start_command(shell).answer(), @r#"
    exit code: 78
    ----- stdout -----
    ----- stderr -----
    error: job file `job.toml` is not usable
      line 5: `kafka."bootstrap.servers"`: environment variable `BROKER` is not UTF-8 text; set it to text that is
    "#);
}
