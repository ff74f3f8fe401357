//! Bytes and lengths of time of job files: what is taken has the value that its digits and units have.

use std::time::Duration;

use super::job_file::{limits, quoted};
use crate::config::length_of_time;

const BYTES: &[(&str, u128)] = &[
    ("", 1),
    ("B", 1),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

const NANOS: &[(&str, u128)] = &[
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("min", 60 * 1_000_000_000),
    ("h", 3_600 * 1_000_000_000),
    ("d", 86_400 * 1_000_000_000),
];

pub(super) fn law(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(length) = length_of_time(text) {
        assert_eq!(Some(length.as_nanos()), sum(text, NANOS), "{text:?}");
        let seconds = format!("{}.{:09} s", length.as_secs(), length.subsec_nanos());
        if length.as_secs() < 1_000_000_000 {
            assert_eq!(length_of_time(&seconds), Ok(length), "{seconds}");
        }
        let millis = format!("{} ms", length.as_millis());
        assert_eq!(length_of_time(&millis), Ok(Duration::from_millis(u64::try_from(length.as_millis()).unwrap())), "{millis}");
    } else if let Some(nanos) = plain(text, NANOS) {
        assert!(nanos > 36_500 * 86_400 * 1_000_000_000, "{text:?} is {nanos} ns");
    }
    // The way into the other unit leads through a job file, which fills in variables and refuses zero.
    match limits("max_bytes_per_trigger", &quoted(&text.replace('$', "$$"))) {
        Ok(limits) => {
            let bytes = limits.max_bytes_per_trigger;
            assert_eq!(Some(u128::from(bytes)), sum(text, BYTES), "{text:?}");
            let written = format!("{bytes} B");
            if bytes < 1_000_000_000_000_000_000 {
                let again = limits_of_bytes(&written);
                assert_eq!(again, Some(bytes), "{written}");
            }
        }
        Err(_) => {
            if let Some(bytes) = plain(text, BYTES) {
                assert_eq!(bytes, 0, "{text:?}");
            }
        }
    }
}

fn limits_of_bytes(text: &str) -> Option<u64> {
    limits("max_bytes_per_trigger", &quoted(text)).ok().map(|limits| limits.max_bytes_per_trigger)
}

/// A whole number of up to nine digits, a space and a unit: what is always taken.
fn plain(text: &str, units: &[(&str, u128)]) -> Option<u128> {
    let (number, unit) = text.split_once(' ')?;
    let factor = units.iter().find(|(name, _)| *name == unit && !name.is_empty())?.1;
    ((1..=6).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| number.parse::<u128>().unwrap() * factor)
}

/// Numbers times their units, added up; none where that is not whole.
fn sum(text: &str, units: &[(&str, u128)]) -> Option<u128> {
    let squeezed: String = text.chars().filter(|character| !character.is_whitespace()).collect();
    let mut rest = squeezed.as_str();
    let mut sum = 0;
    while !rest.is_empty() {
        let number = &rest[..rest.find(|character: char| !character.is_ascii_digit() && character != '.').unwrap_or(rest.len())];
        rest = &rest[number.len()..];
        let unit = &rest[..rest.find(|character: char| character.is_ascii_digit()).unwrap_or(rest.len())];
        rest = &rest[unit.len()..];
        let factor = units.iter().find(|(name, _)| *name == unit)?.1;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
        let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
        sum += (digits * factor).is_multiple_of(scale).then(|| digits * factor / scale)?;
    }
    Some(sum)
}
