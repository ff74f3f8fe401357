//! Numbers as JSON writes them, exactly: digits and a power of ten.

/// What stands for a number whose value no column could hold.
const FAR: i64 = 1 << 40;

/// A number: `digits` times ten to the power of `exponent`; digits without trailing zeros.
#[derive(Debug)]
pub(super) struct Decimal {
    negative: bool,
    digits: String,
    exponent: i64,
}

impl Decimal {
    /// Of a text that is a JSON number.
    pub(super) fn of(text: &str) -> Self {
        let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let far = if exponent.starts_with('-') { -FAR } else { FAR };
        let exponent = exponent.parse::<i64>().unwrap_or(far).clamp(-FAR, FAR);
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = format!("{whole}{fraction}");
        let digits = all.trim_end_matches('0');
        let dropped = i64::try_from(all.len() - digits.len()).unwrap();
        let exponent = exponent - i64::try_from(fraction.len()).unwrap() + dropped;
        Self { negative, digits: digits.trim_start_matches('0').to_owned(), exponent }
    }

    /// The value times ten to the power of `places`, if that is whole and has at most 38 digits.
    pub(super) fn whole(&self, places: i64) -> Option<i128> {
        let value = if self.digits.is_empty() { "0".to_owned() } else { self.shifted(places)? };
        let value: i128 = value.parse().ok()?;
        Some(if self.negative { -value } else { value })
    }

    fn shifted(&self, places: i64) -> Option<String> {
        let zeros = usize::try_from(self.exponent + places).ok()?;
        (self.digits.len() + zeros <= 38).then(|| format!("{}{}", self.digits, "0".repeat(zeros)))
    }

    /// The same rounded down; none where it has more than 38 digits.
    pub(super) fn floor(&self, places: i64) -> Option<i128> {
        if let Some(whole) = self.whole(places) {
            return Some(whole);
        }
        let cut = usize::try_from(-(self.exponent + places)).ok()?;
        let kept = self.digits.len().saturating_sub(cut);
        let value: i128 = if kept == 0 { 0 } else { self.digits[..kept].parse().ok().filter(|_| kept <= 38)? };
        Some(if self.negative { -value - 1 } else { value })
    }
}
