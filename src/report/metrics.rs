//! The report as Prometheus metrics, for node_exporter's textfile collector or anything else that reads the text format.
//!
//! All are gauges about the last run: the process is gone when they are read. A value that is not known has no sample. The one
//! thing kept from run to run is the time of the last success, taken over from the previous file.

use std::path::Path;
use std::{fs, io};

use crate::progress;
use crate::report::{Outcome, Report, file};

const LAST_SUCCESS: &str = "last_success_timestamp_seconds";

/// Writes the metrics of a run as one replacement of the file at `path`.
pub fn write_metrics_file(path: &Path, report: &Report) -> io::Result<()> {
    // Only a file is read back: a pipe or a terminal would block. One that cannot be read is not overwritten, or the time of the
    // last success would be lost.
    let is_file = fs::metadata(path).is_ok_and(|found| found.is_file());
    let previous = if is_file { fs::read(path)? } else { Vec::new() };
    file::write(path, &render(report, Some(&String::from_utf8_lossy(&previous))), &report.run_id)
}

/// The metrics of a run; `previous` is the file that the run before it left.
pub fn render(report: &Report, previous: Option<&str>) -> String {
    let labels = labels(report, previous);
    let ended =
        progress::micros(&report.started_at).map(|start| millionths(i128::from(start) + i128::from(report.duration_ms) * 1_000));
    let last_success = if succeeded(report) { ended.clone() } else { previous.and_then(|text| kept(text, LAST_SUCCESS, &labels)) };
    let ran = i128::from(report.duration_ms) * 1_000;
    let watermark = report.watermark.as_deref().and_then(progress::micros).map(|time| millionths(time.into()));
    let lag_seconds = report.lag_seconds.filter(|seconds| seconds.is_finite()).map(|seconds| seconds.to_string());

    let mut page = Page { labels, text: String::new() };
    page.gauge("lag_records", "Offsets left unread after the last run.", report.lag_records.map(|n| n.to_string()));
    page.gauge("lag_seconds", "Start of the last run minus the newest event time read.", lag_seconds);
    page.records(report);
    page.gauge(
        "duplicate_ratio",
        "Share of the records of the last run that another version of their id in the same batch beat.",
        ratio(report, report.records.duplicate),
    );
    page.gauge("error_ratio", "Share of the records of the last run that were rejected.", ratio(report, report.records.rejected));
    page.gauge("last_run_duration_seconds", "How long the last run took.", Some(millionths(ran)));
    page.gauge("last_run_timestamp_seconds", "When the last run ended.", ended);
    page.gauge(LAST_SUCCESS, "When the last run that did not fail ended.", last_success);
    page.gauge("last_run_exit_code", "Exit code of the last run.", Some(report.exit_code.to_string()));
    page.gauge("last_run_batches", "Batches that the last run committed.", Some(report.batches.len().to_string()));
    page.gauge("watermark_timestamp_seconds", "Event time below which records are late.", watermark);
    page.text
}

/// The labels of every sample. A run that could not read its job file does not know them, but the run before it did: the series
/// that someone watches must go on, and say that the last run failed.
fn labels(report: &Report, previous: Option<&str>) -> String {
    let known = || {
        let sample = previous?.lines().find_map(|line| line.strip_prefix("tidegate_last_run_exit_code{"))?;
        Some(sample.rsplit_once("} ")?.0.to_owned())
    };
    let own = || {
        format!("job=\"{}\",table=\"{}\",topic=\"{}\"", escaped(&report.head.job), escaped(&report.table), escaped(&report.topic))
    };
    if report.topic.is_empty() { known().unwrap_or_else(own) } else { own() }
}

/// A run told to end with another code when nothing is new did not fail; one that committed but left its rejects open did.
fn succeeded(report: &Report) -> bool {
    report.outcome != Outcome::Failed && (report.exit_code == 0 || report.outcome == Outcome::NothingNew)
}

/// The share of the records read; of a run that read nothing it is zero, unless it failed: then it is not known.
fn ratio(report: &Report, part: u64) -> Option<String> {
    match report.records.read {
        0 if report.outcome == Outcome::Failed => None,
        0 => Some("0".into()),
        read => Some(millionths(i128::from(part) * 1_000_000 / i128::from(read))),
    }
}

/// The value that a metric had in an earlier file, for the same job, table and topic.
fn kept(text: &str, name: &str, labels: &str) -> Option<String> {
    let sample = format!("tidegate_{name}{{{labels}}} ");
    let value = text.lines().find_map(|line| line.strip_prefix(&sample))?;
    value.parse().is_ok_and(f64::is_finite).then(|| value.to_owned())
}

/// A number of millionths as a decimal, exactly.
fn millionths(value: i128) -> String {
    let (sign, size) = (if value < 0 { "-" } else { "" }, value.unsigned_abs());
    let decimal = format!("{sign}{}.{:06}", size / 1_000_000, size % 1_000_000);
    decimal.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A label's value: the format knows three escapes.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

struct Page {
    labels: String,
    text: String,
}

impl Page {
    fn gauge(&mut self, name: &str, help: &str, value: Option<String>) {
        if let Some(value) = value {
            self.head(name, help);
            self.text.push_str(&format!("tidegate_{name}{{{}}} {value}\n", self.labels));
        }
    }

    /// The outcomes add up to what was read; rows collapsed and soft deletes are no outcomes of their own.
    fn records(&mut self, report: &Report) {
        let name = "last_run_records";
        self.head(name, "Records of the last run by outcome.");
        for (outcome, n) in report.records.named() {
            if !["read", "collapsed", "soft-deleted"].contains(&outcome) {
                self.text.push_str(&format!("tidegate_{name}{{{},outcome=\"{outcome}\"}} {n}\n", self.labels));
            }
        }
        let soft = report.records.soft_deleted.to_string();
        self.gauge("last_run_records_soft_deleted", "Deletes of the last run whose row stayed: inserts and updates.", Some(soft));
        self.gauge("last_run_records_read", "Records that the last run read.", Some(report.records.read.to_string()));
    }

    fn head(&mut self, name: &str, help: &str) {
        self.text.push_str(&format!("# HELP tidegate_{name} {help}\n# TYPE tidegate_{name} gauge\n"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Head, sample};
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    /// Samples of a page: name and labels to value. Refuses what the text format 0.0.4 does not allow.
    fn parse(page: &str) -> BTreeMap<(String, Vec<(String, String)>), f64> {
        assert!(page.is_empty() || page.ends_with('\n'), "the last line must end");
        let (mut samples, mut families) = (BTreeMap::new(), BTreeSet::new());
        let (mut help, mut family) = (None, None);
        for line in page.split_terminator('\n') {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, text) = rest.split_once(' ').unwrap();
                assert!(!text.is_empty() && families.insert(name.to_owned()), "{name} twice");
                help = Some(name.to_owned());
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert_eq!((kind, help.take().as_deref()), ("gauge", Some(name)));
                family = Some(name.to_owned());
            } else {
                let (name, rest) = line.split_once('{').unwrap();
                assert_eq!(family.as_deref(), Some(name), "a sample outside its family");
                assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
                let (labels, value) = parse_labels(rest);
                let value = value.strip_prefix(' ').unwrap();
                assert!(!value.contains(' '), "no timestamps: {line}");
                let value: f64 = value.parse().unwrap();
                assert!(value.is_finite(), "{line}");
                assert_eq!(samples.insert((name.to_owned(), labels), value), None, "twice: {line}");
            }
        }
        assert!(families.iter().all(|family| samples.keys().any(|(name, _)| name == family)), "a family without samples");
        samples
    }

    fn parse_labels(text: &str) -> (Vec<(String, String)>, &str) {
        let (mut labels, mut rest) = (Vec::new(), text);
        loop {
            let (name, after) = rest.split_once("=\"").unwrap();
            assert!(name.chars().all(|c| c.is_ascii_lowercase()), "{name}");
            let (mut value, mut characters) = (String::new(), after.char_indices());
            let end = loop {
                match characters.next().unwrap() {
                    (at, '"') => break at,
                    (_, '\\') => value.push(match characters.next().unwrap().1 {
                        'n' => '\n',
                        c @ ('\\' | '"') => c,
                        c => panic!("escape {c}"),
                    }),
                    (_, c) => value.push(c),
                }
            };
            labels.push((name.to_owned(), value));
            rest = &after[end + 1..];
            match rest.strip_prefix(',') {
                Some(more) => rest = more,
                None => return (labels, rest.strip_prefix('}').unwrap()),
            }
        }
    }

    fn value(page: &str, name: &str) -> Option<f64> {
        parse(page).into_iter().find(|((found, _), _)| *found == format!("tidegate_{name}")).map(|(_, value)| value)
    }

    #[test]
    fn a_page() {
        insta::assert_snapshot!(render(&sample::committed(), None), @r#"
        # HELP tidegate_lag_records Offsets left unread after the last run.
        # TYPE tidegate_lag_records gauge
        tidegate_lag_records{job="articles",table="demo.news.articles_raw",topic="articles.raw.v1"} 0
        # HELP tidegate_lag_seconds Start of the last run minus the newest event time read.
        # TYPE tidegate_lag_seconds gauge
        tidegate_lag_seconds{job="articles",table="demo.news.articles_raw",topic="articles.raw.v1"} 12.5
        # HELP tidegate_last_run_records Records of the last run by outcome.
        # TYPE tidegate_last_run_records gauge
        tidegate_last_run_records{job="articles",table="demo.news.articles_raw",topic="articles.raw.v1",outcome="rejected"} 0
        tidegate_last_run_records{job="articles",table="demo.news.articles_raw",topic="articles.raw.v1",outcome="late"} 0
        tidegate_last_run_records{job="articles",table="demo.news.articles_raw",topic="articles.raw.v1",outcome="filtered"} 0
        tidegate_last_run_records{job="articles",table="demo.news.articles_raw",topic="articles.raw.v1",outcome="duplicate"} 34567
        tidegate_last_run_records{job="articles",table="demo.news.articles_raw",topic="articles.raw.v1",outcome="stale"} 0
        tidegate_last_run_records{job="articles",table="demo.news.articles_raw",topic="articles.raw.v1",outcome="inserted"} 200000
        tidegate_last_run_records{job="articles",table="demo.news.articles_raw",topic="articles.raw.v1",outcome="updated"} 1000000
        tidegate_last_run_records{job="articles",table="demo.news.articles_raw",topic="articles.raw.v1",outcome="deleted"} 0
        tidegate_last_run_records{job="articles",table="demo.news.articles_raw",topic="articles.raw.v1",outcome="noop"} 0
        # HELP tidegate_last_run_records_soft_deleted Deletes of the last run whose row stayed: inserts and updates.
        # TYPE tidegate_last_run_records_soft_deleted gauge
        tidegate_last_run_records_soft_deleted{job="articles",table="demo.news.articles_raw",topic="articles.raw.v1"} 0
        # HELP tidegate_last_run_records_read Records that the last run read.
        # TYPE tidegate_last_run_records_read gauge
        tidegate_last_run_records_read{job="articles",table="demo.news.articles_raw",topic="articles.raw.v1"} 1234567
        # HELP tidegate_duplicate_ratio Share of the records of the last run that another version of their id in the same batch beat.
        # TYPE tidegate_duplicate_ratio gauge
        tidegate_duplicate_ratio{job="articles",table="demo.news.articles_raw",topic="articles.raw.v1"} 0.027999
        # HELP tidegate_error_ratio Share of the records of the last run that were rejected.
        # TYPE tidegate_error_ratio gauge
        tidegate_error_ratio{job="articles",table="demo.news.articles_raw",topic="articles.raw.v1"} 0
        # HELP tidegate_last_run_duration_seconds How long the last run took.
        # TYPE tidegate_last_run_duration_seconds gauge
        tidegate_last_run_duration_seconds{job="articles",table="demo.news.articles_raw",topic="articles.raw.v1"} 1.234
        # HELP tidegate_last_run_timestamp_seconds When the last run ended.
        # TYPE tidegate_last_run_timestamp_seconds gauge
        tidegate_last_run_timestamp_seconds{job="articles",table="demo.news.articles_raw",topic="articles.raw.v1"} 1795168801.234
        # HELP tidegate_last_success_timestamp_seconds When the last run that did not fail ended.
        # TYPE tidegate_last_success_timestamp_seconds gauge
        tidegate_last_success_timestamp_seconds{job="articles",table="demo.news.articles_raw",topic="articles.raw.v1"} 1795168801.234
        # HELP tidegate_last_run_exit_code Exit code of the last run.
        # TYPE tidegate_last_run_exit_code gauge
        tidegate_last_run_exit_code{job="articles",table="demo.news.articles_raw",topic="articles.raw.v1"} 0
        # HELP tidegate_last_run_batches Batches that the last run committed.
        # TYPE tidegate_last_run_batches gauge
        tidegate_last_run_batches{job="articles",table="demo.news.articles_raw",topic="articles.raw.v1"} 1
        # HELP tidegate_watermark_timestamp_seconds Event time below which records are late.
        # TYPE tidegate_watermark_timestamp_seconds gauge
        tidegate_watermark_timestamp_seconds{job="articles",table="demo.news.articles_raw",topic="articles.raw.v1"} 1795161587.5
        "#);
    }

    #[test]
    fn a_run_with_nothing_new_has_zeros() {
        let page = render(&sample::nothing_new(), None);
        for name in
            ["lag_records", "last_run_records", "last_run_records_read", "duplicate_ratio", "error_ratio", "last_run_batches"]
        {
            assert_eq!(value(&page, name), Some(0.0), "{name}");
        }
        assert_eq!(value(&page, "watermark_timestamp_seconds"), None);
        assert_eq!(value(&page, "lag_seconds"), None);
        let failed = render(&Report { outcome: Outcome::Failed, ..sample::nothing_new() }, None);
        assert_eq!(value(&failed, "error_ratio"), None);
    }

    #[test]
    fn a_failure_keeps_the_time_of_the_last_success() {
        let success = render(&sample::committed(), None);
        let ended = value(&success, LAST_SUCCESS);
        assert_eq!(ended, Some(1_795_168_801.234));
        let later = Report { started_at: "2026-11-21T10:00:00Z".into(), ..sample::committed() };
        let failed = Report { outcome: Outcome::Failed, exit_code: 75, ..later.clone() };
        let failure = render(&failed, Some(&success));
        assert_eq!(value(&failure, LAST_SUCCESS), ended);
        assert_eq!(value(&failure, "last_run_exit_code"), Some(75.0));
        assert_eq!(value(&render(&failed, Some(&failure)), LAST_SUCCESS), ended, "over several failures");
        assert_eq!(value(&render(&failed, None), LAST_SUCCESS), None, "never succeeded");
        let other = Report { head: Head::of("run", "other"), ..failed };
        assert_eq!(value(&render(&other, Some(&success)), LAST_SUCCESS), None, "another job's file");
        assert!(value(&render(&later, Some(&success)), LAST_SUCCESS) > ended);
    }

    #[test]
    fn a_run_that_could_not_read_its_job_goes_on_with_the_series_of_its_file() {
        let success = render(&sample::committed(), None);
        let nameless =
            Report { head: Head::of("run", "job.toml"), table: String::new(), topic: String::new(), ..sample::nothing_new() };
        let unusable = Report { outcome: Outcome::Failed, exit_code: 78, ..nameless };
        let failure = render(&unusable, Some(&success));
        let exit_code = |page: &str| {
            let mut samples = parse(page).into_iter().filter(|((name, _), _)| name == "tidegate_last_run_exit_code");
            samples.next().map(|((_, labels), value)| (labels, value)).unwrap()
        };
        assert_eq!(exit_code(&failure), (exit_code(&success).0, 78.0));
        assert_eq!(value(&failure, LAST_SUCCESS), value(&success, LAST_SUCCESS));
        assert_eq!(exit_code(&render(&unusable, None)).0[0].1, "job.toml", "the first run of all");
    }

    #[test]
    fn what_counts_as_success() {
        for (outcome, exit_code, expected) in [
            (Outcome::Committed, 0, true),
            (Outcome::Committed, 75, false),
            (Outcome::NothingNew, 99, true),
            (Outcome::Overtaken, 0, true),
            (Outcome::Skipped, 0, true),
            (Outcome::Interrupted, 0, true),
            (Outcome::Failed, 75, false),
        ] {
            let page = render(&Report { outcome, exit_code, ..sample::committed() }, None);
            assert_eq!(value(&page, LAST_SUCCESS).is_some(), expected, "{outcome:?} {exit_code}");
        }
    }

    #[test]
    fn a_damaged_previous_file_is_not_copied() {
        let failed = Report { outcome: Outcome::Failed, ..sample::committed() };
        let labels = "job=\"articles\",table=\"demo.news.articles_raw\",topic=\"articles.raw.v1\"";
        for (previous, expected) in [("12.5", Some(12.5)), ("NaN", None), ("1 2", None), ("", None), ("x", None)] {
            let previous = format!("tidegate_{LAST_SUCCESS}{{{labels}}} {previous}\n");
            assert_eq!(value(&render(&failed, Some(&previous)), LAST_SUCCESS), expected, "{previous}");
        }
    }

    #[test]
    fn the_file_carries_the_last_success_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tidegate.prom");
        write_metrics_file(&path, &sample::committed()).unwrap();
        write_metrics_file(&path, &Report { outcome: Outcome::Failed, exit_code: 65, ..sample::committed() }).unwrap();
        let page = fs::read_to_string(&path).unwrap();
        assert_eq!(value(&page, LAST_SUCCESS), Some(1_795_168_801.234));
        assert_eq!(value(&page, "last_run_exit_code"), Some(65.0));
        assert!(write_metrics_file(folder.path(), &sample::committed()).is_err());
    }

    #[test]
    fn decimals_are_exact() {
        for (value, expected) in
            [(0, "0"), (1, "0.000001"), (-1_500_000, "-1.5"), (10_000_000, "10"), (1_795_168_801_234_000, "1795168801.234")]
        {
            assert_eq!(millionths(value), expected);
        }
    }

    proptest! {
        #[test]
        fn every_report_makes_a_valid_page(report in sample::reports(), previous in prop::option::of(".{0,60}")) {
            let page = render(&report, previous.as_deref());
            let samples = parse(&page);
            let labels: Vec<_> = [("job", &report.head.job), ("table", &report.table), ("topic", &report.topic)]
                .map(|(name, value)| (name.to_owned(), value.clone())).into();
            prop_assert!(samples.keys().all(|(_, found)| found.starts_with(&labels)));
            let by_outcome: f64 = samples.iter().filter(|((name, _), _)| name == "tidegate_last_run_records").map(|(_, n)| n).sum();
            prop_assert_eq!(Some(&by_outcome), samples.get(&("tidegate_last_run_records_read".to_owned(), labels)));
        }
    }
}
