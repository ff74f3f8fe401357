//! The result file: the report for whoever started the run, in at most 4096 bytes.
//!
//! Written on success and on failure. Always valid JSON and never longer than a Kubernetes termination log, which is cut without
//! regard for what it holds, and which an Airflow XCom could then not read.

use std::io;
use std::path::Path;

use serde_json::{Map, Value};

use crate::report::{Report, file, json};

/// What the kubelet reads of a termination log.
pub const RESULT_BYTES_MAX: usize = 4096;

/// Writes the report to `path`: in place where `path` is a device or a mounted file, else as one replacement.
pub fn write_result_file(path: &Path, report: &Report) -> io::Result<()> {
    file::write(path, &document(report), &report.run_id)
}

/// The JSON report, with as much detail as fits. Where some was left out, `truncated` is true.
fn document(report: &Report) -> String {
    let whole = json::line(report) + "\n";
    if whole.len() <= RESULT_BYTES_MAX {
        return whole;
    }
    let mut value = serde_json::to_value(report).expect("its line was just written");
    let fields = value.as_object_mut().expect("a report is an object");
    fields.insert("truncated".into(), Value::Bool(true));
    let mut text = String::new();
    // From what is most and least missed to what is not: who ran and how it ended always stay.
    for leave_out in [offsets, older_batches, causes, warnings, last_batch, |f: &mut _| cap(f, 800), |f: &mut _| cap(f, 150)] {
        leave_out(fields);
        text = serde_json::to_string(fields).expect("made of JSON values") + "\n";
        if text.len() <= RESULT_BYTES_MAX {
            break;
        }
    }
    assert!(text.len() <= RESULT_BYTES_MAX, "a result of {} bytes would be cut by its reader", text.len());
    text
}

fn offsets(report: &mut Map<String, Value>) {
    for batch in report.get_mut("batches").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(batch) = batch.as_object_mut() {
            batch.remove("offsets");
        }
    }
}

fn older_batches(report: &mut Map<String, Value>) {
    if let Some(batches) = report.get_mut("batches").and_then(Value::as_array_mut) {
        batches.drain(..batches.len().saturating_sub(1));
    }
}

fn causes(report: &mut Map<String, Value>) {
    if let Some(error) = report.get_mut("error").and_then(Value::as_object_mut) {
        error.remove("causes");
    }
}

fn warnings(report: &mut Map<String, Value>) {
    report.remove("warnings");
}

fn last_batch(report: &mut Map<String, Value>) {
    report.remove("batches");
}

/// Shortens every text to at most `bytes_max` bytes of JSON.
fn cap(fields: &mut Map<String, Value>, bytes_max: usize) {
    for value in fields.values_mut() {
        match value {
            Value::String(text) => *text = shortened(text, bytes_max),
            Value::Object(fields) => cap(fields, bytes_max),
            _ => (),
        }
    }
}

fn shortened(text: &str, bytes_max: usize) -> String {
    const MARK: &str = "...";
    let mut used = 0;
    let mut cut = 0;
    for (at, character) in text.char_indices() {
        used += escaped_len(character);
        if used > bytes_max {
            return format!("{}{MARK}", &text[..cut]);
        }
        if used + MARK.len() <= bytes_max {
            cut = at + character.len_utf8();
        }
    }
    text.to_owned()
}

/// Bytes of a character within a JSON string as serde_json writes it.
fn escaped_len(character: char) -> usize {
    match character {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..='\u{1f}' => 6,
        _ => character.len_utf8(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offsets::Offsets;
    use crate::report::{ErrorReport, Outcome, sample};
    use proptest::prelude::*;

    fn read(report: &Report) -> Value {
        let text = document(report);
        assert!(text.len() <= RESULT_BYTES_MAX, "{} bytes", text.len());
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_small_report_is_whole() {
        let report = sample::committed();
        assert_eq!(document(&report), json::line(&report) + "\n");
        assert!(read(&report).get("truncated").is_none());
    }

    #[test]
    fn detail_goes_in_stages() {
        let mut report = sample::committed();
        report.batches[0].offsets.end.insert("t".into(), (0..999).map(|p| (p, 1)).collect::<Offsets>());
        report.error = Some(ErrorReport { message: "m".into(), causes: vec!["c".into()], hint: None });
        let few = read(&report);
        assert_eq!(few["truncated"], true);
        assert_eq!(few["batches"][0].get("offsets"), None);
        assert_eq!(few["batches"][0]["batch"], 12);
        assert_eq!(few["error"]["causes"][0], "c");

        report.batches = sample::committed_batches(&(1..99).collect::<Vec<_>>()).batches;
        let fewer = read(&report);
        assert_eq!(fewer["batches"].as_array().map(Vec::len), Some(1));
        assert_eq!(fewer["batches"][0]["batch"], 98, "the newest stays");
        assert_eq!(fewer["error"]["causes"][0], "c");

        report.error = Some(ErrorReport { message: "m".into(), causes: vec!["c".repeat(5_000)], hint: Some("h".into()) });
        let fewest = read(&report);
        assert_eq!(fewest["error"], serde_json::json!({"message": "m", "hint": "h"}));
        assert_eq!(fewest["batches"][0]["batch"], 98);
    }

    #[test]
    fn the_longest_names_still_fit() {
        let long = "\u{1}".repeat(10_000);
        let mut report = sample::nothing_new();
        for text in [&mut report.head.job, &mut report.table, &mut report.branch, &mut report.topic, &mut report.run_id] {
            text.clone_from(&long);
        }
        report.started_at.clone_from(&long);
        report.watermark = Some(long.clone());
        report.error = Some(ErrorReport { message: long.clone(), causes: vec![], hint: Some(long) });
        report.lag_seconds = Some(f64::MIN);
        (report.duration_ms, report.remaining, report.lag_records) = (u64::MAX, Some(u64::MAX), Some(u64::MAX));
        report.outcome = Outcome::NothingNew;
        assert!(read(&report)["job"].as_str().unwrap().ends_with("..."));
    }

    #[test]
    fn shortening_counts_what_json_makes_of_a_character() {
        for (text, bytes_max, expected) in
            [("abcdef", 6, "abcdef"), ("abcdefg", 6, "abc..."), ("\n\n\n\n", 6, "\n..."), ("éééé", 6, "é..."), ("", 6, "")]
        {
            assert_eq!(shortened(text, bytes_max), expected);
        }
    }

    #[test]
    fn it_is_written_for_a_failure_as_well() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("result.json");
        write_result_file(&path, &Report { outcome: Outcome::Failed, exit_code: 75, ..sample::nothing_new() }).unwrap();
        let document: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!((&document["outcome"], &document["exit_code"]), (&"failed".into(), &75.into()));
        let error = write_result_file(&folder.path().join("gone/result.json"), &sample::committed()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    proptest! {
        #[test]
        fn it_always_fits_and_always_reads_back(report in sample::reports()) {
            let document = read(&report);
            prop_assert_eq!(document["exit_code"].as_u64(), Some(u64::from(report.exit_code)));
            prop_assert_eq!(document["records"]["read"].as_u64(), Some(report.records.read));
            prop_assert_eq!(document["error"].is_null(), report.error.is_none());
            let is_whole = json::line(&report).len() < RESULT_BYTES_MAX;
            prop_assert_eq!(document.get("truncated").is_none(), is_whole);
        }

        #[test]
        fn shortened_text_is_a_prefix_that_fits(text in "[\\x00-\\x7fé日\\u{1F30A}]{0,60}", bytes_max in 3..50_usize) {
            let short = shortened(&text, bytes_max);
            prop_assert!(serde_json::to_string(&short).unwrap().len() <= bytes_max + 2);
            prop_assert!(short == text || text.starts_with(short.strip_suffix("...").unwrap()));
        }
    }
}
