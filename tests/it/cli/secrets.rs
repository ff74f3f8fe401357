//! Whatever goes wrong: no secret of a job is in anything that a command prints or leaves behind.

use std::path::{Path, PathBuf};

use crate::broker::Broker;
use crate::program::{JOB, Place};

const SECRET: &str = "open-sesame-4711";

const FILES: &str = "--result-file result.json --metrics-file tidegate.prom";

/// Every file of the place but the job file, which is the user's own.
fn left_behind(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => left_behind(&path, found),
            false if path.file_name().is_some_and(|name| name != "job.toml") => found.push(path),
            false => {}
        }
    }
}

/// Runs every command on the changed job, in both forms, and greps all there is. Answers the exit code of `run`.
#[track_caller]
fn grep(place: &Place, from: &str, to: &str) -> i32 {
    grep_but(place, from, to, &[])
}

/// The same where the secret is kept in files of the user's.
#[track_caller]
fn grep_but(place: &Place, from: &str, to: &str, kept: &[&str]) -> i32 {
    assert!(JOB.contains(from) && (to.contains(SECRET) || to.contains("${SECRET}")), "{to}");
    place.write("job.toml", JOB.replacen(from, to, 1));
    let mut code = 0;
    for command in ["check", "init", "plan", "run", "status"] {
        for form in ["text", "json"] {
            let files = if command == "run" { FILES } else { "" };
            let answer = place.tidegate(&format!("{command} job.toml --output {form} --log-level trace {files}"));
            assert!(!answer.stdout.contains(SECRET) && !answer.stderr.contains(SECRET), "{command} with {to}\n{answer}");
            if form == "json" {
                answer.json();
            }
            if command == "run" {
                code = answer.code();
            }
        }
    }
    let mut files = Vec::new();
    left_behind(&place.path(), &mut files);
    for file in files.into_iter().filter(|file| !kept.iter().any(|kept| file.ends_with(kept))) {
        let bytes = std::fs::read(&file).unwrap();
        assert!(!bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()), "{} after {to}", file.display());
    }
    code
}

#[test]
fn a_job_that_works_shows_and_keeps_none() {
    let broker = Broker::with_articles();
    let place = Place::new(&broker.address()).with("SECRET", SECRET).with("AWS_SECRET_ACCESS_KEY", SECRET);
    let property = |text: &str| format!("\"debug\" = \"all\"\n{text}\ntopic =");
    assert_eq!(grep(&place, "topic =", &property("\"sasl.username\" = \"me\"\n\"sasl.password\" = \"${SECRET}\"")), 0);
}

#[test]
fn a_job_that_fails_shows_none() {
    let place = Place::without_broker().with("SECRET", SECRET);
    let sasl = "\"security.protocol\" = \"SASL_PLAINTEXT\"\n\"sasl.username\" = \"me\"\n\"sasl.password\" = \"${SECRET}\"";
    for line in [
        format!("{sasl}\n\"sasl.mechanism\" = \"PLAIN\"\n\"debug\" = \"all\""),
        format!("{sasl}\n\"sasl.mechanism\" = \"NOPE\""),
        "\"ssl.key.password\" = \"${SECRET}\"\n\"ssl.key.location\" = \"/nowhere\"\n\"security.protocol\" = \"SSL\"".into(),
        "\"ssl.key.pem\" = \"${SECRET}\"\n\"security.protocol\" = \"SSL\"".into(),
        "\"sasl.oauthbearer.config\" = \"${SECRET}\"\n\"sasl.mechanism\" = \"OAUTHBEARER\"".into(),
        "\"sasl.pasword\" = \"${SECRET}\"".into(),
        "sasl_password = \"${SECRET}\"".into(),
        "\"sasl.password\" = [\"${SECRET}\"]".into(),
        format!("\"sasl.password\" = \"{SECRET}"),
        format!("\"sasl.password\" = \"{SECRET}\" \"\""),
        format!("\"sasl.password\" = \"pass${{{SECRET} word}}\""),
        format!("\"sasl.password\" = \"${{NONE:-{SECRET}\""),
        "\"fetch.wait.max.ms\" = \"${SECRET}\"".into(),
    ] {
        assert!([75, 77, 78].contains(&grep(&place, "topic =", &format!("{line}\ntopic ="))), "{line}");
    }
}

/// Of a program only stderr is told, of a variable or a file the name.
#[test]
fn a_secret_that_is_kept_elsewhere_is_shown_by_none() {
    let broker = Broker::with_articles();
    let place = Place::new(&broker.address()).with("KEPT", SECRET).with("SECRET", SECRET);
    place.write("secret.txt", format!("{SECRET}\n"));
    let lines = |value: &str| format!("\"sasl.password\" = \"{value}\"\n\"debug\" = \"all\"\n# ${{SECRET}}\ntopic =");
    for value in ["env:KEPT", "file:secret.txt", "command:cat secret.txt", "command:sh -c 'echo $$KEPT'"] {
        assert_eq!(grep_but(&place, "topic =", &lines(value), &["secret.txt"]), 0, "{value}");
    }
    for value in ["command:sh -c 'echo $$KEPT; exit 1'", "command:sh -c 'echo $$KEPT | head -c 99; exit 1'"] {
        assert_eq!(grep_but(&place, "topic =", &lines(value), &["secret.txt"]), 77, "{value}");
    }
    assert_eq!(grep_but(&place, "topic =", &lines("env:NO_SUCH"), &["secret.txt"]), 78);
    // A password that only looks like the name of a place.
    let place = place.with("SECRET", &format!("env:{SECRET}")).with("COMMAND", &format!("command:echo {SECRET}"));
    for value in ["${SECRET}", "${COMMAND}"] {
        assert_eq!(grep_but(&place, "topic =", &lines(value), &["secret.txt"]), 0, "{value}");
    }
}

/// Tokens too: the servers that answer and refuse are in `tests/e2e/test_security.py`.
#[test]
fn a_token_is_shown_by_none() {
    let place = Place::without_broker().with("SECRET", SECRET);
    place.write("secret.txt", format!("{SECRET}\n"));
    let sasl = "\"security.protocol\" = \"SASL_PLAINTEXT\"\n\"sasl.mechanism\" = \"OAUTHBEARER\"\n\"debug\" = \"all\"\n# ${SECRET}";
    let oidc = "\"sasl.oauthbearer.method\" = \"oidc\"\n\"sasl.oauthbearer.token.endpoint.url\" = \"http://127.0.0.1:1/\"";
    for (lines, code) in [
        ("\"sasl.oauthbearer.token\" = \"command:cat secret.txt\"".to_owned(), 75),
        ("\"sasl.oauthbearer.token\" = \"command:printf '%s\\\\n%s' x secret.txt\"".to_owned(), 77),
        (format!("{oidc}\n\"sasl.oauthbearer.client.id\" = \"me\"\n\"sasl.oauthbearer.client.secret\" = \"${{SECRET}}\""), 75),
    ] {
        assert_eq!(grep_but(&place, "topic =", &format!("{sasl}\n{lines}\ntopic ="), &["secret.txt"]), code, "{lines}");
    }
}

#[test]
fn addresses_that_hold_a_password_are_refused_without_it() {
    let place = Place::without_broker().with("SECRET", SECRET);
    for (from, to) in [
        ("${BROKER}", "user:${SECRET}@127.0.0.1:1"),
        ("${BROKER}", "kafka://user:${SECRET}@127.0.0.1:1"),
        ("sqlite://${PWD}/catalog.db", "postgres://user:${SECRET}@127.0.0.1/catalog"),
        ("sqlite://${PWD}/catalog.db", "sqlite://user:${SECRET}@/catalog.db"),
        ("sqlite://${PWD}/catalog.db", "sqlite://${PWD}/catalog.db?password=${SECRET}"),
        ("file://${PWD}/warehouse", "s3://key:${SECRET}@bucket/warehouse"),
        ("file://${PWD}/warehouse", "file://${PWD}/warehouse?token=${SECRET}"),
    ] {
        assert_eq!(grep(&place, from, to), 78, "{to}");
    }
}

#[test]
fn how_a_secret_property_of_a_table_differs_is_not_told() {
    let place = Place::without_broker().with("SECRET", SECRET);
    place.tidegate("init job.toml").expect(0);
    assert_eq!(grep(&place, "[merge]", "properties = { \"s3.secret-access-key\" = \"${SECRET}\" }\n[merge]"), 75);
    let answer = place.tidegate("init job.toml").expect(0);
    assert!(answer.stdout.contains("property `s3.secret-access-key` is not set"), "{answer}");
}

/// Where a secret may come from besides the job file: a variable that sets its key, the catalogs file, and, refused, `--set`.
#[test]
fn a_secret_shows_on_none_of_the_roads_that_it_may_come_by() {
    let catalogs = "[prod]\ntype = \"sql\"\nuri = \"sqlite://${PWD}/catalog.db\"\nwarehouse = \"file://${PWD}/warehouse\"\n";
    let place = |broker: &Broker| {
        let place = Place::new(&broker.address()).with("SECRET", SECRET);
        place.write(
            "catalogs.toml",
            format!("{catalogs}\"s3.secret-access-key\" = \"{SECRET}\"\nclient.secret-access-key = \"${{SECRET}}\"\n"),
        );
        place
    };
    let broker = Broker::with_articles();
    let by_variable = place(&broker)
        .with("TIDEGATE__KAFKA__SASL_PASSWORD", SECRET)
        .with("TIDEGATE__CATALOG__S3_SESSION_TOKEN", SECRET)
        .with("TIDEGATE__CATALOG__ADLS_ACCOUNT_KEY", SECRET);
    let by_catalogs = place(&broker);
    by_catalogs.change("job.toml", "[catalog]", "[catalog]\nuse = \"prod\"");
    let by_set = place(&broker);
    let twice = place(&broker).with("TIDEGATE__KAFKA__SASL_PASSWORD", SECRET).with("tidegate__kafka__sasl_password", SECRET);
    let misspelt = place(&broker).with("TIDEGATE__KAFKA__SASL_PASWORD", SECRET);
    let wrong = place(&broker).with("TIDEGATE__CATALOG__URI", &format!("postgres://me:{SECRET}@127.0.0.1/c"));
    let sets = format!(
        "--set kafka.sasl.password={SECRET} --set catalog.token={SECRET} --set table.properties.s3.session-token={SECRET} \
         --set catalog.uri=postgres://me:{SECRET}@127.0.0.1/c --set kafka.sasl.pasword={SECRET}"
    );
    for (place, options, code) in [
        (by_variable, "", 0),
        (by_catalogs, "", 0),
        (by_set, sets.as_str(), 78),
        (twice, "", 78),
        (misspelt, "", 78),
        (wrong, "", 78),
    ] {
        for command in ["check --show", "init", "check", "plan", "run", "status"] {
            for form in ["text", "json"] {
                let files = if command == "run" { FILES } else { "" };
                let answer = place.tidegate(&format!("{command} job.toml --output {form} --log-level trace {files} {options}"));
                assert!(!answer.stdout.contains(SECRET) && !answer.stderr.contains(SECRET), "{command} {options}\n{answer}");
                assert_eq!(answer.code(), code, "{command} {options}\n{answer}");
            }
        }
        std::fs::remove_file(place.path().join("catalogs.toml")).unwrap();
        let mut files = Vec::new();
        left_behind(&place.path(), &mut files);
        for file in files {
            let bytes = std::fs::read(&file).unwrap();
            assert!(!bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()), "{} {options}", file.display());
        }
    }
}
