//! Numbers, sizes and durations as people read them.
//!
//! Pure. For eyes only: no other program parses this.

use std::fmt::Display;
use std::time::Duration;

/// A whole number with a comma between groups of three digits.
pub(crate) fn thousands(number: impl Display) -> String {
    let text = number.to_string();
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.as_str()),
    };
    let mut grouped = String::with_capacity(text.len() + text.len() / 3);
    grouped.push_str(sign);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A number and its noun, in the singular for exactly one.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", thousands(number))
}

/// The two largest units that say enough: `840 ms`, `1.2 s`, `3 min 20 s`, `2 h 5 min`, `4 d 3 h`.
pub(crate) fn duration(duration: Duration) -> String {
    let (ms, s) = (duration.as_millis(), duration.as_secs());
    match s {
        0 => format!("{ms} ms"),
        1..60 => format!("{s}.{} s", ms % 1_000 / 100),
        60..3_600 => pair(s, 60, "min", 1, "s"),
        3_600..86_400 => pair(s, 3_600, "h", 60, "min"),
        _ => pair(s, 86_400, "d", 3_600, "h"),
    }
}

fn pair(seconds: u64, large: u64, large_name: &str, small: u64, small_name: &str) -> String {
    let (whole, rest) = (thousands(seconds / large), seconds % large / small);
    if rest == 0 { format!("{whole} {large_name}") } else { format!("{whole} {large_name} {rest} {small_name}") }
}

/// Bytes in the largest binary unit of which there is at least one, with one decimal.
pub(crate) fn bytes(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let Some(power) = (1..=6_u32).rev().find(|power| bytes >> (10 * (power - 1)) >= 1_024) else {
        return format!("{bytes} B");
    };
    let tenths = u128::from(bytes) * 10 / (1_u128 << (10 * power));
    format!("{}.{} {}", tenths / 10, tenths % 10, units[usize::try_from(power - 1).expect("below 6")])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_grouped_by_three() {
        for (number, expected) in
            [(0, "0"), (7, "7"), (999, "999"), (1_000, "1,000"), (-1_000, "-1,000"), (-100, "-100"), (1_234_567, "1,234,567")]
        {
            assert_eq!(thousands(number), expected);
        }
        assert_eq!(counted(1, "offset"), "1 offset");
        assert_eq!(counted(2_000, "offset"), "2,000 offsets");
    }

    #[test]
    fn durations_have_at_most_two_units() {
        for (ms, expected) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1_000, "1.0 s"),
            (1_299, "1.2 s"),
            (59_999, "59.9 s"),
            (60_000, "1 min"),
            (200_000, "3 min 20 s"),
            (7_500_000, "2 h 5 min"),
            (7_200_999, "2 h"),
            (86_400_000, "1 d"),
            (358_000_000, "4 d 3 h"),
        ] {
            assert_eq!(duration(Duration::from_millis(ms)), expected);
        }
    }

    #[test]
    fn sizes_are_binary() {
        for (size, expected) in [
            (0, "0 B"),
            (1_023, "1023 B"),
            (1_024, "1.0 KiB"),
            (1_536, "1.5 KiB"),
            (12_897_485, "12.2 MiB"),
            (1 << 30, "1.0 GiB"),
            (u64::MAX, "15.9 EiB"),
        ] {
            assert_eq!(bytes(size), expected);
        }
    }

    proptest! {
        #[test]
        fn grouping_only_adds_commas(number in any::<i64>()) {
            let text = thousands(number);
            prop_assert_eq!(text.replace(',', ""), number.to_string());
            let groups: Vec<_> = text.trim_start_matches('-').split(',').collect();
            prop_assert!((1..=3).contains(&groups[0].len()) && groups[1..].iter().all(|group| group.len() == 3), "{}", text);
        }

        #[test]
        fn a_size_never_needs_more_than_four_digits(size in any::<u64>()) {
            let text = bytes(size);
            prop_assert!(text.split(['.', ' ']).next().unwrap().len() <= 4, "{}", text);
        }
    }
}
