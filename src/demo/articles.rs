//! What the demo's producer sends, and what it means by each record.
//!
//! Pure and deterministic: the same clock yields the same records. Times lie so that every verdict is certain: what is in time lies
//! above every watermark of the demo, what is late lies a day below, what is future lies hours ahead.

use crate::offsets::Partition;
use crate::progress::rfc3339;

/// Partitions of the demo's topic.
pub(super) const PARTITIONS: i32 = 4;

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;

const WHO: &[&str] = &[
    "Harbour",
    "City council",
    "Observatory",
    "Ferry line",
    "Bakers' guild",
    "Lighthouse",
    "Museum",
    "Orchestra",
    "Weather office",
];
const DOES: &[&str] = &["opens", "postpones", "maps", "repairs", "celebrates", "questions", "counts", "rebuilds"];
const WHAT: &[&str] =
    &["the tide gate", "the night market", "an old bridge", "the salt marsh", "its archive", "the summer tour", "a new pier"];
const SOURCES: &[&str] = &["Coast Daily", "Evening Post", "Newswire", "The Pilot"];
const BODY: &str = "Twice a day the gate opens on the tide's schedule, lets a bounded amount of water through, and shuts. \
    Nobody has to stand beside it, and nothing that has passed comes through a second time.";

/// One version of one article.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Article {
    pub(super) id: String,
    pub(super) title: String,
    pub(super) source: String,
    /// µs since the epoch.
    pub(super) published_at: i64,
    pub(super) version: i64,
}

/// What has to become of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Meaning {
    /// A version of an article.
    Article(Article),
    /// A reject, for this reason.
    Reject(&'static str),
}

/// A record of the topic.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) partition: Partition,
    pub(super) key: String,
    pub(super) value: Option<String>,
    pub(super) meaning: Meaning,
}

/// How many of each kind the demo sends.
pub(super) mod amount {
    pub(in crate::demo) const FIRST: u64 = 20_000;
    pub(in crate::demo) const AGAIN: u64 = 3_000;
    pub(in crate::demo) const CORRECTED: u64 = 4_000;
    pub(in crate::demo) const OUTDATED: u64 = 500;
    pub(in crate::demo) const MORE: u64 = 3_000;
    pub(in crate::demo) const LATE: u64 = 60;
    pub(in crate::demo) const FUTURE: u64 = 30;
    pub(in crate::demo) const BROKEN: u64 = 40;
    pub(in crate::demo) const RUSH: u64 = 6_000;
    pub(in crate::demo) const RUSH_CORRECTED: u64 = 4_000;
}

/// Writes the articles.
#[derive(Debug)]
pub(super) struct Newsroom {
    now: i64,
    random: u64,
    /// The latest version of each article, by number.
    articles: Vec<Article>,
}

impl Newsroom {
    /// `now` is the clock in µs since the epoch.
    pub(super) fn new(now: i64) -> Self {
        Self { now: now - now.rem_euclid(SECOND), random: 0x7469_6465, articles: Vec::new() }
    }

    /// New articles; every other one is at most 90 minutes old, the rest up to two days.
    pub(super) fn first(&mut self) -> Vec<Record> {
        (0..amount::FIRST)
            .map(|n| {
                let oldest = if n % 2 == 0 { 70 * MINUTE } else { 47 * HOUR };
                let age = 20 * MINUTE + self.seconds(oldest);
                self.new_article(self.now - age)
            })
            .collect()
    }

    /// The same again, corrections (some of them followed by the one that they replace), and versions older than those sent before.
    pub(super) fn corrections(&mut self) -> Vec<Record> {
        let mut records = Vec::new();
        for n in 0..amount::AGAIN {
            // Articles of even number are recent: an old one sent again would be late.
            records.push(record(&self.articles[index(n * 2)]));
        }
        for n in 0..amount::CORRECTED {
            let at = index(amount::FIRST - 1 - n * 3);
            let between = Article { published_at: self.now - 17 * MINUTE, ..self.articles[at].clone() };
            let age = 10 * MINUTE + self.seconds(5 * MINUTE);
            records.push(self.correct(at, age));
            if n % 4 == 0 {
                records.push(record(&between));
            }
        }
        for n in 0..amount::OUTDATED {
            let stored = &self.articles[index((amount::AGAIN + n) * 2)];
            records.push(record(&Article { published_at: stored.published_at - 10 * MINUTE, ..stored.clone() }));
        }
        records
    }

    /// New articles, and among them what can become no row.
    pub(super) fn noise(&mut self) -> Vec<Record> {
        let mut records: Vec<_> = (0..amount::MORE).map(|_| self.recent(6 * MINUTE, 3 * MINUTE)).collect();
        let mut rejects: Vec<_> = (0..amount::LATE).map(|_| self.stray(-26 * HOUR, "late")).collect();
        rejects.extend((0..amount::FUTURE).map(|_| self.stray(3 * HOUR, "future")));
        rejects.extend((0..amount::BROKEN).map(broken));
        let step = records.len() / rejects.len();
        for (n, reject) in rejects.into_iter().enumerate() {
            records.insert(n * (step + 1), reject);
        }
        records
    }

    /// Many new articles and corrections at once.
    pub(super) fn rush(&mut self) -> Vec<Record> {
        let mut records: Vec<_> = (0..amount::RUSH).map(|_| self.recent(MINUTE, 2 * MINUTE)).collect();
        for n in 0..amount::RUSH_CORRECTED {
            let age = MINUTE + self.seconds(2 * MINUTE);
            records.push(self.correct(index(n * 5), age));
        }
        records
    }

    fn recent(&mut self, least: i64, spread: i64) -> Record {
        let age = least + self.seconds(spread);
        self.new_article(self.now - age)
    }

    fn new_article(&mut self, published_at: i64) -> Record {
        let id = format!("article-{:05}", self.articles.len());
        let title = format!("{} {} {}", self.one_of(WHO), self.one_of(DOES), self.one_of(WHAT));
        let source = self.one_of(SOURCES).to_owned();
        self.articles.push(Article { id, title, source, published_at, version: 1 });
        record(&self.articles[self.articles.len() - 1])
    }

    /// The next version of an article, this much older than the clock.
    fn correct(&mut self, at: usize, age: i64) -> Record {
        let article = &mut self.articles[at];
        article.version += 1;
        article.published_at = self.now - age;
        if !article.title.ends_with(')') {
            article.title.push_str(" (corrected)");
        }
        record(article)
    }

    /// An article at a time at which none can be taken.
    fn stray(&mut self, from_now: i64, reason: &'static str) -> Record {
        let record = self.new_article(self.now + from_now);
        self.articles.pop();
        // Nothing else has this id, so that a stray in the table could not hide behind a right row.
        let id = format!("{reason}-{:04}", self.below(10_000));
        let value = record.value.map(|value| value.replace(&record.key, &id));
        Record { partition: partition(&id), key: id, value, meaning: Meaning::Reject(reason) }
    }

    fn one_of(&mut self, words: &'static [&'static str]) -> &'static str {
        let at = self.below(i64::try_from(words.len()).expect("short lists"));
        words[usize::try_from(at).expect("below the length")]
    }

    /// A time of whole seconds, from none to below `bound`.
    fn seconds(&mut self, bound: i64) -> i64 {
        self.below(bound / SECOND) * SECOND
    }

    /// A number from 0 to below `bound`, by xorshift: the demo is the same each time.
    fn below(&mut self, bound: i64) -> i64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        i64::try_from(self.random >> 2).expect("62 bits fit") % bound
    }
}

fn record(article: &Article) -> Record {
    let number = article.id.trim_start_matches("article-");
    let value = serde_json::json!({
        "id": article.id,
        "title": article.title,
        "source": article.source,
        "url": format!("https://news.example/{number}"),
        "content": BODY,
        "published_at": rfc3339(article.published_at),
        "version": article.version,
    });
    let meaning = Meaning::Article(article.clone());
    Record { partition: partition(&article.id), key: article.id.clone(), value: Some(value.to_string()), meaning }
}

/// The ways in which a record can be useless, in turn.
fn broken(n: u64) -> Record {
    let (value, reason) = match n % 4 {
        0 => (Some(r#"{"id": "broken", "title": "cut o"#), "undecodable"),
        1 => (Some(r#"{"title": "without an id", "published_at": "2026-01-01T00:00:00Z", "version": 1}"#), "missing-field"),
        2 => (Some(r#"{"id": "broken", "published_at": "yesterday", "version": 1}"#), "wrong-type"),
        _ => (None, "null-value"),
    };
    let key = format!("broken-{n}");
    Record { partition: partition(&key), key, value: value.map(str::to_owned), meaning: Meaning::Reject(reason) }
}

/// All versions of an article take the same way.
fn partition(key: &str) -> Partition {
    let sum: i32 = key.bytes().map(i32::from).sum();
    sum % PARTITIONS
}

fn index(n: u64) -> usize {
    usize::try_from(n).expect("a few thousand articles")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_795_168_800_123_456;

    fn all(newsroom: &mut Newsroom) -> [Vec<Record>; 4] {
        [newsroom.first(), newsroom.corrections(), newsroom.noise(), newsroom.rush()]
    }

    #[test]
    fn the_same_clock_yields_the_same_records() {
        let text = |now| format!("{:?}", all(&mut Newsroom::new(now)));
        assert_eq!(text(NOW), text(NOW));
        assert_ne!(text(NOW), text(NOW + 1_000_000));
    }

    #[test]
    fn nothing_is_late_or_future_but_what_is_meant_to_be() {
        let mut highest = i64::MIN;
        for (batch, records) in all(&mut Newsroom::new(NOW)).iter().enumerate() {
            let watermark = if batch == 0 { i64::MIN } else { highest - 2 * HOUR };
            for record in records {
                match &record.meaning {
                    Meaning::Article(article) => {
                        assert!(article.published_at > watermark, "{article:?} of batch {batch} is late");
                        assert!(article.published_at < NOW, "{article:?} is not yet published");
                        highest = highest.max(article.published_at);
                    }
                    Meaning::Reject("late") => assert!(batch > 0),
                    Meaning::Reject(_) => {}
                }
            }
        }
    }

    #[test]
    fn rejects_stay_below_the_ratio_of_a_job() {
        let mut newsroom = Newsroom::new(NOW);
        newsroom.first();
        let records = newsroom.noise();
        let rejects = records.iter().filter(|record| matches!(record.meaning, Meaning::Reject(_))).count();
        assert_eq!(rejects, index(amount::LATE + amount::FUTURE + amount::BROKEN));
        assert!(rejects * 10 < records.len());
    }

    #[test]
    fn a_partition_fits_the_demo_broker() {
        let mut bytes = [0; 4];
        for record in all(&mut Newsroom::new(NOW)).iter().flatten() {
            bytes[usize::try_from(record.partition).unwrap()] += record.value.as_ref().map_or(0, String::len) + 100;
        }
        assert!(bytes.iter().all(|&bytes| bytes < 5 << 20), "{bytes:?}");
    }
}
