mod good;
mod layers;
mod mistakes;
mod show;

use proptest::prelude::*;

use super::*;
use crate::error::Mistake;

const ARTICLES: &str = include_str!("../../../jobs/articles.toml");
const HEALTH: &str = include_str!("../../../jobs/health.toml");

/// A job file with only what is required, and columns to check against.
const SMALL: &str = r#"name = "articles"

[kafka]
topic = "articles.raw.v1"
"bootstrap.servers" = "localhost:9092"

[catalog]
type = "sql"
uri = "sqlite:///w/catalog.db"
warehouse = "file:///w"

[table]
name = "news.articles"
columns = [
    { name = "id", type = "string", required = true },
    { name = "version", type = "long" },
    { name = "published_at", type = "timestamptz" },
    { name = "tags", type = "list<string>" },
]

[merge]
id = ["id"]
event_time = "published_at"
"#;

fn env(name: &str) -> Option<OsString> {
    match name {
        "PWD" => Some("/home/me".into()),
        "EMPTY" => Some(OsString::new()),
        _ => None,
    }
}

fn parse(text: &str) -> Config {
    Config::parse(text, &env).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

/// The small file with one piece of text replaced by another.
fn small(from: &str, to: &str) -> String {
    assert!(SMALL.contains(from), "`{from}` is in the file");
    SMALL.replacen(from, to, 1)
}

fn mistakes(text: &str) -> String {
    Config::parse(text, &env).map(|config| format!("{config:?}")).unwrap_err().to_string()
}

/// What is said of a REST catalog with these lines.
fn rest(lines: &str) -> String {
    mistakes(&small(
        "type = \"sql\"\nuri = \"sqlite:///w/catalog.db\"\nwarehouse = \"file:///w\"",
        &format!("type = \"rest\"\n{lines}"),
    ))
}

/// What is said when lines are added to `[kafka]`.
fn kafka(lines: &str) -> String {
    mistakes(&small("topic = \"articles.raw.v1\"", &format!("topic = \"t\"\n{lines}")))
}

/// What is said when text is added at the end.
fn more(text: &str) -> String {
    mistakes(&format!("{SMALL}\n{text}"))
}

/// Every name in the vocabulary is asked for somewhere: a key that is known but never read would be ignored in silence.
#[test]
fn every_known_key_is_read() {
    let rooms = [include_str!("../catalog.rs"), include_str!("../kafka.rs"), include_str!("../sections.rs")];
    let source =
        [rooms.concat().as_str(), include_str!("../table.rs"), include_str!("../mod.rs"), include_str!("../layers.rs")].concat();
    for (table, keys) in vocabulary::KEYS {
        for key in *keys {
            assert!(source.contains(&format!("(\"{key}\"")), "[{table}] {key}");
        }
    }
}

proptest! {
    #[test]
    fn never_panics_on_any_text(text in "\\PC*", lines in "(\\[[a-z.]{1,8}\\]|[a-z.\"]{1,6} = [0-9a-z\"{}\\[\\],=]{0,8}|\n){0,12}") {
        for text in [text, lines] {
            let _answer = Config::parse(&text, &env);
        }
    }

    /// Cuts a piece out of a good file, or puts another piece of a good file in its place.
    #[test]
    fn never_panics_on_a_damaged_file(
        which in 0..3_usize, at in any::<prop::sample::Index>(), length in 0..40_usize,
        from in any::<prop::sample::Index>(), put in 0..40_usize,
    ) {
        let text: Vec<char> = [ARTICLES, HEALTH, SMALL][which].chars().collect();
        let (at, from) = (at.index(text.len()), from.index(text.len()));
        let piece = &text[from..text.len().min(from + put)];
        let rest = &text[text.len().min(at + length)..];
        let damaged: String = text[..at].iter().chain(piece).chain(rest).collect();
        if let Err(mistakes) = Config::parse(&damaged, &env) {
            let lines = damaged.split('\n').count();
            prop_assert!(!mistakes.0.is_empty());
            let in_file = |mistake: &Mistake| match mistake.at { Some(Origin::Line(line)) => (1..=lines).contains(&line), _ => mistake.at.is_none() };
            prop_assert!(mistakes.0.iter().all(in_file), "{mistakes}");
        }
    }

    /// Replaces one value by one of another kind.
    #[test]
    fn never_panics_on_a_file_with_another_value(at in any::<prop::sample::Index>(), value in prop::sample::select(vec![
        "1", "-1", "1.5", "nan", "true", "\"\"", "\"x\"", "\"$\"", "\"${X}\"", "[]", "[1]", "[\"x\"]", "[[]]", "{}", "{ x = 1 }",
        "{ x = { y = 1 } }", "[{}]", "1979-05-27", "0xff", "99999999999999999999", "\"\u{0}\"", "'day('", "\"1 d\"",
    ])) {
        let assignments: Vec<usize> = ARTICLES.match_indices(" = ").map(|(at, _)| at).collect();
        let at = assignments[at.index(assignments.len())];
        let end = ARTICLES[at..].find('\n').map_or(ARTICLES.len(), |length| at + length);
        let changed = format!("{} = {value}{}", &ARTICLES[..at], &ARTICLES[end..]);
        let _answer = Config::parse(&changed, &env);
    }
}
