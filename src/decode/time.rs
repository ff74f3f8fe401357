//! Dates, times and timestamps from text and from numbers.
//!
//! Pure. The calendar is the proleptic Gregorian one, years 0001 to 9999; a second 60 is refused, because no column can hold it.

use super::number::{Below, scaled};
use crate::config::EpochUnit;

const SECONDS_PER_DAY: i64 = 86_400;
const NANOS_PER_SECOND: i128 = 1_000_000_000;
/// 0001-01-01T00:00:00Z.
const SECONDS_MIN: i64 = -62_135_596_800;
/// 10000-01-01T00:00:00Z.
const SECONDS_END: i64 = 253_402_300_800;

/// An instant, or a local time where there is no offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Seconds since the epoch, before the offset is taken off.
    local: i64,
    nanos: u32,
    /// Seconds east of UTC; none where the text has no offset.
    offset: Option<i64>,
}

impl Stamp {
    /// Whether it names another zone than UTC, or none.
    pub(super) fn is_elsewhere(self) -> bool {
        self.offset.is_some_and(|offset| offset != 0)
    }

    /// µs since the epoch, rounded down; none outside the years 0001 to 9999.
    #[inline]
    pub(super) fn micros(self) -> Option<i64> {
        Some(self.seconds()? * 1_000_000 + i64::from(self.nanos / 1_000))
    }

    /// ns since the epoch; none where 64 bits cannot hold them.
    pub(super) fn nanos(self) -> Option<i64> {
        // The first second that has such a count begins before the first count.
        i64::try_from(i128::from(self.seconds()?) * NANOS_PER_SECOND + i128::from(self.nanos)).ok()
    }

    #[inline]
    fn seconds(self) -> Option<i64> {
        let seconds = self.local - self.offset.unwrap_or(0);
        (SECONDS_MIN..SECONDS_END).contains(&seconds).then_some(seconds)
    }
}

/// `YYYY-MM-DDTHH:MM[:SS[.fraction]][offset]`, with `T` or a space; the offset is `Z`, `±HH:MM`, `±HHMM` or `±HH`. Seconds may
/// be left out because Java prints a full minute without them.
#[inline]
pub(super) fn timestamp(text: &str) -> Option<Stamp> {
    let (date, rest) = text.as_bytes().split_first_chunk::<10>()?;
    let days = date_days(date)?;
    let [b'T' | b't' | b' ', rest @ ..] = rest else { return None };
    let (minutes, rest) = minutes(rest)?;
    let (seconds, nanos, rest) = match rest {
        [b':', rest @ ..] => seconds(rest)?,
        rest => (0, 0, rest),
    };
    let offset = offset(rest)?;
    Some(Stamp { local: i64::from(days) * SECONDS_PER_DAY + minutes * 60 + seconds, nanos, offset })
}

/// `YYYY-MM-DD` as days since the epoch.
pub(super) fn date(text: &str) -> Option<i32> {
    date_days(text.as_bytes().try_into().ok()?)
}

/// `HH:MM:SS[.fraction]` as µs since midnight, rounded down.
pub(super) fn time(text: &str) -> Option<i64> {
    let (minutes, rest) = minutes(text.as_bytes())?;
    let [b':', rest @ ..] = rest else { return None };
    let (seconds, nanos, rest) = seconds(rest)?;
    rest.is_empty().then(|| (minutes * 60 + seconds) * 1_000_000 + i64::from(nanos / 1_000))
}

/// A number of `unit` since the epoch as µs, rounded down.
pub(super) fn epoch_micros(text: &str, unit: EpochUnit) -> Option<i64> {
    let micros = i64::try_from(scaled(text, 6 - unit_places(unit), Below::Drop).ok()?).ok()?;
    in_years(micros.div_euclid(1_000_000)).then_some(micros)
}

/// A small whole number of `unit` since the epoch as µs, rounded down.
#[inline]
pub(super) fn small_epoch_micros(value: i64, unit: EpochUnit) -> Option<i64> {
    let micros = match unit {
        EpochUnit::Seconds => value.checked_mul(1_000_000)?,
        EpochUnit::Millis => value.checked_mul(1_000)?,
        EpochUnit::Micros => value,
        EpochUnit::Nanos => value.div_euclid(1_000),
    };
    in_years(micros.div_euclid(1_000_000)).then_some(micros)
}

/// A number of `unit` since the epoch as ns, rounded down.
pub(super) fn epoch_nanos(text: &str, unit: EpochUnit) -> Option<i64> {
    i64::try_from(scaled(text, 9 - unit_places(unit), Below::Drop).ok()?).ok()
}

/// The day, in UTC, of a number of `unit` since the epoch.
pub(super) fn epoch_days(text: &str, unit: EpochUnit) -> Option<i32> {
    i32::try_from(epoch_micros(text, unit)?.div_euclid(SECONDS_PER_DAY * 1_000_000)).ok()
}

/// A number of `unit` since midnight as µs, rounded down.
pub(super) fn midnight_micros(text: &str, unit: EpochUnit) -> Option<i64> {
    let micros = i64::try_from(scaled(text, 6 - unit_places(unit), Below::Drop).ok()?).ok()?;
    (0..SECONDS_PER_DAY * 1_000_000).contains(&micros).then_some(micros)
}

fn in_years(seconds: i64) -> bool {
    (SECONDS_MIN..SECONDS_END).contains(&seconds)
}

/// Decimal places of a second that one `unit` is.
fn unit_places(unit: EpochUnit) -> i64 {
    match unit {
        EpochUnit::Seconds => 0,
        EpochUnit::Millis => 3,
        EpochUnit::Micros => 6,
        EpochUnit::Nanos => 9,
    }
}

#[inline]
fn date_days(text: &[u8; 10]) -> Option<i32> {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = *text else { return None };
    let year = two(y1, y2)? * 100 + two(y3, y4)?;
    let (month, day) = (two(m1, m2)?, two(d1, d2)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        2 => 28 + i32::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if year == 0 || day == 0 || day > last {
        return None;
    }
    // Years begin in March, so that the day that comes and goes is the last one (Hinnant, "chrono-compatible date algorithms").
    let year = year - i32::from(month <= 2);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    Some(year * 365 + year / 4 - year / 100 + year / 400 + day_of_year - 719_468)
}

/// `HH:MM` as minutes since midnight, and what follows.
#[inline]
fn minutes(text: &[u8]) -> Option<(i64, &[u8])> {
    let [h1, h2, b':', m1, m2, rest @ ..] = text else { return None };
    let (hours, minutes) = (two(*h1, *h2)?, two(*m1, *m2)?);
    (hours < 24 && minutes < 60).then_some((i64::from(hours * 60 + minutes), rest))
}

/// `SS[.fraction]` with one to nine fractional digits as seconds and ns, and what follows.
#[inline]
fn seconds(text: &[u8]) -> Option<(i64, u32, &[u8])> {
    let [s1, s2, rest @ ..] = text else { return None };
    let seconds = two(*s1, *s2)?;
    if seconds >= 60 {
        return None;
    }
    let [b'.', rest @ ..] = rest else { return Some((i64::from(seconds), 0, rest)) };
    let len = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if !(1..=9).contains(&len) {
        return None;
    }
    let (digits, rest) = rest.split_at(len);
    let value = digits.iter().fold(0u32, |value, digit| value * 10 + u32::from(digit - b'0'));
    Some((i64::from(seconds), value * 10u32.pow(u32::try_from(9 - len).ok()?), rest))
}

/// `Z`, `±HH:MM`, `±HHMM`, `±HH` or nothing, as seconds east of UTC.
#[inline]
fn offset(text: &[u8]) -> Option<Option<i64>> {
    let (sign, hours, minutes) = match *text {
        [] => return Some(None),
        [b'Z' | b'z'] => return Some(Some(0)),
        [sign, h1, h2] => (sign, two(h1, h2)?, 0),
        [sign, h1, h2, m1, m2] | [sign, h1, h2, b':', m1, m2] => (sign, two(h1, h2)?, two(m1, m2)?),
        _ => return None,
    };
    if hours >= 24 || minutes >= 60 {
        return None;
    }
    let seconds = i64::from(hours * 60 + minutes) * 60;
    match sign {
        b'+' => Some(Some(seconds)),
        b'-' => Some(Some(-seconds)),
        _ => None,
    }
}

#[inline]
fn two(tens: u8, ones: u8) -> Option<i32> {
    (tens.is_ascii_digit() && ones.is_ascii_digit()).then(|| i32::from(tens - b'0') * 10 + i32::from(ones - b'0'))
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Datelike, NaiveDate};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_second_of_a_nanosecond_column_is_not_rejected() {
        assert_eq!(timestamp("1677-09-21T00:12:43.145224192Z").and_then(Stamp::nanos), Some(i64::MIN));
        assert_eq!(timestamp("1677-09-21T00:12:43.9Z").and_then(Stamp::nanos), Some(i64::MIN + 754_775_808));
    }

    #[test]
    fn forms_of_timestamps() {
        let noon = 1_709_208_000_000_000;
        for (text, micros) in [
            ("2024-02-29T12:00:00Z", Some(noon)),
            ("2024-02-29 12:00:00z", Some(noon)),
            ("2024-02-29t12:00Z", Some(noon)),
            ("2024-02-29T12:00:00", Some(noon)),
            ("2024-02-29T12:00", Some(noon)),
            ("2024-02-29T14:30:00+02:30", Some(noon)),
            ("2024-02-29T14:30:00+0230", Some(noon)),
            ("2024-02-29T10:00:00-02", Some(noon)),
            ("2024-02-29T12:00:00.1Z", Some(noon + 100_000)),
            ("2024-02-29T12:00:00.123456789Z", Some(noon + 123_456)),
            ("1969-12-31T23:59:59.9999999Z", Some(-1)),
            ("0001-01-01T00:00:00Z", Some(-62_135_596_800_000_000)),
            ("9999-12-31T23:59:59.999999Z", Some(253_402_300_799_999_999)),
            ("0001-01-01T00:00:00+00:01", None),
            ("9999-12-31T23:59:59-00:01", None),
            ("0000-01-01T00:00:00Z", None),
            ("2023-02-29T12:00:00Z", None),
            ("1900-02-29T12:00:00Z", None),
            ("2024-13-01T12:00:00Z", None),
            ("2024-00-01T12:00:00Z", None),
            ("2024-04-31T12:00:00Z", None),
            ("2024-02-29T24:00:00Z", None),
            ("2024-02-29T12:60:00Z", None),
            ("2016-12-31T23:59:60Z", None),
            ("2024-02-29T12:00:00.Z", None),
            ("2024-02-29T12:00:00.1234567890Z", None),
            ("2024-02-29T12:00:00+24:00", None),
            ("2024-02-29T12:00:00 Z", None),
            ("2024-02-29", None),
            ("2024-02-29T12", None),
            ("20240229T120000Z", None),
            ("2024-02-29T12:00:0é", None),
            ("", None),
        ] {
            assert_eq!(timestamp(text).and_then(Stamp::micros), micros, "{text}");
        }
        let elsewhere = |text| timestamp(text).map(Stamp::is_elsewhere);
        assert_eq!(elsewhere("2024-02-29T12:00:00-00:00"), Some(false));
        assert_eq!(elsewhere("2024-02-29T12:00:00+01:00"), Some(true));
        assert_eq!(timestamp("2262-04-11T23:47:16.854775807Z").and_then(Stamp::nanos), Some(i64::MAX));
        assert_eq!(timestamp("2262-04-11T23:47:16.854775808Z").and_then(Stamp::nanos), None);
        assert_eq!(timestamp("1677-09-21T00:12:43.145224191Z").and_then(Stamp::nanos), None);
    }

    #[test]
    fn forms_of_dates_and_times() {
        assert_eq!(date("1970-01-01"), Some(0));
        assert_eq!(date("1969-12-31"), Some(-1));
        for text in ["1970-1-1", "1970-01-01T00:00:00Z", "70-01-01", "1970/01/01", ""] {
            assert_eq!(date(text), None, "{text}");
        }
        assert_eq!(time("00:00:00"), Some(0));
        assert_eq!(time("23:59:59.9999999"), Some(86_399_999_999));
        for text in ["24:00:00", "12:00", "12:00:60", "12:00:00Z", "1:00:00", "12:00:00."] {
            assert_eq!(time(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_are_counted_in_the_unit_of_the_job() {
        use EpochUnit::*;
        assert_eq!(epoch_micros("1700000000.1234567", Seconds), Some(1_700_000_000_123_456));
        assert_eq!(epoch_micros("-0.0000001", Seconds), Some(-1));
        assert_eq!(epoch_micros("1.7e12", Millis), Some(1_700_000_000_000_000));
        assert_eq!(epoch_micros("1700000000000", Seconds), None);
        assert_eq!(epoch_nanos("1700000000123", Millis), Some(1_700_000_000_123_000_000));
        assert_eq!(epoch_nanos("9223372036854775808", Nanos), None);
        assert_eq!(epoch_days("-1", Millis), Some(-1));
        assert_eq!(epoch_days("86400", Seconds), Some(1));
        assert_eq!(midnight_micros("86399.9999999", Seconds), Some(86_399_999_999));
        assert_eq!(midnight_micros("86400", Seconds), None);
        assert_eq!(midnight_micros("-1", Nanos), None);
    }

    proptest! {
        #[test]
        fn every_day_is_chronos_day(year in 0i32..10_001, month in 0u32..14, day in 0u32..33) {
            let expected = NaiveDate::from_ymd_opt(year, month, day)
                .filter(|date| (1..=9999).contains(&date.year()))
                .map(|date| date.num_days_from_ce() - 719_163);
            prop_assert_eq!(date(&format!("{year:04}-{month:02}-{day:02}")), expected);
        }

        #[test]
        fn every_instant_is_chronos_instant(seconds in SECONDS_MIN..SECONDS_END, nanos in 0u32..1_000_000_000, minutes in -1439i32..1440, digits in 0usize..10) {
            let offset = chrono::FixedOffset::east_opt(minutes * 60).expect("below a day");
            let instant = DateTime::from_timestamp(seconds, nanos).expect("in range").with_timezone(&offset);
            prop_assume!((1..=9999).contains(&instant.year()));
            let fraction = if digits == 0 { String::new() } else { format!(".{:09}", nanos)[..=digits].to_owned() };
            let text = format!("{}{fraction}{}", instant.format("%Y-%m-%dT%H:%M:%S"), instant.format("%:z"));
            let expected = DateTime::parse_from_rfc3339(&text).expect("RFC 3339").timestamp_micros();
            prop_assert_eq!(timestamp(&text).and_then(Stamp::micros), Some(expected), "{}", text);
        }

        #[test]
        fn a_damaged_timestamp_is_judged_as_chrono_does(seconds in SECONDS_MIN..SECONDS_END, at in 0usize..20, byte in 0x20u8..0x7f) {
            let mut text = DateTime::from_timestamp(seconds, 0).expect("in range").format("%Y-%m-%dT%H:%M:%SZ").to_string().into_bytes();
            text[at] = byte;
            let text = String::from_utf8(text).expect("ASCII");
            let expected = DateTime::parse_from_rfc3339(&if at == 10 { text.replace(' ', "T") } else { text.clone() })
                .ok()
                .filter(|time| time.year() >= 1 && time.timestamp_subsec_nanos() == 0)
                .map(|time| time.timestamp_micros());
            prop_assert_eq!(timestamp(&text).and_then(Stamp::micros), expected, "{}", text);
        }
    }
}
