//! `tidegate reset --to` and `--watermark`: a place is read back from its own text, and a time is the one that chrono reads.

use chrono::{DateTime, NaiveDate, SecondsFormat, Utc};

use super::cells::Members;
use crate::offsets::{Offsets, as_argument};
use crate::reset::{To, watermark};

pub(super) fn law(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match text.parse::<To>() {
        Ok(To::Earliest) => assert_eq!(text.trim(), "earliest"),
        Ok(To::Latest) => assert_eq!(text.trim(), "latest"),
        Ok(To::Time(millis)) => {
            let time = DateTime::<Utc>::from_timestamp_millis(millis).unwrap();
            let written = time.to_rfc3339_opts(SecondsFormat::Millis, true);
            // RFC 3339 has four digits for a year.
            if written.starts_with(|character: char| character.is_ascii_digit()) {
                assert_eq!(written.parse(), Ok(To::Time(millis)));
            }
            let nanos = instant(text.trim()).unwrap();
            assert_eq!(i128::from(millis), -(-nanos).div_euclid(1_000_000), "{text:?} is the first ms not before it");
        }
        Ok(To::Offsets(offsets)) => named(text, &offsets),
        Err(why) => {
            assert!(!why.is_empty());
            assert!(!matches!(text, "earliest" | "latest"));
        }
    }
    match (watermark(text), instant(text.trim())) {
        (Ok(micros), Some(nanos)) => assert_eq!(i128::from(micros), nanos.div_euclid(1_000), "{text:?}"),
        (Err(why), None) => assert!(!why.is_empty()),
        (taken, expected) => panic!("{text:?}: {taken:?}, and to chrono {expected:?}"),
    }
}

fn named(text: &str, offsets: &Offsets) {
    assert!(!offsets.is_empty());
    assert!(offsets.iter().all(|(&partition, &offset)| partition >= 0 && offset >= 0), "{offsets:?}");
    assert_eq!(as_argument(offsets).parse(), Ok(To::Offsets(offsets.clone())));
    let json = serde_json::to_string(offsets).unwrap();
    assert_eq!(json.parse(), Ok(To::Offsets(offsets.clone())));
    assert_eq!(format!("{{\"topic\":{json}}}").parse(), Ok(To::Offsets(offsets.clone())));
    assert_eq!(members(text.trim()), offsets.len(), "{text:?} became {offsets:?}");
}

/// Partitions that a text names, each as often as it does.
fn members(text: &str) -> usize {
    if !text.starts_with('{') {
        return text.split(',').count();
    }
    let Members(outer) = serde_json::from_str(text).unwrap();
    match outer.as_slice() {
        [(_, inner)] if inner.get().starts_with('{') => serde_json::from_str::<Members>(inner.get()).unwrap().0.len(),
        partitions => partitions.len(),
    }
}

/// ns since the epoch of an RFC 3339 time, or of midnight of a day.
fn instant(text: &str) -> Option<i128> {
    let day = || Some(NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0)?.and_utc());
    let time = DateTime::parse_from_rfc3339(text).map(|time| time.to_utc()).ok().or_else(day)?;
    Some(i128::from(time.timestamp()) * 1_000_000_000 + i128::from(time.timestamp_subsec_nanos()))
}
