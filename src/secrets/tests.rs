//! Real variables, files and programs.

#![expect(clippy::disallowed_methods, reason = "the environment is what is tested, and a clock that a wait ends")]

use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use super::*;

fn read(text: &str) -> Result<String> {
    Secret::new(String::from("kafka.\"sasl.password\""), text).read()
}

/// The exit code, and all that a person is told.
fn refused(text: &str) -> (u8, String) {
    let error = read(text).unwrap_err();
    let mut told = format!("{error} {error:?} {}", error.hint().unwrap_or_default());
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        told.push_str(&format!(": {error}"));
        cause = error.source();
    }
    (error.exit_code(), told)
}

#[test]
fn a_secret_is_read_from_where_it_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "open sesame \r\n\n").unwrap();
    assert_eq!(read(&format!("file:{}", file.display())).unwrap(), "open sesame ");
    assert_eq!(read("env:PATH").unwrap(), std::env::var("PATH").unwrap());
    assert_eq!(read("command:printf '%s\\n' \"open  \\\"sesame\\\"\" ").unwrap(), "open  \"sesame\"");
    assert_eq!(read("command:sh -c 'echo $((40 + 2))'").unwrap(), "42", "a shell, where one is asked for");
    assert_eq!(read("command:echo $HOME *").unwrap(), "$HOME *", "and else none");
    for plain in ["open-sesame", "", "environment", "plain-text"] {
        assert_eq!(read(plain).unwrap(), plain);
    }
    assert_eq!(read("plain:env:PATH").unwrap(), "env:PATH");
}

#[test]
fn a_secret_that_is_not_there_is_named_by_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty");
    std::fs::write(&empty, "\n").unwrap();
    let binary = folder.path().join("binary");
    std::fs::write(&binary, [0xff, 0xfe]).unwrap();
    for (text, told) in [
        ("env:TIDEGATE_NO_SUCH".to_owned(), "environment variable `TIDEGATE_NO_SUCH` is not set"),
        (format!("file:{}/none", folder.path().display()), "none`: No such file"),
        (format!("file:{}", folder.path().display()), "Is a directory"),
        (format!("file:{}", empty.display()), "is empty"),
        (format!("file:{}", binary.display()), "is not text"),
        ("file:/dev/zero".to_owned(), "is larger than 1 MiB"),
        ("command:".to_owned(), "names no program"),
        ("command:echo 'open".to_owned(), "has a ' without its second"),
        ("command:/no/such/program".to_owned(), "cannot start `/no/such/program`"),
        ("command:true".to_owned(), "what `true` printed is empty"),
        ("command:yes".to_owned(), "what `yes` printed is larger than 1 MiB"),
    ] {
        let (code, said) = refused(&text);
        assert_eq!(code, 78, "{text}: {said}");
        assert!(said.contains(told) && said.contains("kafka.\"sasl.password\""), "{text}: {said}");
    }
}

#[test]
fn what_a_program_prints_is_never_told_and_what_it_complains_of_is() {
    let (code, said) = refused("command:sh -c 'echo open-sesame; echo vault is sealed >&2; exit 3'");
    assert_eq!(code, 77, "{said}");
    assert!(said.contains("vault is sealed") && said.contains("exit status: 3"), "{said}");
    // The line itself stands in the job file; a person is told of the program alone.
    assert!(!said.contains("open-sesame"), "{said}");
}

#[test]
fn what_a_program_leaves_running_is_not_waited_for() {
    let started = Instant::now();
    let (code, said) = refused("command:sh -c 'echo open-sesame; sleep 20 &'");
    assert_eq!(code, 75, "{said}");
    assert!(said.contains("keeps its output open") && !said.contains("open-sesame"), "{said}");
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[test]
fn a_file_that_may_not_be_read_is_denied() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "open-sesame").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o000)).unwrap();
    match File::open(&file) {
        // An administrator may read everything, so there is nothing to be denied.
        Ok(_) => assert_eq!(read(&format!("file:{}", file.display())).unwrap(), "open-sesame"),
        Err(_) => assert_eq!(refused(&format!("file:{}", file.display())).0, 77),
    }
}

#[test]
fn a_program_is_ended_where_less_time_is_left_than_it_takes() {
    let started = Instant::now();
    let error = Secret::new(String::from("token"), "command:sleep 20").read_within(Duration::from_millis(50)).unwrap_err();
    assert_eq!(error.exit_code(), 75, "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[test]
fn a_program_that_may_not_be_run_is_denied() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, "#!/bin/sh\necho open-sesame\n").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let (code, said) = refused(&format!("command:{}", file.path().display()));
    assert_eq!(code, 77, "{said}");
    assert!(said.contains("cannot start"), "{said}");
}

#[test]
fn only_what_may_be_elsewhere_is_read() {
    let job = BTreeMap::from([
        ("sasl.password".to_owned(), "command:echo open-sesame".to_owned()),
        ("ssl.ca.location".to_owned(), "file:not-a-place".to_owned()),
    ]);
    let read = resolved("kafka", &job, |name| name == "sasl.password").unwrap();
    assert_eq!(read["sasl.password"], "open-sesame");
    assert_eq!(read["ssl.ca.location"], "file:not-a-place");
    let names = ["adls.client-id", "client.access-key-id", "rest.access-key-id", "s3.access-key-id", "s3.region"];
    let catalog = names.map(|name| (name.to_owned(), "command:echo me".to_owned())).into();
    let read = resolved("catalog", &catalog, crate::config::may_be_elsewhere_in_catalog).unwrap();
    assert_eq!(read.into_values().collect::<Vec<_>>(), ["me", "me", "me", "me", "command:echo me"]);
    assert!(!format!("{:?}", Secret::new("key".into(), "open-sesame")).contains("sesame"));
}
