//! What the table has to hold, worked out by a dictionary from what the producer meant.
//!
//! Pure, and on purpose without anything of the job: no codec, no merge, no reader of its own is shared with what it judges.

use std::collections::{BTreeMap, HashMap};

use crate::counts::Counts;
use crate::demo::articles::{Article, Meaning, Record};
use crate::error::{Error, Result};
use crate::offsets::{Offset, Offsets, Partition};
use crate::report::human::thousands;

/// Rejects by where they stand in the topic.
pub(super) type Rejects = BTreeMap<(Partition, Offset), String>;

/// The right content after every record so far.
#[derive(Debug, Default)]
pub(super) struct Truth {
    rows: BTreeMap<String, Article>,
    rejects: Rejects,
    next: Offsets,
}

/// How a table compares with the truth.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) rows: usize,
    /// Articles without a row.
    pub(super) missing: usize,
    /// Rows beyond the first of an article.
    pub(super) twice: usize,
    /// Rows of another version, or of no article.
    pub(super) wrong: usize,
}

impl Truth {
    /// Takes a batch in, and says what the accounts of its run must be.
    pub(super) fn take(&mut self, records: &[Record]) -> Counts {
        let mut counts = Counts { read: u64::try_from(records.len()).expect("a few thousand"), ..Counts::default() };
        let mut latest: HashMap<&str, &Article> = HashMap::new();
        for record in records {
            let next = self.next.entry(record.partition).or_default();
            let offset = *next;
            *next += 1;
            match &record.meaning {
                Meaning::Reject(reason) => {
                    self.rejects.insert((record.partition, offset), (*reason).to_owned());
                    *(if *reason == "late" { &mut counts.late } else { &mut counts.rejected }) += 1;
                }
                Meaning::Article(article) => {
                    if let Some(other) = latest.get(article.id.as_str()) {
                        counts.duplicate += 1;
                        if !newer(article, other) {
                            continue;
                        }
                    }
                    latest.insert(&article.id, article);
                }
            }
        }
        for (id, article) in latest {
            match self.rows.get(id) {
                None => counts.inserted += 1,
                Some(stored) if newer(article, stored) => counts.updated += 1,
                Some(_) => {
                    counts.stale += 1;
                    continue;
                }
            }
            self.rows.insert(id.to_owned(), article.clone());
        }
        counts
    }

    /// Compares rows as they were read, in any order.
    pub(super) fn compare(&self, rows: &[Article]) -> Verdict {
        let mut seen: HashMap<&str, usize> = HashMap::new();
        let mut verdict = Verdict { rows: rows.len(), ..Verdict::default() };
        for row in rows {
            let times = seen.entry(&row.id).or_default();
            *times += 1;
            if *times > 1 {
                verdict.twice += 1;
            } else if self.rows.get(&row.id) != Some(row) {
                verdict.wrong += 1;
            }
        }
        verdict.missing = self.rows.keys().filter(|id| !seen.contains_key(id.as_str())).count();
        verdict
    }

    /// Fails where the table holds anything else than the truth.
    pub(super) fn check(&self, rows: &[Article], rejects: &[((Partition, Offset), String)]) -> Result<Verdict> {
        let verdict = self.compare(rows);
        if verdict != (Verdict { rows: self.rows.len(), ..Verdict::default() }) {
            let Verdict { rows, missing, twice, wrong } = &verdict;
            let expected = self.rows.len();
            return Err(Error::broken(format!(
                "the demo's table has {rows} rows instead of {expected}: {missing} missing, {twice} twice, {wrong} wrong"
            )));
        }
        let found: Rejects = rejects.iter().cloned().collect();
        if rejects.len() != found.len() || found != self.rejects {
            let expected = self.rejects.len();
            let example = found.iter().find(|(at, reason)| self.rejects.get(at) != Some(reason));
            return Err(Error::broken(format!(
                "the demo's rejects table has {} records that are not the {expected} expected (the first: {example:?})",
                rejects.len()
            )));
        }
        Ok(verdict)
    }
}

impl Verdict {
    /// The line that a test of the demo looks for.
    pub(super) fn line(&self) -> String {
        let Self { rows, missing, twice, .. } = self;
        format!("table equals the truth: {} rows, {missing} missing, {twice} twice", thousands(rows))
    }
}

/// The job's rule, said once more: the later event time wins, then the higher version; where both are equal the first stays.
fn newer(article: &Article, other: &Article) -> bool {
    (article.published_at, article.version) > (other.published_at, other.version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn article(id: &str, published_at: i64, version: i64) -> Article {
        Article { id: id.into(), title: format!("{id} {version}"), source: "s".into(), published_at, version }
    }

    fn sent(id: &str, published_at: i64, version: i64) -> Record {
        let meaning = Meaning::Article(article(id, published_at, version));
        Record { partition: 0, key: id.into(), value: None, meaning }
    }

    fn reject(partition: i32, reason: &'static str) -> Record {
        Record { partition, key: "k".into(), value: None, meaning: Meaning::Reject(reason) }
    }

    #[test]
    fn the_latest_version_stays_and_each_record_has_one_outcome() {
        let mut truth = Truth::default();
        let first = truth.take(&[sent("a", 5, 1), sent("b", 5, 1), sent("a", 5, 1), sent("c", 5, 1), sent("c", 4, 9)]);
        assert_eq!(first, Counts { read: 5, duplicate: 2, inserted: 3, ..Counts::default() });
        let second = truth.take(&[
            sent("a", 5, 2),
            sent("b", 5, 1),
            sent("c", 4, 8),
            reject(1, "late"),
            reject(1, "future"),
            sent("a", 6, 1),
        ]);
        assert_eq!(second, Counts { read: 6, rejected: 1, late: 1, duplicate: 1, stale: 2, updated: 1, ..Counts::default() });
        assert_eq!((first.sum(), second.sum()), (5, 6));
        let rows = [article("b", 5, 1), article("a", 6, 1), article("c", 5, 1)];
        let rejects = [((1, 1), "future".to_owned()), ((1, 0), "late".to_owned())];
        assert_eq!(truth.check(&rows, &rejects).unwrap().line(), "table equals the truth: 3 rows, 0 missing, 0 twice");
        assert_eq!(truth.check(&rows, &rejects[1..]).unwrap_err().exit_code(), 101);
        assert!(truth.check(&rows, &[rejects[0].clone(), rejects[1].clone(), rejects[1].clone()]).is_err());
    }

    #[test]
    fn every_kind_of_difference_is_found() {
        let mut truth = Truth::default();
        truth.take(&[sent("a", 5, 1), sent("b", 5, 1)]);
        for (rows, missing, twice, wrong) in [
            (vec![article("a", 5, 1)], 1, 0, 0),
            (vec![article("a", 5, 1), article("b", 5, 1), article("a", 5, 1)], 0, 1, 0),
            (vec![article("a", 5, 1), article("b", 4, 1)], 0, 0, 1),
            (vec![article("a", 5, 1), article("b", 5, 1), article("c", 5, 1)], 0, 0, 1),
            (vec![article("a", 5, 1), article("a", 5, 1)], 1, 1, 0),
        ] {
            assert_eq!(truth.compare(&rows), Verdict { rows: rows.len(), missing, twice, wrong }, "{rows:?}");
            assert_eq!(truth.check(&rows, &[]).unwrap_err().exit_code(), 101);
        }
    }
}
