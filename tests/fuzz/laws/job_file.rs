//! Job files: a config, or every mistake with its line; and what stands in a string is what the config holds.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::sync::Arc;

use crate::config::{Config, Limits, Mode, Origin, Tombstones};
use crate::decode::{DecodeSpec, Decoder};
use crate::error::{Error, Mistakes};
use crate::table::create::new_table;

/// What a job cannot do without.
const HEAD: &str = r#"
name = "j"
mode = "append"
catalog = { type = "sql", uri = "sqlite:///c.db", warehouse = "file:///w" }
table = { name = "a.b" }
"#;

fn env(name: &str) -> Option<OsString> {
    match name {
        "SET" => Some("value".into()),
        "EMPTY" => Some(OsString::new()),
        "NESTED" => Some("${SET}$$".into()),
        "LATIN" => Some(OsString::from_vec(b"caf\xe9".to_vec())),
        _ => None,
    }
}

pub(super) fn law(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Config::parse(text, &env) {
        Ok(config) => {
            let commented = format!("# first\n{text}\n# last");
            let again = Config::parse(&commented, &env).map(|again| format!("{again:?}"));
            assert_eq!(again, Ok(format!("{config:?}")));
            accepted(config);
        }
        Err(Mistakes(mistakes)) => {
            assert!(!mistakes.is_empty(), "refused without a reason");
            let lines = text.split('\n').count();
            for mistake in mistakes {
                assert!(!mistake.message.is_empty());
                let is_there = match &mistake.at {
                    Some(Origin::Line(line)) => (1..=lines).contains(line),
                    Some(_) => false,
                    None => true,
                };
                assert!(is_there, "{mistake:?} of {lines} lines");
            }
        }
    }
}

/// What later rooms rely on, and what they make of it.
fn accepted(config: Config) {
    let limits = &config.limits;
    assert!((1..=u64::from(u32::MAX)).contains(&limits.max_offsets_per_trigger));
    assert!(limits.max_bytes_per_trigger > 0 && limits.memory_limit >= 64 << 20);
    assert!((0.0..=1.0).contains(&config.rejects.max_ratio));
    assert!((1..=64).contains(&config.name.len()) && !config.kafka.topic.is_empty());
    assert!(!config.table.namespace.is_empty() && !config.table.name.is_empty() && !config.table.branch.is_empty());
    assert!(matches!(config.table.format_version, 2 | 3));
    if let Mode::Merge(merge) = &config.mode {
        assert!(!merge.id.is_empty() && !merge.event_time.is_empty());
    }
    if config.table.columns.is_empty() {
        return;
    }
    let table = match new_table(&config, "file:///w/t".to_owned()) {
        Ok(table) => table,
        Err(error) => return assert!(!matches!(error, Error::Broken { .. }), "{error}"),
    };
    let spec = DecodeSpec {
        schema: Arc::clone(table.current_schema()),
        supplied: config.table.columns.iter().map(|column| column.name.clone()).collect(),
        metadata: config.metadata,
        format: config.format,
        topic: config.kafka.topic,
        tombstones: Tombstones::Reject,
        flag: None,
    };
    if let Err(error) = Decoder::new(spec) {
        assert!(!matches!(error, Error::Broken { .. }), "{error}");
    }
}

/// Any text survives a job file: as a string with its dollars doubled, and as the value of a variable.
pub(super) fn strings(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _raw_text_never_panics = client_id(&quoted(text), text);
    assert_eq!(client_id(&quoted(&text.replace('$', "$$")), ""), Ok(text.to_owned()));
    // As in a shell, a default also stands in for an empty variable.
    let filled = if text.is_empty() { "other" } else { text };
    assert_eq!(client_id("\"${V:-other}\"", text), Ok(filled.to_owned()));
    assert_eq!(client_id("\"a-${V}-${V:-}b$$\"", text), Ok(format!("a-{text}-{text}b$")));
    if !text.contains(['}', '$']) {
        assert_eq!(client_id(&quoted(&format!("${{NOT_SET:-{text}}}")), ""), Ok(text.to_owned()));
    }
}

/// The value of a property of librdkafka's that stands in the file as `toml`; variables but one hold `value`.
fn client_id(toml: &str, value: &str) -> Result<String, Mistakes> {
    let text = format!("{HEAD}[kafka]\ntopic = \"t\"\n\"bootstrap.servers\" = \"h:1\"\n\"client.id\" = {toml}\n");
    let env = |name: &str| (name != "NOT_SET").then(|| value.into());
    Config::parse(&text, &env).map(|config| config.kafka.properties["client.id"].clone())
}

/// The limits of a job that says `key = toml` of them.
pub(super) fn limits(key: &str, toml: &str) -> Result<Limits, Mistakes> {
    let text = format!("{HEAD}kafka = {{ topic = \"t\", \"bootstrap.servers\" = \"h:1\" }}\n[limits]\n{key} = {toml}\n");
    Config::parse(&text, &env).map(|config| config.limits)
}

/// A text as TOML writes it.
pub(super) fn quoted(text: &str) -> String {
    let mut toml = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => toml.push_str("\\\""),
            '\\' => toml.push_str("\\\\"),
            control if control.is_control() => toml.push_str(&format!("\\u{:04X}", u32::from(control))),
            other => toml.push(other),
        }
    }
    toml.push('"');
    toml
}
