//! Lays the sources of a job's settings over one another: catalogs file, job file, environment variables, `--set`; the later wins.
//!
//! Pure: every text comes in as text. The result is one TOML table, as if one person had written it, in which each value knows where
//! it came from. What replaces a value replaces all of it; only a single name in `table.properties` or `metadata.columns` leaves its
//! neighbours alone.

use std::collections::BTreeMap;
use std::ffi::OsString;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::catalog_properties::is_same;
use super::nearest::{listed, nearest};
use super::origin::{At, Kind, Origin, Sources};
use super::overrides::{self, Key};
use super::reader::{Reader, Section};
use super::vocabulary;
use crate::error::{Mistake, Mistakes};

const NO_FILE: &str = "`catalog.use` needs a catalogs file: name it with --catalogs FILE or TIDEGATE_CATALOGS, or put `catalogs.toml` beside the job file";

/// All that a job's settings are read from.
#[derive(Clone, Default)]
pub struct Layers {
    /// Text of the job file.
    pub job: String,
    /// The catalogs file; none where none was named and none stands beside the job file.
    pub catalogs: Option<CatalogsFile>,
    /// Environment variables; those that do not begin with `TIDEGATE__` are left alone. A value that is not UTF-8 is none.
    pub variables: Vec<(String, Option<String>)>,
    /// `KEY=VALUE` of each `--set`, in their order.
    pub sets: Vec<String>,
}

/// A file in which catalogs have names.
#[derive(Clone)]
pub struct CatalogsFile {
    /// The file, for messages.
    pub file: String,
    /// Its text, or why it could not be read: that matters only to a job that uses it.
    pub text: Result<String, String>,
}

/// One override, read.
struct Override<'a> {
    key: Key,
    at: At,
    value: Spanned<DeValue<'a>>,
}

/// One table of all layers, and the reader that knows where its values come from. A job file that is not TOML is the one mistake.
pub(super) fn merged<'a>(
    layers: &'a Layers,
    env: &'a dyn Fn(&str) -> Option<OsString>,
) -> Result<(Reader<'a>, DeTable<'a>), Mistakes> {
    let mut sources = Sources::default();
    sources.add(Kind::Job, &layers.job);
    let catalogs = layers.catalogs.as_ref().map(|catalogs| {
        let text = catalogs.text.as_deref().unwrap_or_default();
        (catalogs, sources.add(Kind::Catalogs(catalogs.file.clone()), text))
    });
    let variables = variables(layers, &mut sources);
    let sets: Vec<_> = layers.sets.iter().map(|text| set(text, &mut sources)).collect();
    let reader = Reader::new(sources, env);

    let root = DeTable::parse(&layers.job).map_err(|error| {
        let at = error.span().map(|span| reader.origin(At(span.start)));
        Mistakes(vec![Mistake { at, message: format!("not TOML: {}", error.message()) }])
    })?;
    let mut root = root.into_inner();
    let mut from: BTreeMap<Key, At> = BTreeMap::new();
    for (at, name, read) in variables {
        match read {
            Err(reason) => reader.mistake(Some(at), reason),
            Ok(Override { key, value, .. }) => {
                if let Some(other) = from.insert(key.clone(), at) {
                    reader.mistake(
                        Some(at),
                        format!("{name} sets `{}`, as {} does; leave one out", key.path(), reader.origin(other)),
                    );
                }
                put(&mut root, &key, at, value);
            }
        }
    }
    for read in sets {
        match read {
            Err((at, reason)) => reader.mistake(Some(at), reason),
            Ok(Override { key, at, value }) => put(&mut root, &key, at, value),
        }
    }
    if let Some((wanted, at)) = used(&reader, &root) {
        match entry(&reader, &wanted, at, catalogs) {
            Some(entry) => beneath(&reader, &mut root, at, entry),
            None => reader.incomplete("catalog"),
        }
    }
    Ok((reader, root))
}

type ReadVariable<'a> = (At, &'a str, Result<Override<'a>, String>);

/// Those that set keys, by their names: the environment has no order.
fn variables<'a>(layers: &'a Layers, sources: &mut Sources) -> Vec<ReadVariable<'a>> {
    let has_prefix =
        |name: &str| name.get(..overrides::PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(overrides::PREFIX));
    let mut ours: Vec<_> = layers.variables.iter().filter(|(name, _)| has_prefix(name)).collect();
    ours.sort();
    let mut read = Vec::new();
    for (name, text) in ours {
        let at = sources.add(Kind::Variable(name.clone()), text.as_deref().unwrap_or_default());
        let found = overrides::key_of_variable(name).and_then(|key| {
            let text = text.as_deref().ok_or_else(|| String::from("its value is not UTF-8"))?;
            let value = overrides::value(&key, text, at, false)?;
            Ok(Override { key, at, value })
        });
        read.push((at, name.as_str(), found));
    }
    read
}

fn set<'a>(text: &'a str, sources: &mut Sources) -> Result<Override<'a>, (At, String)> {
    let Some((path, text)) = overrides::split_set(text) else {
        let at = sources.add(Kind::Set(text.to_owned()), "");
        return Err((at, String::from("has no `=`; write --set KEY=VALUE")));
    };
    let at = sources.add(Kind::Set(path.to_owned()), text);
    let key = overrides::key_of_set(path).map_err(|reason| (at, reason))?;
    let value = overrides::value(&key, text, at, true).map_err(|reason| (at, reason))?;
    if overrides::gives_secret(&key, value.get_ref()) {
        let reason = format!(
            "a secret has no place on the command line, where others can read it; set {}, or name a file with `file:PATH`",
            key.variable()
        );
        return Err((at, reason));
    }
    Ok(Override { key, at, value })
}

/// Puts a value in place of whatever the key holds, however it was spelt.
fn put<'a>(root: &mut DeTable<'a>, key: &Key, at: At, value: Spanned<DeValue<'a>>) {
    let mut name = key.name.as_str();
    let mut table = root;
    let open = |table: &str, name: &str| {
        let inside = |own: &str| name.strip_prefix(own).is_some_and(|rest| rest.starts_with('.'));
        vocabulary::OPEN.iter().find(|(other, own)| *other == table && inside(own)).map(|(_, own)| *own)
    };
    if !key.table.is_empty() {
        let Some(inside) = table_in(table, &key.table, at) else { return };
        table = inside;
    }
    if let Some(own) = open(&key.table, name) {
        let Some(inside) = table_in(table, own, at) else { return };
        table = inside;
        name = &key.name[own.len() + 1..];
    }
    remove(table, name);
    table.insert(spelt(name, at), value);
}

fn spelt<'a>(name: &str, at: At) -> Spanned<DeString<'a>> {
    Spanned::new(at.0..at.0, DeString::Owned(name.to_owned()))
}

/// The table of this name, made where there is none. A value in its place stays: the reader says what is wrong with it.
fn table_in<'t, 'a>(table: &'t mut DeTable<'a>, name: &str, at: At) -> Option<&'t mut DeTable<'a>> {
    if !table.iter().any(|(key, _)| key.get_ref() == name) {
        table.insert(spelt(name, at), Spanned::new(at.0..at.0, DeValue::Table(DeTable::new())));
    }
    let (_, value) = table.iter_mut().find(|(key, _)| key.get_ref() == name)?;
    match value.get_mut() {
        DeValue::Table(inside) => Some(inside),
        _ => None,
    }
}

/// Takes out a name in all its spellings: TOML reads `a.b = 1` as a table `a` with a key `b`.
fn remove(table: &mut DeTable<'_>, name: &str) {
    remove_below(table, "", name);
}

/// `before`: what the names in this table begin with, its last dot included.
fn remove_below(table: &mut DeTable<'_>, before: &str, name: &str) {
    for (key, mut value) in std::mem::take(table) {
        let own = format!("{before}{}", key.get_ref());
        if is_same(&own, name) {
            continue;
        }
        if let DeValue::Table(inside) = value.get_mut()
            && name.strip_prefix(&own).is_some_and(|rest| rest.starts_with('.'))
        {
            remove_below(inside, &format!("{own}."), name);
        }
        table.insert(key, value);
    }
}

/// The catalog that the job names, and where it does.
fn used<'a>(reader: &Reader<'a>, root: &DeTable<'a>) -> Option<(String, At)> {
    let root = Section::root(reader, root);
    let value = root.get("catalog").filter(|value| value.is_table())?.section("catalog")?.get("use")?;
    Some((value.name()?, value.at))
}

/// The entry of this name, which `catalog.use` at `at` asks for; none where something is wrong, which is then noted.
fn entry<'a>(reader: &Reader<'a>, wanted: &str, at: At, catalogs: Option<(&'a CatalogsFile, At)>) -> Option<DeTable<'a>> {
    let mistake = |at: At, message: String| {
        reader.mistake(Some(at), message);
        None
    };
    let Some((catalogs, start)) = catalogs else {
        return mistake(at, String::from(NO_FILE));
    };
    let text = match &catalogs.text {
        Ok(text) => text,
        Err(reason) => return mistake(at, format!("`catalog.use`: cannot read `{}`: {reason}", catalogs.file)),
    };
    let entries = match DeTable::parse(text) {
        Ok(entries) => entries,
        Err(error) => {
            let at = error.span().map_or(start, |span| At(start.0 + span.start));
            return mistake(at, format!("not TOML: {}", error.message()));
        }
    };
    let names: Vec<String> = entries.get_ref().keys().map(|key| key.get_ref().to_string()).collect();
    let Some((key, entry)) = entries.into_inner().into_iter().find(|(key, _)| key.get_ref() == wanted) else {
        return mistake(at, not_there(wanted, &names, &catalogs.file));
    };
    let header = At(start.0 + key.span().start);
    let DeValue::Table(mut entry) = overrides::moved(entry, start.0).into_inner() else {
        return mistake(header, format!("`{wanted}` must be a table: write [{wanted}] on a line of its own"));
    };
    if let Some((key, _)) = entry.iter().find(|(key, _)| key.get_ref() == "use") {
        return mistake(At(key.span().start), String::from("`use` stands in a job's [catalog]; no catalog is made of another"));
    }
    // As in PyIceberg the name of the entry is the catalog's own, under which an SQL catalog keeps its tables.
    if !entry.iter().any(|(key, _)| key.get_ref() == "name") {
        let name = DeValue::String(wanted.replace('$', "$$").into());
        entry.insert(spelt("name", header), Spanned::new(header.0..header.0, name));
    }
    Some(entry)
}

/// Lays `[catalog]` over the entry of a catalogs file.
fn beneath<'a>(reader: &Reader<'_>, root: &mut DeTable<'a>, at: At, entry: DeTable<'a>) {
    let Some(catalog) = table_in(root, "catalog", at) else { return };
    let mut own = Vec::new();
    flat_names(catalog, "", &mut own);
    let mut found = Vec::new();
    flatten(entry, "", &mut found);
    found.sort_by_key(|(_, at, _)| *at);
    let mut seen: Vec<String> = Vec::new();
    for (name, at, value) in found {
        if seen.contains(&name) {
            reader.mistake(Some(at), format!("`{name}` is given twice"));
        }
        if !own.iter().any(|own| is_same(own, &name)) {
            remove(catalog, &name);
            catalog.insert(spelt(&name, at), value);
        }
        seen.push(name);
    }
}

/// Names of all values, with dots between the levels.
fn flat_names(table: &DeTable<'_>, before: &str, names: &mut Vec<String>) {
    for (key, value) in table {
        let name = format!("{before}{}", key.get_ref());
        match value.get_ref() {
            DeValue::Table(inside) => flat_names(inside, &format!("{name}."), names),
            _ => names.push(name),
        }
    }
}

fn flatten<'a>(table: DeTable<'a>, before: &str, found: &mut Vec<(String, At, Spanned<DeValue<'a>>)>) {
    for (key, value) in table {
        let name = format!("{before}{}", key.get_ref());
        let (at, span) = (At(key.span().start), value.span());
        match value.into_inner() {
            DeValue::Table(inside) => flatten(inside, &format!("{name}."), found),
            value => found.push((name, at, Spanned::new(span, value))),
        }
    }
}

/// Where each key of the merged table comes from, by its path as in `kafka.topic` or `kafka.security.protocol`.
pub(super) fn origins(reader: &Reader<'_>, root: &DeTable<'_>) -> BTreeMap<String, Origin> {
    let mut found = BTreeMap::new();
    let mut walk = vec![(String::new(), root)];
    while let Some((before, table)) = walk.pop() {
        for (key, value) in table {
            let path = format!("{before}{}", key.get_ref());
            let origin = reader.origin(At(value.span().start));
            if let DeValue::Table(inside) = value.get_ref() {
                walk.push((format!("{path}."), inside));
            }
            found.insert(path, origin);
        }
    }
    found
}

fn not_there(wanted: &str, names: &[String], file: &str) -> String {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let advice = match nearest(wanted, names.iter().copied()) {
        Some(name) => format!("did you mean `{name}`?"),
        None if names == ["catalog"] => format!("a catalog is written [{wanted}], not [catalog.{wanted}]"),
        None => format!("it has {}", listed(&names, "and")),
    };
    format!("`catalog.use`: no catalog `{wanted}` in `{file}`; {advice}")
}
