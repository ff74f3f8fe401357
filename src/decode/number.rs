//! Exact values of decimal numbers, whatever way they are written.
//!
//! Pure. No double stands between the text and the value, and no exponent, however large, costs time or memory.

/// Digits that always fit an `i128`.
const DIGITS_MAX: usize = 38;

/// What becomes of digits below the last place asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Below {
    /// They are refused unless they are zeros.
    Refuse,
    /// They are dropped towards negative infinity.
    Drop,
}

/// Why a number has no value of the kind asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inexact {
    /// More fractional digits than there are places.
    Fraction,
    /// More than 38 digits.
    Large,
}

/// The number times ten to the power of `places`. `text` follows the JSON grammar.
pub(super) fn scaled(text: &str, places: i64, below: Below) -> Result<i128, Inexact> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, clamped(exponent)),
        None => (digits, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let fraction_len = i64::try_from(fraction.len()).expect("a text is shorter than 2^63");
    let all = || whole.bytes().chain(fraction.bytes());
    let leading = all().take_while(|&digit| digit == b'0').count();
    let trailing = all().rev().take_while(|&digit| digit == b'0').count();
    let count = whole.len() + fraction.len();
    if leading == count {
        return Ok(0);
    }
    // The value is the significant digits times ten to the power of `shift`.
    let significant = count - leading - trailing;
    let shift = exponent - fraction_len + places + i64::try_from(trailing).expect("shorter than the text");
    let dropped = usize::try_from(-shift).unwrap_or(0);
    if dropped > 0 && below == Below::Refuse {
        return Err(Inexact::Fraction);
    }
    let added = usize::try_from(shift).unwrap_or(0);
    let kept = significant.saturating_sub(dropped);
    if kept.saturating_add(added) > DIGITS_MAX {
        return Err(Inexact::Large);
    }
    let zeros = std::iter::repeat_n(b'0', added);
    let value = all().skip(leading).take(kept).chain(zeros).fold(0i128, |value, digit| value * 10 + i128::from(digit - b'0'));
    Ok(match negative {
        false => value,
        // Trailing zeros are gone, so whatever was dropped was not zero.
        true => -value - i128::from(dropped > 0),
    })
}

/// An exponent, held within what the length of a text can never reach.
fn clamped(text: &str) -> i64 {
    const LIMIT: i64 = 1 << 40;
    let (negative, digits) = match text.as_bytes() {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] | digits => (false, digits),
    };
    let value = digits.iter().fold(0i64, |value, digit| (value * 10 + i64::from(digit - b'0')).min(LIMIT));
    if negative { -value } else { value }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_keep_their_exact_value() {
        for (text, places, expected) in [
            ("0", 0, Ok(0)),
            ("-0.000", 0, Ok(0)),
            ("0e999999999999999999999", 0, Ok(0)),
            ("12", 2, Ok(1200)),
            ("12.34", 2, Ok(1234)),
            ("-12.3400", 2, Ok(-1234)),
            ("12.345", 2, Err(Inexact::Fraction)),
            ("1e3", 0, Ok(1000)),
            ("1E+3", 0, Ok(1000)),
            ("1000e-3", 0, Ok(1)),
            ("1.5e1", 0, Ok(15)),
            ("1e-1", 0, Err(Inexact::Fraction)),
            ("1e99999999999999999999", 0, Err(Inexact::Large)),
            ("1e-99999999999999999999", 0, Err(Inexact::Fraction)),
            ("99999999999999999999999999999999999999", 0, Ok(10i128.pow(38) - 1)),
            ("99999999999999999999999999999999999999", 1, Err(Inexact::Large)),
            ("0.00000000000000000000000000000000000001", 38, Ok(1)),
        ] {
            assert_eq!(scaled(text, places, Below::Refuse), expected, "{text} at {places}");
        }
    }

    #[test]
    fn dropping_goes_down() {
        for (text, expected) in [("1.9", 1), ("-1.9", -2), ("-1.0", -1), ("-0.1", -1), ("0.1", 0), ("-1e-400", -1)] {
            assert_eq!(scaled(text, 0, Below::Drop), Ok(expected), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_way_of_writing_gives_the_same_value(value in -1_000_000_000_000i64..1_000_000_000_000, split in 0usize..12, zeros in 0usize..5) {
            let digits = format!("{:013}", value.unsigned_abs());
            let (whole, fraction) = digits.split_at(digits.len() - split);
            let sign = if value < 0 { "-" } else { "" };
            let dot = if fraction.is_empty() && zeros == 0 { "" } else { "." };
            let text = format!("{sign}{}{dot}{fraction}{}e{split}", whole.trim_start_matches('0'), "0".repeat(zeros));
            let text = text.replacen(".", "0.", usize::from(whole.trim_start_matches('0').is_empty()));
            prop_assert_eq!(scaled(&text, 0, Below::Refuse), Ok(i128::from(value)), "{}", text);
        }
    }
}
