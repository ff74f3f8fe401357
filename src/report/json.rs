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
        insta::assert_snapshot!(line(&sample::committed()), @r#"{"tidegate":"0.1.0","command":"run","job":"articles","table":"demo.news.articles_raw","branch":"main","topic":"articles.raw.v1","run_id":"6f9619ff-8b86-4d01-b42d-00cf4fc964ff","outcome":"committed","exit_code":0,"batches":[{"batch":12,"epoch":0,"batch_id":"abababababababababababababababababababababababababababababababab","snapshot_id":5912384756102938475,"operation":"overwrite","offsets":{"start":{"articles.raw.v1":{"0":0,"1":0,"7":99}},"end":{"articles.raw.v1":{"0":1000000,"1":234567,"7":99}}},"records":{"read":1234567,"rejected":0,"late":0,"filtered":0,"duplicate":34567,"stale":0,"inserted":200000,"updated":1000000,"deleted":0,"noop":0,"collapsed":0,"soft_deleted":0},"watermark":"2026-11-20T07:59:47.500000Z","attempts":1,"files":{"data_files":3,"data_bytes":12897485,"delete_files":2,"rewritten_files":0,"carried_rows":0,"table_files":120,"files_searched":4,"files_indexed":3,"search_requests":14,"search_bytes":3400000},"cut":null,"duration_ms":1100}],"records":{"read":1234567,"rejected":0,"late":0,"filtered":0,"duplicate":34567,"stale":0,"inserted":200000,"updated":1000000,"deleted":0,"noop":0,"collapsed":0,"soft_deleted":0},"remaining":0,"lag_records":0,"lag_seconds":12.5,"watermark":"2026-11-20T07:59:47.500000Z","started_at":"2026-11-20T10:00:00.000000Z","duration_ms":1234,"requests":{"get":3,"put":5,"delete":0,"list":0,"head":0,"bytes_read":0,"bytes_written":0,"failed":0},"warnings":[],"error":null}"#);
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
            prop_assert_eq!(document["job"].as_str(), Some(report.head.job.as_str()));
            prop_assert_eq!(document["records"]["read"].as_u64(), Some(report.records.read));
            prop_assert_eq!(document["batches"].as_array().map(Vec::len), Some(report.batches.len()));
        }
    }
}
