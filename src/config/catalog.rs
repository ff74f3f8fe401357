//! `[catalog]`: where the head of the table is kept, and how its files are reached.
//!
//! Properties of a catalog, its servers and its stores have the names that PyIceberg gave them.

use std::collections::BTreeMap;

use super::nearest::nearest;
use super::reader::Section;
use super::stores::warehouse;
use super::{CatalogConfig, CatalogKind, rest, stores, vocabulary};

pub(super) fn read(catalog: &Section<'_>) -> CatalogConfig {
    let kinds = [("sql", CatalogKind::Sql), ("rest", CatalogKind::Rest)];
    let kind = catalog.require("type").and_then(|value| value.choice(&kinds));
    let rest = kind == Some(CatalogKind::Rest);
    let uri = catalog.require("uri");
    let place = match rest {
        // A server may have one warehouse only.
        true => catalog.get("warehouse").and_then(|value| value.name()),
        false => catalog.require("warehouse").filter(|_| kind.is_some()).and_then(|value| value.parsed(warehouse)),
    };
    CatalogConfig {
        kind: kind.unwrap_or(CatalogKind::Sql),
        name: catalog.get("name").and_then(|value| value.name()).unwrap_or_else(|| String::from("tidegate")),
        uri: uri
            .filter(|_| kind.is_some())
            .and_then(|value| value.parsed(if rest { rest::uri } else { catalog_uri }))
            .unwrap_or_default(),
        warehouse: place.unwrap_or_default(),
        properties: properties(catalog),
    }
}

fn properties(catalog: &Section<'_>) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (name, value) in catalog.properties(vocabulary::keys("catalog")) {
        if known().any(|known| known == name) || name.strip_prefix(rest::HEADER).is_some_and(|header| !header.is_empty()) {
            found.extend(value.property().map(|text| (name, text)));
        } else {
            match nearest(&name, known()) {
                Some(meant) => value.mistake(format!("unknown property `catalog.{name}`; did you mean `{meant}`?")),
                None => catalog.unknown(&name, value.line),
            }
        }
    }
    found
}

fn known() -> impl Iterator<Item = &'static str> {
    rest::PROPERTIES.iter().chain(stores::PROPERTIES).map(|(known, _)| *known)
}

fn catalog_uri(uri: &str) -> Result<String, String> {
    match uri.strip_prefix("sqlite://") {
        Some("") => Err(String::from("a file is missing; write \"sqlite:///absolute/path/catalog.db\"")),
        // Neither value is repeated: it can hold a password.
        Some(path) if path.contains('?') => Err(String::from("SQLite takes no options after a `?` here; leave them out")),
        Some(path) if path.split('/').next().is_some_and(|host| host.contains('@')) => {
            Err(String::from("SQLite takes no user or password; write \"sqlite:///absolute/path/catalog.db\""))
        }
        Some(_) => Ok(uri.to_owned()),
        // The value is not repeated: the address of another database can hold a password.
        None => {
            Err(String::from("must begin with sqlite://, the only database today; write \"sqlite:///absolute/path/catalog.db\""))
        }
    }
}
