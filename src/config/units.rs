//! Bytes and lengths of time as people write them: "256 MiB", "1 h 30 min".
//!
//! Pure and exact: a value that is not a whole number of bytes or nanoseconds is refused, never rounded.

use std::time::Duration;

use super::nearest::{listed, nearest};

const BYTE_UNITS: &[(&str, u64)] = &[
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

/// In nanoseconds.
const TIME_UNITS: &[(&str, u64)] =
    &[("ms", 1_000_000), ("s", 1_000_000_000), ("min", 60_000_000_000), ("h", 3_600_000_000_000), ("d", 86_400_000_000_000)];

/// Units as others write them, and ours.
const FOREIGN: &[(&str, &str)] = &[
    ("sec", "s"),
    ("secs", "s"),
    ("second", "s"),
    ("seconds", "s"),
    ("m", "min"),
    ("minute", "min"),
    ("minutes", "min"),
    ("hr", "h"),
    ("hour", "h"),
    ("hours", "h"),
    ("day", "d"),
    ("days", "d"),
    ("k", "KiB"),
    ("ki", "KiB"),
    ("m", "MiB"),
    ("mi", "MiB"),
    ("g", "GiB"),
    ("gi", "GiB"),
    ("t", "TiB"),
    ("ti", "TiB"),
];

/// Far beyond any use, far below where adding it to a time overflows.
const DURATION_MAX: Duration = Duration::from_secs(36_500 * 86_400);

/// A number of bytes; without a unit it is bytes already.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let overflow = || format!("\"{text}\" is too large");
    let exact = match quantities(text)?.as_slice() {
        [(number, "")] => number.times(1),
        [(number, unit)] => number.times(factor(unit, BYTE_UNITS, text)?),
        _ => return Err(format!("\"{text}\" is not a number of bytes; write \"256 MiB\"")),
    };
    let exact = exact.ok_or_else(|| format!("\"{text}\" is not a whole number of bytes"))?;
    u64::try_from(exact).map_err(|_| overflow())
}

/// A length of time; every number needs its unit.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let mut nanos: u128 = 0;
    for (number, unit) in quantities(text)? {
        if unit.is_empty() {
            return Err(format!("\"{text}\" has no unit; units are {}", listed(&names(TIME_UNITS), "and")));
        }
        let part = number.times(factor(unit, TIME_UNITS, text)?);
        nanos += part.ok_or_else(|| format!("\"{text}\" is finer than a nanosecond"))?;
    }
    // Each part is below 2^64 * 2^47, so the sum of as many as fit in a text cannot overflow.
    match u64::try_from(nanos).map(Duration::from_nanos) {
        Ok(duration) if duration <= DURATION_MAX => Ok(duration),
        _ => Err(format!("\"{text}\" is longer than 100 years")),
    }
}

/// The bytes in the largest unit of 1024 that holds them exactly.
pub(super) fn bytes_text(bytes: u64) -> String {
    let exact = |(unit, factor): &&(&str, u64)| (unit.ends_with("iB") || *unit == "B") && bytes.is_multiple_of(*factor);
    let largest = BYTE_UNITS.iter().filter(exact).max_by_key(|(_, factor)| *factor).filter(|_| bytes > 0);
    largest.map_or_else(|| String::from("0 B"), |(unit, factor)| format!("{} {unit}", bytes / factor))
}

/// The length of time in the largest unit that holds it exactly; what is finer than milliseconds as a fraction of them.
pub(super) fn duration_text(length: Duration) -> String {
    let nanos = length.as_nanos();
    let exact = |(_, factor): &&(&str, u64)| nanos.is_multiple_of(u128::from(*factor));
    match TIME_UNITS.iter().filter(exact).max_by_key(|(_, factor)| *factor) {
        _ if nanos == 0 => String::from("0 s"),
        Some((unit, factor)) => format!("{} {unit}", nanos / u128::from(*factor)),
        None => {
            let fraction = format!("{:06}", nanos % 1_000_000);
            format!("{}.{} ms", nanos / 1_000_000, fraction.trim_end_matches('0'))
        }
    }
}

/// A decimal number: `digits / 10^scale`.
struct Decimal {
    digits: u64,
    scale: u32,
}

impl Decimal {
    /// The product, if it is a whole number.
    fn times(&self, factor: u64) -> Option<u128> {
        let product = u128::from(self.digits) * u128::from(factor);
        let divisor = 10_u128.pow(self.scale);
        product.is_multiple_of(divisor).then(|| product / divisor)
    }
}

/// Splits "1 h 30 min" into numbers and their units; at least one.
fn quantities(text: &str) -> Result<Vec<(Decimal, &str)>, String> {
    let mut found = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() || found.is_empty() {
        let number = prefix(rest, |c| c.is_ascii_digit() || c == '.');
        let after = rest[number.len()..].trim_start();
        let unit = prefix(after, |c| !c.is_ascii_digit() && !c.is_whitespace());
        found.push((decimal(number).ok_or_else(|| not_a_quantity(text, number))?, unit));
        rest = after[unit.len()..].trim_start();
    }
    Ok(found)
}

fn not_a_quantity(text: &str, number: &str) -> String {
    if number.len() > 18 {
        return format!("\"{text}\" is too large");
    }
    format!("\"{text}\" does not begin with a number and a unit, as \"256 MiB\" or \"2 h\" does")
}

fn prefix(text: &str, belongs: impl Fn(char) -> bool) -> &str {
    &text[..text.find(|c| !belongs(c)).unwrap_or(text.len())]
}

fn decimal(text: &str) -> Option<Decimal> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    // With at most 18 digits nothing overflows.
    if whole.is_empty() || text.ends_with('.') || whole.len() + fraction.len() > 18 {
        return None;
    }
    let fraction = fraction.trim_end_matches('0');
    let scale = u32::try_from(fraction.len()).ok()?;
    Some(Decimal { digits: format!("{whole}{fraction}").parse().ok()?, scale })
}

fn factor(unit: &str, units: &[(&str, u64)], text: &str) -> Result<u64, String> {
    if let Some((_, factor)) = units.iter().find(|(name, _)| *name == unit) {
        return Ok(*factor);
    }
    let names = names(units);
    let lower = unit.to_lowercase();
    let foreign = FOREIGN.iter().find(|(other, ours)| *other == lower && names.contains(ours)).map(|(_, ours)| *ours);
    Err(match foreign.or_else(|| nearest(unit, names.iter().copied())) {
        Some(name) => format!("unknown unit `{unit}` in \"{text}\"; did you mean `{name}`?"),
        None => format!("unknown unit `{unit}` in \"{text}\"; units are {}", listed(&names, "and")),
    })
}

fn names<'u>(units: &[(&'u str, u64)]) -> Vec<&'u str> {
    units.iter().map(|(name, _)| *name).filter(|name| *name != "KB").collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_bytes() {
        for (text, expected) in [
            ("0", 0),
            ("1048576", 1 << 20),
            ("1 GiB", 1 << 30),
            ("256 MiB", 256 << 20),
            ("256MiB", 256 << 20),
            ("10 MB", 10_000_000),
            ("10 kB", 10_000),
            ("1.5 GiB", 3 << 29),
            (" 7 B ", 7),
            ("16777215 TiB", 16_777_215 << 40),
            ("109950063265972224", 109_950_063_265_972_224),
        ] {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn reads_lengths_of_time() {
        for (text, millis) in [
            ("0 s", 0),
            ("2 h", 7_200_000),
            ("90 s", 90_000),
            ("500 ms", 500),
            ("1 d", 86_400_000),
            ("1 h 30 min", 5_400_000),
            ("1h30min", 5_400_000),
            ("1.5 s", 1_500),
            ("36500 d", 3_153_600_000_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn says_what_is_wrong() {
        let mut said = String::new();
        for text in [
            "",
            "GiB",
            "1 gib",
            "512Mi",
            "1 foo",
            "0.1 B",
            "1 MiB 2 MiB",
            "99999999999 TiB",
            "9999999999999999999",
            "-1 MiB",
            "1..5 MB",
        ] {
            said.push_str(&format!("{}\n", bytes(text).unwrap_err()));
        }
        for text in ["", "5", "2 hours", "2 m", "3 Minutes", "2 weeks", "s", "1 h 30", "0.0000001 ms", "999999999 d", "-1 s"] {
            said.push_str(&format!("{}\n", duration(text).unwrap_err()));
        }
        insta::assert_snapshot!(said, @r#"
    "" does not begin with a number and a unit, as "256 MiB" or "2 h" does
    "GiB" does not begin with a number and a unit, as "256 MiB" or "2 h" does
    unknown unit `gib` in "1 gib"; did you mean `GiB`?
    unknown unit `Mi` in "512Mi"; did you mean `MiB`?
    unknown unit `foo` in "1 foo"; units are `B`, `kB`, `MB`, `GB`, `TB`, `KiB`, `MiB`, `GiB` and `TiB`
    "0.1 B" is not a whole number of bytes
    "1 MiB 2 MiB" is not a number of bytes; write "256 MiB"
    "99999999999 TiB" is too large
    "9999999999999999999" is too large
    "-1 MiB" does not begin with a number and a unit, as "256 MiB" or "2 h" does
    "1..5 MB" does not begin with a number and a unit, as "256 MiB" or "2 h" does
    "" does not begin with a number and a unit, as "256 MiB" or "2 h" does
    "5" has no unit; units are `ms`, `s`, `min`, `h` and `d`
    unknown unit `hours` in "2 hours"; did you mean `h`?
    unknown unit `m` in "2 m"; did you mean `min`?
    unknown unit `Minutes` in "3 Minutes"; did you mean `min`?
    unknown unit `weeks` in "2 weeks"; units are `ms`, `s`, `min`, `h` and `d`
    "s" does not begin with a number and a unit, as "256 MiB" or "2 h" does
    "1 h 30" has no unit; units are `ms`, `s`, `min`, `h` and `d`
    "0.0000001 ms" is finer than a nanosecond
    "999999999 d" is longer than 100 years
    "-1 s" does not begin with a number and a unit, as "256 MiB" or "2 h" does
    "#);
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(number in any::<u64>(), shift in 0..64_u32, nanos in 0..DURATION_MAX.as_nanos(), by in 0..5_usize) {
            let number = number >> shift << (shift / 2);
            prop_assert_eq!(bytes(&bytes_text(number)).unwrap_or(number), number);
            let unit = u128::from(TIME_UNITS[by].1);
            // The finest take a number of at most 18 digits.
            for length in [nanos / unit * unit, nanos % 1_000_000_000_000] {
                let length = Duration::from_nanos(u64::try_from(length).unwrap());
                prop_assert_eq!(duration(&duration_text(length)), Ok(length));
            }
        }

        #[test]
        fn every_number_of_bytes_survives_its_unit(number in 0_u64..1 << 24, unit in 0..BYTE_UNITS.len(), space in "[ ]{0,2}") {
            let (name, factor) = BYTE_UNITS[unit];
            prop_assert_eq!(bytes(&format!("{number}{space}{name}")), Ok(number * factor));
        }

        #[test]
        fn every_length_of_time_survives_being_written_out(ms in 0_u64..3_000_000_000_000) {
            let (d, h, min, s) = (ms / 86_400_000, ms / 3_600_000 % 24, ms / 60_000 % 60, ms / 1_000 % 60);
            let text = format!("{d} d {h} h {min}min {s} s {} ms", ms % 1_000);
            prop_assert_eq!(duration(&text), Ok(Duration::from_millis(ms)));
            prop_assert_eq!(duration(&format!("{}.{:03} s", ms / 1_000, ms % 1_000)), Ok(Duration::from_millis(ms)));
        }

        #[test]
        fn never_panics(text in "\\PC*", near in "[0-9. MiBhsdmin]{0,30}") {
            for text in [text, near] {
                let _answers = (bytes(&text), duration(&text));
            }
        }
    }
}
