//! `[catalog]`: where the head of the table is kept, and how its files are reached.
//!
//! Properties of a catalog, its servers and its stores have the names that PyIceberg gave them.

use std::collections::BTreeMap;

use super::nearest::nearest;
use super::reader::{Section, Value};
use super::stores::warehouse;
use super::{CatalogConfig, CatalogKind, database, refused, rest, stores, vocabulary};

pub(super) fn read(catalog: &Section<'_>) -> CatalogConfig {
    let kind = catalog.require("type").and_then(|value| kind(&value));
    let rest = kind == Some(CatalogKind::Rest);
    // What the uri and the warehouse should be hangs on the type.
    let uri = catalog.require("uri").filter(|_| kind.is_some());
    let place = match rest {
        // A server may have one warehouse only.
        true => catalog.get("warehouse").and_then(|value| value.name()),
        false => catalog.require("warehouse").filter(|_| kind.is_some()).and_then(|value| value.parsed(warehouse)),
    };
    CatalogConfig {
        kind: kind.unwrap_or(CatalogKind::Sql),
        name: catalog.get("name").and_then(|value| value.name()).unwrap_or_else(|| String::from("tidegate")),
        uri: uri.and_then(|value| value.parsed(if rest { rest::uri } else { database::uri })).unwrap_or_default(),
        warehouse: place.unwrap_or_default(),
        properties: properties(catalog),
    }
}

fn kind(value: &Value<'_>) -> Option<CatalogKind> {
    value.parsed(|kind| refused::reason(kind).map_or(Ok(()), Err))?;
    value.choice(&[("sql", CatalogKind::Sql), ("rest", CatalogKind::Rest)])
}

fn properties(catalog: &Section<'_>) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (name, value) in catalog.properties(vocabulary::keys("catalog")) {
        if known().any(|known| known == name) || name.strip_prefix(rest::HEADER).is_some_and(|header| !header.is_empty()) {
            let text = if is_secret(&name) { value.kept() } else { value.property() };
            found.extend(text.map(|text| (name, text)));
        } else {
            match nearest(&name, known()) {
                Some(meant) => value.mistake(format!("unknown property `catalog.{name}`; did you mean `{meant}`?")),
                None => catalog.unknown(&name, value.line),
            }
        }
    }
    found
}

/// Whether a property holds a password, a key or a token: its value may be kept elsewhere. Headers often carry a token.
pub(crate) fn is_secret(name: &str) -> bool {
    all().any(|(known, secret)| known == name && secret) || name.starts_with(rest::HEADER)
}

fn known() -> impl Iterator<Item = &'static str> {
    all().map(|(known, _)| known)
}

fn all() -> impl Iterator<Item = (&'static str, bool)> {
    [database::PROPERTIES, rest::PROPERTIES, stores::PROPERTIES].into_iter().flatten().copied()
}
