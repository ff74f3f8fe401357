//! Partition and sort fields as text: `day(published_at)`, `bucket(16, id)`, `score desc nulls last`.
//!
//! Pure. Spark's spellings (`days(ts)`) are taken too.

use iceberg::spec::{NullOrder, SortDirection, Transform};

use super::nearest::{listed, nearest};
use super::{PartitionBy, SortBy};

const TRANSFORMS: &[&str] = &["identity", "bucket", "truncate", "year", "month", "day", "hour", "void"];

/// A partition field.
pub(super) fn partition(text: &str) -> Result<PartitionBy, String> {
    let (column, transform) = term(text)?;
    Ok(PartitionBy { column, transform })
}

/// A sort field.
pub(super) fn sort(text: &str) -> Result<SortBy, String> {
    let text = text.trim();
    let end = match text.rfind(')') {
        Some(at) => at + 1,
        None => text.find(char::is_whitespace).unwrap_or(text.len()),
    };
    let (column, transform) = term(&text[..end])?;
    let order = text[end..].to_lowercase();
    let words: Vec<&str> = order.split_whitespace().collect();
    let (direction, words) = match words.as_slice() {
        ["asc", rest @ ..] => (SortDirection::Ascending, rest),
        ["desc", rest @ ..] => (SortDirection::Descending, rest),
        rest => (SortDirection::Ascending, rest),
    };
    let nulls = match (words, direction) {
        (["nulls", "first"], _) | ([], SortDirection::Ascending) => NullOrder::First,
        (["nulls", "last"], _) | ([], SortDirection::Descending) => NullOrder::Last,
        _ => {
            return Err(format!(
                "`{}` is not an order; write `asc` or `desc`, then `nulls first` or `nulls last`",
                text[end..].trim()
            ));
        }
    };
    Ok(SortBy { column, transform, direction, nulls })
}

/// `column` or `transform(column)`.
fn term(text: &str) -> Result<(String, Transform), String> {
    let text = text.trim();
    let Some((name, arguments)) = text.split_once('(') else {
        return if text.is_empty() { Err(String::from("a column is missing")) } else { Ok((text.to_owned(), Transform::Identity)) };
    };
    let Some(arguments) = arguments.strip_suffix(')') else {
        return Err(format!("`{text}` does not end with `)`"));
    };
    let arguments: Vec<&str> = arguments.split(',').map(str::trim).collect();
    let name = name.trim().to_lowercase();
    let (transform, column) = match (name.as_str(), arguments.as_slice()) {
        ("identity", [column]) => (Transform::Identity, column),
        ("bucket", [number, column]) => (Transform::Bucket(width(number, text, "bucket(16, id)")?), column),
        ("truncate", [number, column]) => (Transform::Truncate(width(number, text, "truncate(4, name)")?), column),
        ("year" | "years", [column]) => (Transform::Year, column),
        ("month" | "months", [column]) => (Transform::Month, column),
        ("day" | "days" | "date", [column]) => (Transform::Day, column),
        ("hour" | "hours" | "date_hour", [column]) => (Transform::Hour, column),
        ("void", [column]) => (Transform::Void, column),
        ("bucket", _) => return Err(format!("`{text}`: write `bucket(16, id)`")),
        ("truncate", _) => return Err(format!("`{text}`: write `truncate(4, name)`")),
        _ => return Err(unknown(&name, text)),
    };
    if column.is_empty() {
        return Err(format!("`{text}` names no column"));
    }
    Ok(((*column).to_owned(), transform))
}

fn width(number: &str, text: &str, example: &str) -> Result<u32, String> {
    match number.parse() {
        Ok(number) if (1..=i32::MAX.unsigned_abs()).contains(&number) => Ok(number),
        _ => Err(format!("`{text}`: a number above 0 comes first, as in `{example}`")),
    }
}

fn unknown(name: &str, text: &str) -> String {
    let singular = name.strip_suffix('s').unwrap_or(name);
    if TRANSFORMS.contains(&name) || TRANSFORMS.contains(&singular) {
        return format!("`{text}`: write `{singular}(column)`");
    }
    match nearest(name, TRANSFORMS.iter().copied()) {
        Some(right) => format!("unknown transform `{name}` in `{text}`; did you mean `{right}`?"),
        None => format!("unknown transform `{name}` in `{text}`; transforms are {}", listed(TRANSFORMS, "and")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_partition_fields() {
        for (text, column, transform) in [
            ("id", "id", Transform::Identity),
            (" identity( id ) ", "id", Transform::Identity),
            ("bucket(16, id)", "id", Transform::Bucket(16)),
            ("BUCKET(16,id)", "id", Transform::Bucket(16)),
            ("truncate(4, name)", "name", Transform::Truncate(4)),
            ("year(ts)", "ts", Transform::Year),
            ("years(ts)", "ts", Transform::Year),
            ("months(ts)", "ts", Transform::Month),
            ("day(ts)", "ts", Transform::Day),
            ("days(ts)", "ts", Transform::Day),
            ("hours(a.b)", "a.b", Transform::Hour),
            ("void(x)", "x", Transform::Void),
        ] {
            assert_eq!(partition(text), Ok(PartitionBy { column: column.to_owned(), transform }), "{text}");
        }
    }

    #[test]
    fn reads_sort_fields() {
        use NullOrder::{First, Last};
        use SortDirection::{Ascending, Descending};
        for (text, column, transform, direction, nulls) in [
            ("id", "id", Transform::Identity, Ascending, First),
            ("id desc", "id", Transform::Identity, Descending, Last),
            ("id  ASC NULLS LAST", "id", Transform::Identity, Ascending, Last),
            ("id nulls last", "id", Transform::Identity, Ascending, Last),
            ("day(ts) desc nulls first", "ts", Transform::Day, Descending, First),
            ("bucket(4, id)", "id", Transform::Bucket(4), Ascending, First),
        ] {
            assert_eq!(sort(text), Ok(SortBy { column: column.to_owned(), transform, direction, nulls }), "{text}");
        }
    }

    #[test]
    fn says_what_is_wrong() {
        let mut said = String::new();
        for text in [
            "",
            "dya(ts)",
            "foo(ts)",
            "day(a, b)",
            "day()",
            "day(ts",
            "bucket(id, 16)",
            "bucket(0, id)",
            "bucket(id)",
            "truncate(x)",
        ] {
            said.push_str(&format!("{}\n", partition(text).unwrap_err()));
        }
        for text in ["id descending", "id desc nulls", "day(ts) up"] {
            said.push_str(&format!("{}\n", sort(text).unwrap_err()));
        }
        insta::assert_snapshot!(said, @r"
    a column is missing
    unknown transform `dya` in `dya(ts)`; did you mean `day`?
    unknown transform `foo` in `foo(ts)`; transforms are `identity`, `bucket`, `truncate`, `year`, `month`, `day`, `hour` and `void`
    `day(a, b)`: write `day(column)`
    `day()` names no column
    `day(ts` does not end with `)`
    `bucket(id, 16)`: a number above 0 comes first, as in `bucket(16, id)`
    `bucket(0, id)`: a number above 0 comes first, as in `bucket(16, id)`
    `bucket(id)`: write `bucket(16, id)`
    `truncate(x)`: write `truncate(4, name)`
    `descending` is not an order; write `asc` or `desc`, then `nulls first` or `nulls last`
    `desc nulls` is not an order; write `asc` or `desc`, then `nulls first` or `nulls last`
    `up` is not an order; write `asc` or `desc`, then `nulls first` or `nulls last`
    ");
    }

    proptest! {
        /// Iceberg prints a transform as `bucket[16]`; ours is the same with the column inside.
        #[test]
        fn reads_what_iceberg_prints(n in 1_u32..1_000, which in 0_usize..8, column in "[a-z_]{1,8}") {
            let transform = [
                Transform::Identity, Transform::Bucket(n), Transform::Truncate(n), Transform::Year,
                Transform::Month, Transform::Day, Transform::Hour, Transform::Void,
            ][which];
            let printed = transform.to_string();
            let text = match printed.split_once('[') {
                Some((name, width)) => format!("{name}({}, {column})", width.trim_end_matches(']')),
                None => format!("{printed}({column})"),
            };
            prop_assert_eq!(partition(&text), Ok(PartitionBy { column, transform }));
        }

        #[test]
        fn never_panics(text in "\\PC*", near in "(day|bucket|\\(|\\)|,|[0-9]|x| |desc|nulls|last){0,12}") {
            for text in [text, near] {
                let _answers = (partition(&text), sort(&text).map(|_| ()));
            }
        }
    }
}
