//! Where a reset puts each partition, and what that costs: offsets read again, offsets never read.
//!
//! Pure. Never guesses: an offset that the topic does not hold, or a partition without a place, is an error with its name.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use chrono::{DateTime, FixedOffset, NaiveDate, NaiveTime};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use crate::config::millis_at_or_after;
use crate::error::{Error, Result};
use crate::offsets::{Offset, Offsets, Partition, PartitionBounds, TopicBounds, as_argument};
use crate::report::human::counted;

const FORMS: &str = "`earliest`, `latest`, a time such as `2026-01-31T12:00:00Z`, a day such as `2026-01-31` (from 00:00 UTC), or \
                     offsets such as `0:123,1:456` or `{\"0\": 123, \"1\": 456}`";

/// Where a job is to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum To {
    /// At the earliest offset that the broker holds.
    Earliest,
    /// At the last stable offset.
    Latest,
    /// At the first record whose timestamp is at or after this one, ms since the epoch.
    Time(i64),
    /// At these offsets; partitions not named stay where they are.
    Offsets(Offsets),
}

impl FromStr for To {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "earliest" => Ok(Self::Earliest),
            "latest" => Ok(Self::Latest),
            json if json.starts_with('{') => offsets_of_json(json).map(Self::Offsets),
            pairs if pairs.split(',').all(|pair| pair.split(':').count() == 2) => offsets_of_pairs(pairs).map(Self::Offsets),
            time => match moment(time).map(|time| millis_at_or_after(&time)) {
                None => Err(format!("expected {FORMS}")),
                // To Kafka -1 and -2 mean "latest" and "earliest".
                Some(..0) => Err("the time lies before 1970".to_owned()),
                Some(millis) => Ok(Self::Time(millis)),
            },
        }
    }
}

/// A watermark as the command line gives it, in µs since the epoch.
pub fn watermark(text: &str) -> Result<i64, String> {
    let time = moment(text.trim()).ok_or("expected a time with its offset, such as `2026-01-31T12:00:00Z`")?;
    Ok(time.timestamp_micros())
}

fn moment(text: &str) -> Option<DateTime<FixedOffset>> {
    let day =
        |text: &str| Some(NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_time(NaiveTime::MIN).and_utc().fixed_offset());
    DateTime::parse_from_rfc3339(text).ok().or_else(|| day(text))
}

fn offsets_of_pairs(text: &str) -> Result<Offsets, String> {
    let mut offsets = Offsets::new();
    for pair in text.split(',') {
        let (partition, offset) = pair.split_once(':').unwrap_or((pair, ""));
        insert(&mut offsets, partition.trim(), offset.trim().parse().ok())?;
    }
    Ok(offsets)
}

/// Partition to offset, or as a snapshot's summary has it: topic to that.
fn offsets_of_json(text: &str) -> Result<Offsets, String> {
    let named = match serde_json::from_str::<Members<Offset>>(text) {
        Ok(named) => named.0,
        Err(error) => match serde_json::from_str::<Members<Members<Offset>>>(text) {
            Ok(Members(mut topics)) if topics.len() == 1 => topics.pop().map(|(_, named)| named.0).unwrap_or_default(),
            Ok(_) => return Err("the offsets of exactly one topic are wanted".to_owned()),
            Err(_) => return Err(format!("not offsets such as `{{\"0\": 123, \"1\": 456}}`: {error}")),
        },
    };
    let mut offsets = Offsets::new();
    for (partition, offset) in named {
        insert(&mut offsets, &partition, Some(offset))?;
    }
    if offsets.is_empty() { Err("no partition is named".to_owned()) } else { Ok(offsets) }
}

/// The members of a JSON object, all of them: a map would keep the last of two with one name, and say nothing.
struct Members<T>(Vec<(String, T)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Members<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Gather<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Gather<T> {
            type Value = Members<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<T>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Gather(PhantomData))
    }
}

fn insert(offsets: &mut Offsets, partition: &str, offset: Option<Offset>) -> Result<(), String> {
    let number: Partition = partition
        .parse()
        .ok()
        .filter(|&number| number >= 0)
        .ok_or_else(|| format!("`{partition}` is not the number of a partition"))?;
    let offset = offset
        .filter(|&offset| offset >= 0)
        .ok_or_else(|| format!("partition {number} has no offset: expected a whole number such as `{number}:123`"))?;
    match offsets.insert(number, offset) {
        None => Ok(()),
        Some(_) => Err(format!("partition {number} is named twice")),
    }
}

/// What is known of the job's place before the reset.
#[derive(Debug)]
pub enum Before<'a> {
    /// Next offsets to read, of this very topic.
    Offsets(&'a Offsets),
    /// The job never read any.
    Never,
    /// Nothing that could be compared with this topic's offsets, and why.
    OtherTopic(String),
    /// There was a state, but it cannot be trusted, and why.
    Unknown(String),
}

impl Before<'_> {
    /// Why the offsets before mean nothing, where that is so.
    pub fn why_unknown(&self) -> Option<&str> {
        match self {
            Self::Offsets(_) | Self::Never => None,
            Self::OtherTopic(why) | Self::Unknown(why) => Some(why),
        }
    }

    fn of(&self, partition: Partition) -> Option<Offset> {
        match self {
            Self::Offsets(offsets) => offsets.get(&partition).copied(),
            Self::Never | Self::OtherTopic(_) | Self::Unknown(_) => None,
        }
    }
}

/// What a reset does to one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move {
    /// Next offset to read before; none where none is known.
    pub from: Option<Offset>,
    /// Next offset to read after.
    pub to: Offset,
    /// Offsets that will be read a second time; none where it is not known what was read.
    pub again: Option<u64>,
    /// Offsets that will never be read; none where it is not known what was read.
    pub skipped: Option<u64>,
    /// What the broker holds; none where it could not be asked.
    pub bounds: Option<PartitionBounds>,
}

/// Where every partition of the topic goes. `at_time` answers [`To::Time`].
pub fn moves(to: &To, before: &Before<'_>, bounds: &TopicBounds, at_time: &Offsets) -> Result<BTreeMap<Partition, Move>> {
    if let To::Offsets(named) = to
        && let Some(unknown) = named.keys().find(|partition| !bounds.partitions.contains_key(partition))
    {
        return Err(Error::setup(
            format!("`--to` names partition {unknown}, which topic `{}` does not have", bounds.topic),
            format!("its partitions are 0 to {}", bounds.partitions.len().saturating_sub(1)),
        ));
    }
    let mut moves = BTreeMap::new();
    for (&partition, held) in &bounds.partitions {
        let from = before.of(partition);
        let target = target(to, partition, *held, from, at_time, bounds)?;
        moves.insert(partition, cost(target, from, *held, before));
    }
    Ok(moves)
}

fn target(
    to: &To,
    partition: Partition,
    held: Option<PartitionBounds>,
    from: Option<Offset>,
    at_time: &Offsets,
    bounds: &TopicBounds,
) -> Result<Offset> {
    let topic = &bounds.topic;
    let named = match to {
        To::Offsets(named) => named.get(&partition).copied(),
        To::Earliest | To::Latest | To::Time(_) => None,
    };
    if let (To::Offsets(named), None) = (to, named) {
        return from.ok_or_else(|| {
            Error::refused(
                format!(
                    "`--to {}` does not name partition {partition} of `{topic}`, which has no offset to stay at",
                    as_argument(named)
                ),
                "name every partition: where the job stood is not known for all of them",
            )
        });
    }
    let Some(held) = held else {
        return Err(Error::unavailable(
            format!("find where partition {partition} of `{topic}` is to go on"),
            "the partition has no leader now",
        ));
    };
    match (to, named) {
        (To::Earliest, _) => Ok(held.earliest),
        (To::Latest, _) => Ok(held.last_stable),
        (To::Time(_), _) => at_time.get(&partition).copied().ok_or_else(|| {
            Error::unavailable(format!("find the offset of a time in partition {partition} of `{topic}`"), "it was not answered")
        }),
        (To::Offsets(_), Some(offset)) if (held.earliest..=held.high_watermark).contains(&offset) => Ok(offset),
        (To::Offsets(_), offset) => Err(Error::refused(
            format!(
                "`--to` asks for offset {} of partition {partition}; topic `{topic}` holds {} to {}",
                offset.unwrap_or_default(),
                held.earliest,
                held.high_watermark
            ),
            "choose an offset in that range, or `earliest` or `latest`",
        )),
    }
}

fn cost(to: Offset, from: Option<Offset>, bounds: Option<PartitionBounds>, before: &Before<'_>) -> Move {
    let length = |start: Offset, end: Offset| Some(u64::try_from(end - start).unwrap_or(0));
    let (again, skipped) = match (before, from, bounds) {
        // At the log's end nothing comes twice, whatever was read.
        (Before::OtherTopic(_) | Before::Unknown(_), _, bounds) => {
            (bounds.filter(|bounds| to >= bounds.last_stable).map(|_| 0), None)
        }
        // What lies past the log's end was read, but cannot be read again.
        (_, Some(from), Some(bounds)) => (length(to, from.min(bounds.high_watermark)), length(from, to)),
        (_, Some(from), None) => (length(to, from), length(from, to)),
        // A partition that is new to the job would be read from its beginning.
        (_, None, Some(bounds)) => (Some(0), length(bounds.earliest, to)),
        (_, None, None) => (Some(0), None),
    };
    Move { from, to, again, skipped, bounds }
}

/// The sum over all partitions; none where one is not known.
pub fn total(moves: &BTreeMap<Partition, Move>, of: impl Fn(&Move) -> Option<u64>) -> Option<u64> {
    moves.values().map(of).sum()
}

/// In append mode a record that is read again is a row more: refused without the user's word.
pub fn may_repeat(before: &Before<'_>, moves: &BTreeMap<Partition, Move>) -> Result<()> {
    let what = match (before, total(moves, |one| one.again)) {
        (_, Some(0)) | (Before::OtherTopic(_), None) => return Ok(()),
        (_, None) => "it is not known what the table holds already".to_owned(),
        (_, Some(again)) => format!("{} would be read again", counted(again, "offset")),
    };
    Err(Error::refused(
        format!("{what}, and in append mode each record that is read again is one row more"),
        "`--allow-duplicates` says that this is wanted; deleting those rows first, or rolling the table back, keeps them single",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(partitions: &[Option<(i64, i64, i64)>]) -> TopicBounds {
        let held = |&(earliest, last_stable, high_watermark)| PartitionBounds { earliest, last_stable, high_watermark };
        let partitions = (0..).zip(partitions).map(|(partition, one)| (partition, one.as_ref().map(held))).collect();
        TopicBounds { topic: "t".into(), topic_id: None, cluster_id: None, partitions }
    }

    fn ends(moves: &BTreeMap<Partition, Move>) -> Vec<i64> {
        moves.values().map(|one| one.to).collect()
    }

    #[test]
    fn every_form_is_read() {
        let offsets = To::Offsets(Offsets::from([(0, 123), (1, 456)]));
        for (text, to) in [
            ("earliest", To::Earliest),
            (" latest ", To::Latest),
            ("0:123,1:456", offsets.clone()),
            ("1: 456, 0: 123", offsets.clone()),
            (r#"{"0": 123, "1": 456}"#, offsets.clone()),
            (r#"{"t.v1":{"0":123,"1":456}}"#, offsets),
            ("2026-01-31T12:00:00+01:00", To::Time(1_769_857_200_000)),
            ("2026-01-31T11:00:00.0000001Z", To::Time(1_769_857_200_001)),
            ("2026-01-31", To::Time(1_769_817_600_000)),
        ] {
            assert_eq!(text.parse::<To>(), Ok(to), "{text}");
        }
        assert_eq!(watermark("2026-01-31T11:00:00.000001Z"), Ok(1_769_857_200_000_001));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (text, reason) in [
            ("", "expected `earliest`"),
            ("earliset", "expected `earliest`"),
            ("0:1,0:2", "partition 0 is named twice"),
            ("0:1,0", "expected `earliest`"),
            ("0:-1", "partition 0 has no offset"),
            ("x:1", "`x` is not the number of a partition"),
            ("-1:1", "`-1` is not the number of a partition"),
            ("{}", "no partition is named"),
            (r#"{"0": "x"}"#, "not offsets"),
            (r#"{"a": {"0": 1}, "b": {"0": 1}}"#, "exactly one topic"),
            ("2026-01-31T12:00:00", "expected `earliest`"),
            ("1969-01-31", "before 1970"),
        ] {
            let parsed = text.parse::<To>();
            assert!(parsed.as_ref().is_err_and(|why| why.contains(reason)), "{text}: {parsed:?}");
        }
        assert!(watermark("yesterday").is_err());
    }

    #[test]
    fn a_partition_that_is_named_twice_does_not_silently_go_to_the_later_place() {
        for text in [r#"{"0": 5, "0": 7}"#, r#"{"t": {"0": 5, "0": 7}}"#, "0:5,0:7"] {
            assert_eq!(text.parse::<To>(), Err("partition 0 is named twice".to_owned()), "{text}");
        }
        assert!(r#"{"t": {"0": 5}, "t": {"0": 7}}"#.parse::<To>().is_err_and(|why| why.contains("exactly one topic")));
    }

    #[test]
    fn each_partition_goes_where_it_is_told_and_what_that_costs_is_counted() {
        let held = bounds(&[Some((10, 90, 100)), Some((0, 50, 50))]);
        let from = Offsets::from([(0, 40), (1, 50)]);
        let before = Before::Offsets(&from);
        let none = Offsets::new();
        let earliest = moves(&To::Earliest, &before, &held, &none).unwrap();
        assert_eq!(ends(&earliest), [10, 0]);
        assert_eq!((total(&earliest, |m| m.again), total(&earliest, |m| m.skipped)), (Some(80), Some(0)));
        let latest = moves(&To::Latest, &before, &held, &none).unwrap();
        assert_eq!(ends(&latest), [90, 50], "an open transaction stays to be read");
        assert_eq!((total(&latest, |m| m.again), total(&latest, |m| m.skipped)), (Some(0), Some(50)));
        let time = moves(&To::Time(0), &before, &held, &Offsets::from([(0, 77), (1, 7)])).unwrap();
        assert_eq!(ends(&time), [77, 7]);
        let named = moves(&To::Offsets(Offsets::from([(0, 100)])), &before, &held, &none).unwrap();
        assert_eq!(ends(&named), [100, 50], "what is not named stays");
    }

    #[test]
    fn offsets_past_a_cut_log_are_not_read_again() {
        let held = bounds(&[Some((0, 30, 30))]);
        let from = Offsets::from([(0, 99)]);
        let moved = moves(&To::Earliest, &Before::Offsets(&from), &held, &Offsets::new()).unwrap();
        assert_eq!((moved[&0].again, moved[&0].skipped), (Some(30), Some(0)));
    }

    #[test]
    fn what_the_topic_does_not_hold_is_refused_by_name() {
        let held = bounds(&[Some((10, 90, 100)), None]);
        let from = Offsets::from([(0, 40), (1, 5)]);
        let to = |offsets: &[(i32, i64)], before: &Before<'_>| {
            moves(&To::Offsets(offsets.iter().copied().collect()), before, &held, &Offsets::new())
        };
        let known = Before::Offsets(&from);
        for (offsets, code, what) in [
            (&[(2, 1)][..], 78, "partition 2"),
            (&[(0, 9)], 65, "offset 9 of partition 0; topic `t` holds 10 to 100"),
            (&[(0, 101)], 65, "offset 101 of partition 0"),
            (&[(1, 5)], 75, "partition 1"),
        ] {
            let error = to(offsets, &known).unwrap_err();
            assert_eq!(error.exit_code(), code, "{error}");
            assert!(error.to_string().contains(what), "{error}");
        }
        assert_eq!(ends(&to(&[(0, 11)], &known).unwrap()), [11, 5], "one that nobody leads can stay");
        let error = to(&[(0, 11)], &Before::Unknown("why".into())).unwrap_err();
        assert!(error.to_string().contains("does not name partition 1"), "{error}");
        assert_eq!(moves(&To::Earliest, &known, &held, &Offsets::new()).unwrap_err().exit_code(), 75);
    }

    #[test]
    fn append_mode_repeats_nothing_unasked() {
        let held = bounds(&[Some((0, 50, 50))]);
        let from = Offsets::from([(0, 20)]);
        let at = |offset, before: &Before<'_>| {
            let moves = moves(&To::Offsets(Offsets::from([(0, offset)])), before, &held, &Offsets::new()).unwrap();
            may_repeat(before, &moves).map_err(|error| error.exit_code())
        };
        assert_eq!(at(20, &Before::Offsets(&from)), Ok(()));
        assert_eq!(at(30, &Before::Offsets(&from)), Ok(()));
        assert_eq!(at(19, &Before::Offsets(&from)), Err(65));
        assert_eq!(at(0, &Before::Never), Ok(()));
        assert_eq!(at(0, &Before::OtherTopic("made again".into())), Ok(()), "its records are others");
        assert_eq!(at(49, &Before::Unknown("rolled back".into())), Err(65));
        assert_eq!(at(50, &Before::Unknown("rolled back".into())), Ok(()), "nothing comes twice at the end");
    }
}
