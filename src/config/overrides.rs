//! What is set from outside of the files: environment variables and `--set`, from their texts to a key and a value.
//!
//! Pure. A variable is `TIDEGATE__`, the table, `__` and the key, in any case: `TIDEGATE__KAFKA__TOPIC` is `kafka.topic`, and
//! `TIDEGATE__MODE` is `mode`. As variables know neither dots nor dashes, `_` (or `__`) stands for any of `_`, `.` and `-`:
//! `TIDEGATE__KAFKA__SECURITY_PROTOCOL` is `kafka."security.protocol"`. No two names that are known become one this way; a name that
//! is not known cannot be told from a variable, and is refused.

use std::borrow::Cow;

use toml::Spanned;
use toml::de::DeValue;

use super::nearest::nearest;
use super::origin::At;
use super::{catalog, catalog_properties, properties, vocabulary};

/// How variables begin that set a key.
pub(crate) const PREFIX: &str = "TIDEGATE__";

/// Ways to name a secret without giving it.
const REFERENCES: &[&str] = &[properties::ENV, properties::FILE, properties::COMMAND];

/// A key, by its table and its name in it; for the top of the file the table is empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) table: String,
    /// All that follows, with its dots: `topic`, `security.protocol`, `properties.write.format.default`.
    pub(super) name: String,
}

impl Key {
    /// As `--set` takes it.
    pub(super) fn path(&self) -> String {
        if self.table.is_empty() { self.name.clone() } else { format!("{}.{}", self.table, self.name) }
    }

    /// The name of its variable.
    pub(super) fn variable(&self) -> String {
        let plain = |name: &str| name.replace(|c: char| !c.is_ascii_alphanumeric(), "_").to_uppercase();
        if self.table.is_empty() {
            format!("{PREFIX}{}", plain(&self.name))
        } else {
            format!("{PREFIX}{}__{}", plain(&self.table), plain(&self.name))
        }
    }

    fn is_secret(&self) -> bool {
        match self.table.as_str() {
            "catalog" => catalog_properties::is_secret(&self.name),
            _ => properties::is_secret(&self.name) && !properties::is_public(&self.name),
        }
    }
}

/// Every key that has a variable.
pub(super) fn keys() -> Vec<Key> {
    let key = |table: &str, name: &str| Key { table: table.to_owned(), name: name.to_owned() };
    let own = vocabulary::KEYS.iter().filter(|(table, _)| *table != "table.columns").flat_map(|(table, names)| {
        names.iter().filter(|name| !(table.is_empty() && vocabulary::is_table(name))).map(|name| key(table, name))
    });
    let kafka = properties::names().map(|name| key("kafka", name));
    let catalog =
        catalog_properties::known().iter().filter(|(name, ..)| !name.ends_with('*')).map(|(name, ..)| key("catalog", name));
    own.chain(kafka).chain(catalog).collect()
}

/// The key that a variable names, or why it names none.
pub(super) fn key_of_variable(variable: &str) -> Result<Key, String> {
    let after = variable.get(PREFIX.len()..).unwrap_or_default().to_uppercase();
    let (table, name) = after.split_once("__").unwrap_or(("", &after));
    let name = name.replace("__", "_");
    let plain = if table.is_empty() { format!("{PREFIX}{name}") } else { format!("{PREFIX}{table}__{name}") };
    let keys = keys();
    if let Some(key) = keys.iter().find(|key| key.variable() == plain) {
        return Ok(key.clone());
    }
    if let Some(key) = one_of_many(table, &name) {
        return Ok(key);
    }
    let lower = (table.to_lowercase(), name.to_lowercase());
    if table.is_empty() && vocabulary::is_table(&lower.1) {
        let example = keys.iter().find(|key| key.table == lower.1).map(Key::variable).unwrap_or_default();
        return Err(format!("[{}] is a table; name a key of it, as in {example}", lower.1));
    }
    let open = vocabulary::OPEN.iter().find(|(table, key)| lower.0 == *table && lower.1.starts_with(&format!("{key}_")));
    if let Some((table, key)) = open {
        let whole = Key { table: (*table).to_owned(), name: (*key).to_owned() };
        let variable = whole.variable();
        return Err(format!(
            "names in `{table}.{key}` cannot be told from a variable; give all of it, {variable}='{{ \"name\" = \"value\" }}', or use --set"
        ));
    }
    let names: Vec<String> = keys.iter().map(Key::variable).collect();
    // Without what all begin with, which would make everything near.
    Err(match nearest(&plain[PREFIX.len()..], names.iter().map(|name| &name[PREFIX.len()..])) {
        Some(meant) => format!("names no key; did you mean {PREFIX}{meant}?"),
        None => format!("names no key; it is written {PREFIX}TABLE__KEY, as in {PREFIX}KAFKA__TOPIC"),
    })
}

/// A property of which only the start of the name is known: `HEADER_X_TENANT` is `header.x-tenant`.
fn one_of_many(table: &str, name: &str) -> Option<Key> {
    catalog_properties::known().iter().filter(|_| table == "CATALOG").find_map(|(known, ..)| {
        let start = known.strip_suffix('*')?;
        let plain = start.replace(|c: char| !c.is_ascii_alphanumeric(), "_").to_uppercase();
        let rest = name.strip_prefix(&plain).filter(|rest| !rest.is_empty())?;
        Some(Key { table: String::from("catalog"), name: format!("{start}{}", rest.to_lowercase().replace('_', "-")) })
    })
}

/// What stands before the first `=` of `--set KEY=VALUE` that is not in quotes, and what stands behind it.
pub(super) fn split_set(text: &str) -> Option<(&str, &str)> {
    let mut quote = None;
    for (at, character) in text.char_indices() {
        match (character, quote) {
            ('=', None) => return Some((text[..at].trim(), &text[at + 1..])),
            ('"' | '\'', None) => quote = Some(character),
            (_, Some(open)) if character == open => quote = None,
            _ => (),
        }
    }
    None
}

/// The key of `--set`. Whether it exists is for the reader to say, as for a key of the file. Names with dots may stand in quotes.
pub(super) fn key_of_set(path: &str) -> Result<Key, String> {
    let plain = path.replace(['"', '\''], "");
    if plain.split('.').any(|part| part.trim().is_empty()) {
        return Err(String::from("is not a key; write --set kafka.topic=articles"));
    }
    let (table, name) = plain.split_once('.').unwrap_or(("", &plain));
    if table.is_empty() && vocabulary::is_table(name) {
        let example = vocabulary::keys(name).first().copied().unwrap_or_default();
        return Err(format!("[{name}] is a table; name a key of it, as in --set {name}.{example}=..."));
    }
    Ok(Key { table: table.to_owned(), name: name.to_owned() })
}

/// The value of an override. Where a list or a table may stand, a text that begins like one is TOML; any other text is the value as
/// it stands, and needs no quotes. `quotes`: whether a string in quotes loses them, for `--set` is TOML to those who know TOML.
pub(super) fn value<'a>(key: &Key, text: &'a str, at: At, quotes: bool) -> Result<Spanned<DeValue<'a>>, String> {
    let trimmed = text.trim();
    let structured = vocabulary::STRUCTURED.contains(&(key.table.as_str(), key.name.as_str()));
    if structured && trimmed.starts_with(['[', '{']) {
        let parsed = DeValue::parse(trimmed).map_err(|error| format!("`{}`: not TOML: {}", key.path(), error.message()))?;
        return Ok(moved(parsed, at.0));
    }
    let quoted = if quotes && trimmed.starts_with(['"', '\'']) { DeValue::parse(trimmed).ok() } else { None };
    let value = match quoted.map(Spanned::into_inner) {
        Some(DeValue::String(text)) => text,
        _ => Cow::Borrowed(text),
    };
    Ok(Spanned::new(at.0..at.0, DeValue::String(value)))
}

/// The same value, `by` positions further on.
pub(super) fn moved(value: Spanned<DeValue<'_>>, by: usize) -> Spanned<DeValue<'_>> {
    let span = value.span();
    let value = match value.into_inner() {
        DeValue::Array(array) => {
            let mut elements = toml::de::DeArray::new();
            array.into_iter().for_each(|element| elements.push(moved(element, by)));
            DeValue::Array(elements)
        }
        DeValue::Table(table) => DeValue::Table(
            table
                .into_iter()
                .map(|(key, value)| {
                    let at = key.span();
                    (Spanned::new(at.start + by..at.end + by, key.into_inner()), moved(value, by))
                })
                .collect(),
        ),
        other => other,
    };
    Spanned::new(span.start + by..span.end + by, value)
}

/// Whether `--set` must not take this value: others can read the command line, in the list of processes and in a shell's history.
pub(super) fn gives_secret(key: &Key, value: &DeValue<'_>) -> bool {
    match value {
        DeValue::String(text) => {
            let is_reference = REFERENCES.iter().any(|start| text.starts_with(start));
            (key.is_secret() && !is_reference) || catalog::holds_password(text)
        }
        DeValue::Table(table) => table.iter().any(|(name, value)| {
            gives_secret(&Key { table: key.table.clone(), name: format!("{}.{}", key.name, name.get_ref()) }, value.get_ref())
        }),
        _ => false,
    }
}
