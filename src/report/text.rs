//! The report, and an error, for a person.
//!
//! Pure: whether to colour comes in as an argument. Never the place to add a fact: what stands here is in the JSON too.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::error::Error;
use crate::offsets::{Offset, Offsets};
use crate::report::human::{bytes, counted, duration, thousands};
use crate::report::{ErrorReport, FilesReport, Outcome, Report};

/// Partitions up to which each gets a line of its own; more would push the rest off the screen.
const PARTITIONS_SHOWN: usize = 8;
/// Batches with something of their own to say that are named one by one.
const LINES_SHOWN: usize = 3;
/// Width of the column of row names: the longest, `watermark`, and two spaces.
const NAME_WIDTH: usize = 11;

const DIM: &str = "2";
const RED: &str = "1;31";
const GREEN: &str = "1;32";
const YELLOW: &str = "1;33";
const CYAN: &str = "1;36";

/// What a run did: one line, and where it committed something the account of it.
pub fn summary(report: &Report, colour: bool) -> String {
    let paint = Paint(colour);
    let mut text = format!("{}: {}{}\n", report.head.job, headline(report, paint), took(report));
    if !report.batches.is_empty() {
        text.push('\n');
        for (name, lines) in account(report) {
            for (i, line) in lines.iter().enumerate() {
                let name = if i == 0 { name } else { "" };
                text.push_str(&format!("  {}{line}\n", paint.with(DIM, &format!("{name:NAME_WIDTH$}"))));
            }
        }
    }
    if !report.batches.is_empty() && !report.warnings.is_empty() {
        text.push('\n');
    }
    for warning in &report.warnings {
        text.push_str(&format!("{} {}\n", paint.with(YELLOW, "warning:"), indented(warning, "         ")));
    }
    if let Some(hint) = drain_hint(report) {
        text.push_str(&format!("\n{hint}\n"));
    }
    text
}

/// What went wrong, why, and what to do about it, for stderr.
pub fn error(error: &Error, colour: bool) -> String {
    let paint = Paint(colour);
    let ErrorReport { message, causes, hint } = ErrorReport::from_error(error);
    let mut text = format!("{} {}\n", paint.with(RED, "error:"), indented(&message, "       "));
    // The mistakes of a job file stand side by side; none is the cause of another.
    let is_list = matches!(error, Error::Job { .. });
    for cause in &causes {
        if is_list {
            text.push_str(&format!("  {}\n", indented(cause, "    ")));
        } else {
            text.push_str(&format!("  {} {}\n", paint.with(RED, "cause:"), indented(cause, "         ")));
        }
    }
    if let Some(hint) = hint {
        text.push_str(&format!("\n{} {}\n", paint.with(CYAN, "hint:"), indented(&hint, "      ")));
    }
    text
}

fn headline(report: &Report, paint: Paint) -> String {
    let committed = committed(report);
    match (report.outcome, committed) {
        (Outcome::Committed, Some((batches, place))) => format!("{} {batches} to {place}", paint.with(GREEN, "committed")),
        (Outcome::Committed | Outcome::NothingNew, _) => format!("nothing new in {}", report.topic),
        (Outcome::Skipped, _) => {
            let waiting = report.remaining.map_or_else(|| "too few offsets".into(), |n| format!("only {}", counted(n, "offset")));
            format!("skipped: {waiting} new in {}, below min_offsets_per_trigger", report.topic)
        }
        (Outcome::Overtaken, None) => "another run of this job was first; this one changed nothing".into(),
        (Outcome::Overtaken, Some((batches, place))) => {
            format!("{} {batches} to {place}, then another run of this job went on", paint.with(GREEN, "committed"))
        }
        (Outcome::Interrupted, None) => "ended by a signal with nothing to commit".into(),
        (Outcome::Interrupted, Some((batches, place))) => {
            format!("ended by a signal after it {} {batches} to {place}", paint.with(GREEN, "committed"))
        }
        // It does not say that nothing was committed: after an unclear answer that would be a guess.
        (Outcome::Failed, None) => format!("{} with exit code {}", paint.with(RED, "failed"), report.exit_code),
        (Outcome::Failed, Some((batches, place))) => {
            format!("{} with exit code {} after it committed {batches} to {place}", paint.with(RED, "failed"), report.exit_code)
        }
    }
}

/// The committed batches and where they went; none where nothing was committed.
fn committed(report: &Report) -> Option<(String, String)> {
    let (first, last) = (report.batches.first()?, report.batches.last()?);
    let batches = match report.batches.len() {
        1 => format!("batch {}", first.batch),
        n => format!("{n} batches ({} to {})", first.batch, last.batch),
    };
    let place = match report.branch.as_str() {
        "main" => report.table.clone(),
        branch => format!("{} branch {branch}", report.table),
    };
    Some((batches, place))
}

fn took(report: &Report) -> String {
    let took = duration(Duration::from_millis(report.duration_ms));
    match (report.outcome, report.exit_code) {
        (Outcome::Failed, _) | (_, 0) => format!(" ({took})"),
        (_, code) => format!(" ({took}, exit code {code})"),
    }
}

type Rows = Vec<(&'static str, Vec<String>)>;

fn account(report: &Report) -> Rows {
    let mut rows = vec![("records", records(report)), ("offsets", offsets(report))];
    if let Some(watermark) = &report.watermark {
        rows.push(("watermark", vec![watermark.replace(".000000Z", "Z")]));
    }
    rows.push(("lag", lag(report)));
    rows.push(("files", files(report)));
    rows.push(("attempts", attempts(report)));
    rows.push(("cut", cuts(report)));
    rows
}

fn records(report: &Report) -> Vec<String> {
    let counts: Vec<_> = report.records.named().into_iter().filter(|&(name, n)| n > 0 || name == "read").collect();
    let width = counts.iter().map(|&(_, n)| thousands(n).len()).max().unwrap_or(0);
    let line = |&(name, n): &(&'static str, u64)| {
        let line = format!("{:>width$} {name}", thousands(n));
        match report.records.read.saturating_mul(1_000).checked_div(report.duration_ms) {
            Some(rate) if name == "read" && rate > 0 => format!("{line} ({} per s)", thousands(rate)),
            _ => line,
        }
    };
    counts.iter().map(line).collect()
}

/// From where to where the run read, over all its batches.
fn offsets(report: &Report) -> Vec<String> {
    let mut moved: BTreeMap<(&str, i32), (Offset, Offset)> = BTreeMap::new();
    for batch in &report.batches {
        for (topic, ends) in &batch.offsets.end {
            let starts = batch.offsets.start.get(topic);
            for (&partition, &end) in ends {
                let start = starts.and_then(|starts: &Offsets| starts.get(&partition)).copied();
                moved.entry((topic, partition)).or_insert((start.unwrap_or(end), end)).1 = end;
            }
        }
    }
    moved.retain(|_, (start, end)| start != end);
    if moved.len() > PARTITIONS_SHOWN {
        let total: u64 = moved.values().map(|(start, end)| start.abs_diff(*end)).sum();
        return vec![format!("{} of {} partitions", thousands(total), thousands(moved.len()))];
    }
    let shown: Vec<_> = moved.iter().map(|((_, p), (start, end))| [p.to_string(), thousands(*start), thousands(*end)]).collect();
    let width = |column: usize| shown.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2)];
    let line = |row: &[String; 3]| {
        format!("partition {:>w0$}: {:>w1$} to {:>w2$}", row[0], row[1], row[2], w0 = widths[0], w1 = widths[1], w2 = widths[2])
    };
    shown.iter().map(line).collect()
}

fn lag(report: &Report) -> Vec<String> {
    let mut facts = Vec::new();
    if let Some(lag) = report.lag_records {
        facts.push(counted(lag, "offset"));
    }
    // A negative age (an event time ahead of the clock) is no lag, and `try_from` refuses what is not a number.
    if let Some(age) = report.lag_seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) {
        facts.push(format!("newest event time {} before the run", duration(age)));
    }
    if facts.is_empty() { vec![] } else { vec![facts.join(", ")] }
}

fn files(report: &Report) -> Vec<String> {
    let sum = |number: fn(&FilesReport) -> u64| report.batches.iter().map(|batch| number(&batch.files)).sum::<u64>();
    let (data, deletes, searched) = (sum(|f| f.data_files), sum(|f| f.delete_files), sum(|f| f.files_searched));
    let mut facts = Vec::new();
    if data > 0 {
        facts.push(format!("{} ({})", counted(data, "data file"), bytes(sum(|f| f.data_bytes))));
    }
    if deletes > 0 {
        facts.push(counted(deletes, "delete file"));
    }
    let (rewritten, carried) = (sum(|f| f.rewritten_files), sum(|f| f.carried_rows));
    if rewritten > 0 {
        facts.push(format!("{} rewritten ({} carried over)", counted(rewritten, "file"), counted(carried, "row")));
    }
    let cost = || format!("{}, {}", counted(sum(|f| f.search_requests), "request"), bytes(sum(|f| f.search_bytes)));
    match report.batches.as_slice() {
        [only] if searched > 0 => {
            let files = counted(only.files.table_files, "file");
            facts.push(format!("ids searched in {} of {files} ({})", thousands(searched), cost()));
        }
        _ if searched > 0 => facts.push(format!("ids searched in {} ({})", counted(searched, "file"), cost())),
        _ => (),
    }
    if facts.is_empty() { vec![] } else { vec![facts.join(", ")] }
}

/// Said only when other writers made it more than one per batch.
fn attempts(report: &Report) -> Vec<String> {
    let retried = report.batches.iter().filter(|batch| batch.attempts > 1);
    few(retried.map(|batch| format!("{} to commit batch {}", thousands(batch.attempts), batch.batch)).collect())
}

fn cuts(report: &Report) -> Vec<String> {
    few(report.batches.iter().filter_map(|batch| Some(format!("batch {}: {}", batch.batch, batch.cut.as_ref()?))).collect())
}

fn few(mut lines: Vec<String>) -> Vec<String> {
    let more = lines.len().saturating_sub(LINES_SHOWN);
    lines.truncate(LINES_SHOWN);
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    lines
}

fn drain_hint(report: &Report) -> Option<String> {
    let remaining = report.remaining.filter(|&n| n > 0)?;
    matches!(report.outcome, Outcome::Committed | Outcome::Interrupted)
        .then(|| format!("{} left; run with --drain to go on", counted(remaining, "offset")))
}

/// Keeps the lines after the first under the first.
fn indented(text: &str, indent: &str) -> String {
    text.trim_end().replace('\n', &format!("\n{indent}"))
}

#[derive(Debug, Clone, Copy)]
struct Paint(bool);

impl Paint {
    fn with(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Origin;
    use crate::error::{Mistake, Mistakes};
    use crate::report::sample;
    use insta::assert_snapshot;

    #[test]
    fn one_batch() {
        assert_snapshot!(summary(&sample::committed(), false), @r"
        articles: committed batch 12 to demo.news.articles_raw (1.2 s)

          records    1,234,567 read (1,000,459 per s)
                        34,567 duplicate
                       200,000 inserted
                     1,000,000 updated
          offsets    partition 0: 0 to 1,000,000
                     partition 1: 0 to   234,567
          watermark  2026-11-20T07:59:47.500000Z
          lag        0 offsets, newest event time 12.5 s before the run
          files      3 data files (12.3 MiB), 2 delete files, ids searched in 4 of 120 files (14 requests, 3.2 MiB)
        ");
    }

    #[test]
    fn several_batches_with_everything_to_say() {
        let mut report = sample::committed_batches(&[10, 11, 12, 13]);
        report.branch = "audit".into();
        report.remaining = Some(200_000);
        report.lag_records = Some(200_000);
        report.lag_seconds = Some(7_500.0);
        report.warnings = vec!["could not mirror offsets to group `tidegate-articles`:\ntimed out".into(), "second".into()];
        report.batches[1].attempts = 3;
        report.batches.iter_mut().for_each(|batch| batch.cut = Some("max_bytes_per_trigger".into()));
        report.exit_code = 75;
        assert_snapshot!(summary(&report, false), @r"
        articles: committed 4 batches (10 to 13) to demo.news.articles_raw branch audit (1.2 s, exit code 75)

          records    4,938,268 read (4,001,837 per s)
                       138,268 duplicate
                       800,000 inserted
                     4,000,000 updated
          offsets    partition 0: 0 to 4,000,000
                     partition 1: 0 to   938,268
          watermark  2026-11-20T07:59:47.500000Z
          lag        200,000 offsets, newest event time 2 h 5 min before the run
          files      12 data files (49.2 MiB), 8 delete files, ids searched in 16 files (56 requests, 12.9 MiB)
          attempts   3 to commit batch 11
          cut        batch 10: max_bytes_per_trigger
                     batch 11: max_bytes_per_trigger
                     batch 12: max_bytes_per_trigger
                     and 1 more

        warning: could not mirror offsets to group `tidegate-articles`:
                 timed out
        warning: second

        200,000 offsets left; run with --drain to go on
        ");
    }

    #[test]
    fn many_partitions_are_summed() {
        let mut report = sample::committed();
        let offsets = |at: i64| BTreeMap::from([("t".to_owned(), (0..64).map(|p| (p, at)).collect())]);
        report.batches[0].offsets.start = offsets(5);
        report.batches[0].offsets.end = offsets(1_005);
        let text = summary(&report, false);
        assert!(text.contains("offsets    64,000 of 64 partitions\n"), "{text}");
    }

    #[test]
    fn runs_without_a_commit_take_one_line() {
        for (outcome, remaining, expected) in [
            (Outcome::NothingNew, Some(0), "articles: nothing new in articles.raw.v1 (312 ms)\n"),
            (
                Outcome::Skipped,
                Some(1_200),
                "articles: skipped: only 1,200 offsets new in articles.raw.v1, below min_offsets_per_trigger (312 ms)\n",
            ),
            (
                Outcome::Skipped,
                None,
                "articles: skipped: too few offsets new in articles.raw.v1, below min_offsets_per_trigger (312 ms)\n",
            ),
            (Outcome::Overtaken, Some(7), "articles: another run of this job was first; this one changed nothing (312 ms)\n"),
            (Outcome::Interrupted, None, "articles: ended by a signal with nothing to commit (312 ms)\n"),
            (Outcome::Failed, Some(7), "articles: failed with exit code 0 (312 ms)\n"),
        ] {
            assert_eq!(summary(&Report { outcome, remaining, ..sample::nothing_new() }, false), expected);
        }
        let report = Report { exit_code: 99, ..sample::nothing_new() };
        assert_eq!(summary(&report, false), "articles: nothing new in articles.raw.v1 (312 ms, exit code 99)\n");
    }

    #[test]
    fn what_was_committed_before_the_end_is_named() {
        for (outcome, expected) in [
            (Outcome::Interrupted, "articles: ended by a signal after it committed batch 12 to demo.news.articles_raw (1.2 s)"),
            (
                Outcome::Overtaken,
                "articles: committed batch 12 to demo.news.articles_raw, then another run of this job went on (1.2 s)",
            ),
            (Outcome::Failed, "articles: failed with exit code 75 after it committed batch 12 to demo.news.articles_raw (1.2 s)"),
        ] {
            let exit_code = if outcome == Outcome::Failed { 75 } else { 0 };
            let text = summary(&Report { outcome, exit_code, ..sample::committed() }, false);
            assert_eq!(text.lines().next(), Some(expected));
            assert!(text.contains("1,234,567 read"), "{text}");
        }
    }

    #[test]
    fn what_is_unknown_is_left_out() {
        let mut report = sample::committed();
        (report.lag_records, report.remaining, report.lag_seconds, report.watermark) = (None, None, Some(f64::NAN), None);
        report.batches[0].files = FilesReport::default();
        let text = summary(&report, false);
        assert!(["lag", "watermark", "files", "left"].iter().all(|word| !text.contains(word)), "{text}");
    }

    #[test]
    fn what_was_rewritten_is_told_instead_of_deletes() {
        let mut report = sample::committed();
        let files = &mut report.batches[0].files;
        (files.delete_files, files.rewritten_files, files.carried_rows) = (0, 2, 1_500_000);
        let text = summary(&report, false);
        assert!(text.contains("3 data files (12.3 MiB), 2 files rewritten (1,500,000 rows carried over), ids"), "{text}");
    }

    #[test]
    fn colour_only_adds_escapes() {
        let mut report = sample::committed();
        report.warnings = vec!["w".into()];
        let coloured = summary(&report, true);
        assert!(coloured.contains("\x1b[1;32mcommitted\x1b[0m"), "{coloured:?}");
        let plain = ["\x1b[1;32m", "\x1b[1;33m", "\x1b[2m", "\x1b[0m"].iter().fold(coloured, |text, code| text.replace(code, ""));
        assert_eq!(plain, summary(&report, false));
    }

    #[test]
    fn an_error_with_causes_and_a_hint() {
        let source = "two\nlines".to_owned();
        assert_snapshot!(error(&Error::unavailable("load the table `a.b`", source), false), @r"
        error: could not load the table `a.b`
          cause: two
                 lines

        hint: running again is safe; if it keeps failing, `tidegate check` tests each connection
        ");
    }

    #[test]
    fn mistakes_are_listed_one_per_line() {
        let mistake = |line: Option<usize>, message: &str| Mistake { at: line.map(Origin::Line), message: message.into() };
        let mistakes = Mistakes(vec![
            mistake(Some(3), "unknown key `tpoic`; did you mean `topic`?"),
            mistake(None, "`[table] name` is missing"),
        ]);
        assert_snapshot!(error(&Error::Job { file: "job.toml".into(), mistakes }, false), @r"
        error: job file `job.toml` is not usable
          line 3: unknown key `tpoic`; did you mean `topic`?
          `[table] name` is missing
        ");
    }

    #[test]
    fn an_error_without_a_hint_ends_after_its_message() {
        assert_eq!(error(&Error::Interrupted { signal: 15 }, true).lines().count(), 1);
    }
}
