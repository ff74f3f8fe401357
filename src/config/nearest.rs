//! Finds the name that a misspelt one most likely meant.
//!
//! Pure. Says nothing rather than something far-fetched.

/// Share of letters that may differ: `topc` is `topic`, `foo` is nothing.
const SIMILARITY_MIN: f64 = 0.6;

/// The nearest of `names`, if one is near.
pub(crate) fn nearest<'n>(word: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    nearest_within(word, names, SIMILARITY_MIN)
}

/// The nearest of `names` with at least this similarity (0 to 1). Case and `-` for `_` do not count as differences.
pub(super) fn nearest_within<'n>(word: &str, names: impl IntoIterator<Item = &'n str>, similarity_min: f64) -> Option<&'n str> {
    let word = plain(word);
    let mut best = None;
    for name in names {
        let similarity = strsim::normalized_damerau_levenshtein(&word, &plain(name));
        if similarity >= similarity_min && best.is_none_or(|(_, other)| similarity > other) {
            best = Some((name, similarity));
        }
    }
    best.map(|(name, _)| name)
}

fn plain(name: &str) -> String {
    name.to_lowercase().replace('-', "_")
}

/// "`a`, `b` and `c`".
pub(super) fn listed(names: &[&str], conjunction: &str) -> String {
    match names {
        [] => String::from("none"),
        [only] => format!("`{only}`"),
        [first @ .., last] => {
            let first: Vec<String> = first.iter().map(|name| format!("`{name}`")).collect();
            format!("{} {conjunction} `{last}`", first.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant_and_stays_silent_otherwise() {
        let names = ["topic", "start", "on_data_loss", "mirror_group"];
        assert_eq!(nearest("topc", names), Some("topic"));
        assert_eq!(nearest("Topic", names), Some("topic"));
        assert_eq!(nearest("on-data-loss", names), Some("on_data_loss"));
        assert_eq!(nearest("onDataLoss", names), Some("on_data_loss"));
        assert_eq!(nearest("strat", names), Some("start"));
        assert_eq!(nearest("compression", names), None);
        assert_eq!(nearest("", names), None);
    }

    #[test]
    fn lists_names_as_a_sentence_does() {
        assert_eq!(listed(&["a"], "or"), "`a`");
        assert_eq!(listed(&["a", "b"], "or"), "`a` or `b`");
        assert_eq!(listed(&["a", "b", "c"], "and"), "`a`, `b` and `c`");
    }
}
