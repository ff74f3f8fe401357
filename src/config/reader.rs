//! Reads TOML values one by one and keeps every mistake, so that one does not hide the next.
//!
//! Knows TOML, lines and spelling; knows nothing of what a job means. A value that cannot be read is a mistake and `None`: the
//! caller goes on with a stand-in, because a `Config` is handed out only when there is no mistake at all.

use std::cell::RefCell;
use std::ffi::OsString;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::origin::{At, Kind, Origin, Sources};
use super::properties::{PLAIN, is_place};
use super::{interpolate, nearest, units, vocabulary};
use crate::error::{Mistake, Mistakes};

/// What is the same for every value of one job.
pub(super) struct Reader<'a> {
    sources: Sources,
    env: &'a dyn Fn(&str) -> Option<OsString>,
    mistakes: RefCell<Vec<(Option<At>, String)>>,
    /// Tables of which a part could not be read: what seems to be missing may stand there.
    incomplete: RefCell<Vec<&'static str>>,
}

/// One table, or its absence.
pub(super) struct Section<'a> {
    reader: &'a Reader<'a>,
    /// Path as in `kafka`; empty for the file itself.
    name: &'static str,
    /// Where it begins; none where it is absent.
    pub(super) at: Option<At>,
    table: Option<&'a DeTable<'a>>,
    /// Whether its name seems to be misspelt in the file: then nothing in it is missing, only unseen.
    misspelt: bool,
}

/// One value.
pub(super) struct Value<'a> {
    reader: &'a Reader<'a>,
    value: &'a DeValue<'a>,
    /// Where it stands.
    pub(super) at: At,
    /// Path as in `kafka.topic`, for messages.
    pub(super) path: String,
}

impl<'a> Reader<'a> {
    pub(super) fn new(sources: Sources, env: &'a dyn Fn(&str) -> Option<OsString>) -> Self {
        Self { sources, env, mistakes: RefCell::default(), incomplete: RefCell::default() }
    }

    /// Where a position is, for people.
    pub(super) fn origin(&self, at: At) -> Origin {
        self.sources.origin(at)
    }

    /// Nothing is missing from this table, only unseen.
    pub(super) fn incomplete(&self, table: &'static str) {
        self.incomplete.borrow_mut().push(table);
    }

    /// Whether a position lies in a file that people write, and not in a variable or behind `--set`.
    fn is_in_file(&self, at: At) -> bool {
        !matches!(self.sources.kind(at), Some(Kind::Variable(_) | Kind::Set(_)))
    }

    fn is_in_catalogs(&self, at: At) -> bool {
        matches!(self.sources.kind(at), Some(Kind::Catalogs(_)))
    }

    /// Notes a mistake. What it quotes may hold line breaks; a mistake is one line.
    pub(super) fn mistake(&self, at: Option<At>, message: impl Into<String>) {
        self.mistakes.borrow_mut().push((at, message.into().replace(char::is_control, " ")));
    }

    /// The value, if no mistake was noted; else all mistakes in the order of the texts and their lines, absences last.
    pub(super) fn finish<T>(self, value: T) -> Result<T, Mistakes> {
        let mut mistakes = self.mistakes.into_inner();
        if mistakes.is_empty() {
            return Ok(value);
        }
        mistakes.sort_by_key(|(at, _)| at.map_or((usize::MAX, 0), |at| self.sources.place(at)));
        let told = |(at, message): (Option<At>, String)| Mistake { at: at.map(|at| self.sources.origin(at)), message };
        Err(Mistakes(mistakes.into_iter().map(told).collect()))
    }
}

impl<'a> Section<'a> {
    /// The whole job.
    pub(super) fn root(reader: &'a Reader<'a>, table: &'a DeTable<'a>) -> Self {
        Self { reader, name: "", at: None, table: Some(table), misspelt: false }
    }

    /// The table `name`; an absent one reads as empty.
    pub(super) fn open(root: &Self, name: &'static str) -> Self {
        let reader = root.reader;
        let Some(found) = root.get(name) else {
            return Self { reader, name, at: None, table: None, misspelt: root.is_misspelt(name) };
        };
        let table = found.value.as_table();
        if table.is_none() {
            found.mistake(format!("`{name}` must be a table: write [{name}] on a line of its own"));
        }
        Self { reader, name, at: Some(found.at), table, misspelt: table.is_none() }
    }

    pub(super) fn reader(&self) -> &'a Reader<'a> {
        self.reader
    }

    /// The value of a key, if it is there.
    pub(super) fn get(&self, key: &str) -> Option<Value<'a>> {
        let (_, value) = self.table?.iter().find(|(name, _)| name.get_ref() == key)?;
        Some(Value { reader: self.reader, value: value.get_ref(), at: At(value.span().start), path: self.path(key) })
    }

    /// The value of a key; its absence is a mistake.
    pub(super) fn require(&self, key: &str) -> Option<Value<'a>> {
        let found = self.get(key);
        if found.is_none() {
            self.missing(key);
        }
        found
    }

    /// Notes that a key is missing, unless it seems to be there under a misspelt name: that is one mistake, not two.
    pub(super) fn missing(&self, key: &str) {
        let unseen = self.misspelt || self.reader.incomplete.borrow().contains(&self.name);
        if !unseen && !self.is_misspelt(key) {
            // A table that only an override made is no place to add the key to.
            let at = self.at.filter(|&at| self.reader.is_in_file(at));
            self.reader.mistake(at, format!("missing key `{key}`{}", self.place()));
        }
    }

    /// Whether an unknown key seems to mean this one.
    pub(super) fn is_misspelt(&self, key: &str) -> bool {
        let known = vocabulary::keys(self.name);
        let means = |name: &str| nearest::nearest(name, known.iter().copied()) == Some(key);
        self.keys().iter().any(|(name, _)| !known.contains(name) && means(name))
    }

    /// Names of the keys that are there, each with its place.
    pub(super) fn keys(&self) -> Vec<(&'a str, At)> {
        let keys = self.table.into_iter().flatten();
        keys.map(|(key, _)| (key.get_ref().as_ref(), At(key.span().start))).collect()
    }

    /// Notes every key that is not in the vocabulary.
    pub(super) fn refuse_unknown(&self) {
        for (key, at) in self.keys() {
            if !vocabulary::keys(self.name).contains(&key) {
                self.unknown(key, at);
            }
        }
    }

    /// Notes one key as unknown, with the nearest right name.
    pub(super) fn unknown(&self, key: &str, at: At) {
        let known = vocabulary::keys(self.name);
        let is_table = self.name.is_empty() && self.get(key).is_some_and(|value| value.is_table());
        let what = |name: &str| if is_table { format!("[{name}]") } else { format!("`{name}`") };
        let advice = match (vocabulary::elsewhere(self.name, key), nearest::nearest(key, known.iter().copied())) {
            (Some(place), _) => format!("it belongs {place}"),
            (None, Some(name)) => format!("did you mean {}?", what(name)),
            (None, None) => format!("known are {}", nearest::listed(known, "and")),
        };
        let kind = if is_table { "table" } else { "key" };
        // In the catalogs file the table has another name.
        let place = if self.reader.is_in_catalogs(at) { String::new() } else { self.place() };
        self.reader.mistake(Some(at), format!("unknown {kind} {}{place}; {advice}", what(key)));
    }

    fn place(&self) -> String {
        if self.name.is_empty() { String::new() } else { format!(" in [{}]", self.name) }
    }

    /// All values of the table as properties: names with dots may be written bare (`a.b = 1`), which TOML reads as nested tables.
    pub(super) fn properties(&self, skip: &[&str]) -> Vec<(String, Value<'a>)> {
        let mut found = Vec::new();
        for (key, value) in self.table.into_iter().flatten() {
            if !skip.contains(&key.get_ref().as_ref()) {
                self.flatten(key.get_ref().as_ref().to_owned(), key, value, &mut found);
            }
        }
        found
    }

    fn flatten(
        &self,
        name: String,
        key: &'a Spanned<DeString<'a>>,
        value: &'a Spanned<DeValue<'a>>,
        found: &mut Vec<(String, Value<'a>)>,
    ) {
        // toml bounds the depth of its tables, so this recursion is bounded too.
        if let DeValue::Table(table) = value.get_ref() {
            for (key, value) in table {
                self.flatten(format!("{name}.{}", key.get_ref()), key, value, found);
            }
            return;
        }
        if found.iter().any(|(other, _)| *other == name) {
            self.reader.mistake(Some(At(key.span().start)), format!("`{name}` is given twice"));
        }
        let path = self.path(&name);
        found.push((name, Value { reader: self.reader, value: value.get_ref(), at: At(value.span().start), path }));
    }

    fn path(&self, key: &str) -> String {
        let key = if key.contains('.') { format!("\"{key}\"") } else { key.to_owned() };
        if self.name.is_empty() { key } else { format!("{}.{key}", self.name) }
    }
}

impl<'a> Value<'a> {
    /// Notes a mistake at this value.
    pub(super) fn mistake(&self, message: impl Into<String>) {
        self.reader.mistake(Some(self.at), message);
    }

    fn wrong_type(&self, wanted: &str) {
        let article = if matches!(self.value, DeValue::Integer(_) | DeValue::Array(_)) { "an" } else { "a" };
        self.mistake(format!("`{}` must be {wanted}, not {article} {}", self.path, self.value.type_str()));
    }

    /// A string with its variables filled in. An override is taken as it stands: a password may hold a dollar sign, and whoever
    /// gives an override has a shell to fill in variables.
    pub(super) fn text(&self) -> Option<String> {
        match self.value {
            DeValue::String(text) if self.reader.is_in_file(self.at) => self.fill_in(text),
            DeValue::String(text) => Some(text.to_string()),
            _ => {
                self.wrong_type("a string");
                None
            }
        }
    }

    fn fill_in(&self, text: &str) -> Option<String> {
        match interpolate::interpolate(text, self.reader.env) {
            Ok(text) => Some(text),
            Err(reasons) => {
                for reason in reasons {
                    self.mistake(format!("`{}`: {reason}", self.path));
                }
                None
            }
        }
    }

    /// A string that is not empty.
    pub(super) fn name(&self) -> Option<String> {
        let name = self.text()?;
        if name.trim().is_empty() {
            self.mistake(format!("`{}` must not be empty", self.path));
            return None;
        }
        Some(name)
    }

    /// A string that `parse` understands.
    pub(super) fn parsed<T>(&self, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        match parse(&self.text()?) {
            Ok(value) => Some(value),
            Err(reason) => {
                self.mistake(format!("`{}`: {reason}", self.path));
                None
            }
        }
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Option<T> {
        let word = self.text()?;
        if let Some((_, value)) = choices.iter().find(|(name, _)| *name == word) {
            return Some(*value);
        }
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let advice = match nearest::nearest(&word, names.iter().copied()) {
            Some(name) => format!("did you mean `{name}`?"),
            None => format!("expected {}", nearest::listed(&names, "or")),
        };
        self.mistake(format!("unknown value `{word}` for `{}`; {advice}", self.path));
        None
    }

    /// `true` or `false`; also as a string, for a variable can stand only in a string.
    pub(super) fn flag(&self) -> Option<bool> {
        match self.value {
            DeValue::Boolean(flag) => Some(*flag),
            DeValue::String(_) => self.choice(&[("true", true), ("false", false)]),
            _ => {
                self.wrong_type("`true` or `false`");
                None
            }
        }
    }

    /// A whole number from 0; also as a string, for a variable can stand only in a string.
    pub(super) fn count(&self) -> Option<u64> {
        const WANTED: &str = "a whole number from 0";
        match self.value {
            DeValue::Integer(number) => {
                let count = u64::from_str_radix(number.as_str(), number.radix()).ok();
                if count.is_none() {
                    self.mistake(format!("`{}` must be {WANTED}, not `{number}`", self.path));
                }
                count
            }
            DeValue::String(_) => {
                self.parsed(|text| text.trim().replace('_', "").parse().map_err(|_| format!("`{text}` is not {WANTED}")))
            }
            _ => {
                self.wrong_type(WANTED);
                None
            }
        }
    }

    /// A finite number.
    pub(super) fn number(&self) -> Option<f64> {
        let parse = |text: &str| match text.trim().parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(number),
            _ => Err(format!("`{text}` is not a number")),
        };
        let parsed = match self.value {
            DeValue::Integer(number) if number.radix() == 10 => parse(number.as_str()),
            DeValue::Float(number) => parse(number.as_str()),
            DeValue::String(_) => return self.parsed(parse),
            _ => {
                self.wrong_type("a number");
                return None;
            }
        };
        parsed.map_err(|reason| self.mistake(format!("`{}`: {reason}", self.path))).ok()
    }

    /// A number of bytes: `1048576` or `"1 MiB"`.
    pub(super) fn bytes(&self) -> Option<u64> {
        match self.value {
            DeValue::Integer(_) => self.count(),
            DeValue::String(_) => self.parsed(units::bytes),
            _ => {
                self.wrong_type("a number of bytes such as \"256 MiB\"");
                None
            }
        }
    }

    /// A length of time: `"2 h"`.
    pub(super) fn duration(&self) -> Option<Duration> {
        match self.value {
            DeValue::String(_) => self.parsed(units::duration),
            DeValue::Integer(number) => {
                self.mistake(format!("`{}`: {number} has no unit; write \"{number} s\"", self.path));
                None
            }
            _ => {
                self.wrong_type("a length of time such as \"2 h\"");
                None
            }
        }
    }

    /// A string, whole number or flag in the form in which libraries take it as a property.
    pub(super) fn property(&self) -> Option<String> {
        match self.value {
            DeValue::String(_) => self.text(),
            DeValue::Boolean(flag) => Some(flag.to_string()),
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => Some(number.to_string()),
                Err(_) => {
                    self.mistake(format!("`{}`: `{number}` is out of range", self.path));
                    None
                }
            },
            _ => {
                self.wrong_type("a string, a whole number or a flag");
                None
            }
        }
    }

    /// The same for a value that may be kept elsewhere. What a variable holds is never taken for the name of a place: it is the value.
    pub(super) fn kept(&self) -> Option<String> {
        let text = self.property()?;
        let DeValue::String(written) = self.value else { return Some(text) };
        Some(if is_place(&text) && !is_place(written) { format!("{PLAIN}{text}") } else { text })
    }

    /// Whether a file holds the value itself, neither a variable nor the name of a place.
    pub(super) fn is_plain(&self) -> bool {
        self.reader.is_in_file(self.at)
            && self.value.as_str().is_none_or(|written| !written.contains("${") && !is_place(written) || written.starts_with(PLAIN))
    }

    /// The elements of an array; a single value counts as an array of one.
    pub(super) fn list(&self) -> Vec<Self> {
        match self.value {
            DeValue::Array(array) => array.iter().map(|element| self.child(element, self.path.clone())).collect(),
            _ => vec![Value { reader: self.reader, value: self.value, at: self.at, path: self.path.clone() }],
        }
    }

    /// The entries of a table.
    pub(super) fn entries(&self) -> Vec<(String, Self)> {
        let DeValue::Table(table) = self.value else {
            self.wrong_type("a table such as { name = \"value\" }");
            return Vec::new();
        };
        table
            .iter()
            .map(|(key, value)| (key.get_ref().to_string(), self.child(value, format!("{}.{}", self.path, key.get_ref()))))
            .collect()
    }

    /// This value as a section whose name in messages is `name`.
    pub(super) fn section(&self, name: &'static str) -> Option<Section<'a>> {
        match self.value {
            DeValue::Table(table) => {
                Some(Section { reader: self.reader, name, at: Some(self.at), table: Some(table), misspelt: false })
            }
            _ => {
                self.wrong_type("a table such as { name = \"value\" }");
                None
            }
        }
    }

    /// A date and time as TOML writes it without quotes.
    pub(super) fn datetime(&self) -> Option<String> {
        self.value.as_datetime().map(ToString::to_string)
    }

    /// Whether this is a string.
    pub(super) fn is_text(&self) -> bool {
        self.value.is_str()
    }

    /// Whether this is a table.
    pub(super) fn is_table(&self) -> bool {
        self.value.is_table()
    }

    fn child(&self, value: &'a Spanned<DeValue<'a>>, path: String) -> Self {
        Value { reader: self.reader, value: value.get_ref(), at: At(value.span().start), path }
    }
}
