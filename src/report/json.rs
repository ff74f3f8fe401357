//! The report for machines: one JSON document on one line.
//!
//! Pure. Its form is a contract; fields are added, never renamed.

use crate::report::Report;

/// The whole report as one line of JSON, without the line break.
pub fn line(report: &Report) -> String {
    serde_json::to_string(report).expect("structs of strings, numbers and maps with string or integer keys always serialize")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;
    use proptest::prelude::*;
    use serde_json::Value;

    #[test]
    fn the_form_is_a_contract() {
        insta::assert_snapshot!(line(&sample::committed()), @"");
    }

    #[test]
    fn what_is_unknown_is_null() {
        let document: Value = serde_json::from_str(&line(&sample::nothing_new())).unwrap();
        assert_eq!(document["watermark"], Value::Null);
        assert_eq!(document["error"], Value::Null);
    }

    proptest! {
        #[test]
        fn it_is_one_line_and_reads_back(report in sample::reports()) {
            let line = line(&report);
            prop_assert!(!line.contains(['\n', '\r']));
            let document: Value = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(document["job"].as_str(), Some(report.job.as_str()));
            prop_assert_eq!(document["records"]["read"].as_u64(), Some(report.records.read));
            prop_assert_eq!(document["batches"].as_array().map(Vec::len), Some(report.batches.len()));
        }
    }
}
