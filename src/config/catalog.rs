//! `[catalog]`: where the head of the table is kept, and how its files are reached.
//!
//! Properties of a catalog, its servers and its stores have the names that PyIceberg gave them.

use std::collections::BTreeMap;

use super::nearest::nearest;
use super::reader::Section;
use super::stores::warehouse;
use super::{CatalogConfig, CatalogKind, stores, vocabulary};

/// Properties beside `type`, `name`, `uri` and `warehouse`: PyIceberg's names, and whether the value is a secret.
const PROPERTIES: &[(&str, bool)] = &[];

pub(super) fn read(catalog: &Section<'_>) -> CatalogConfig {
    if let Some(value) = catalog.require("type") {
        match value.text().as_deref() {
            None | Some("sql") => (),
            Some("rest") => value.mistake("`catalog.type`: \"rest\" is not built yet; the only catalog today is \"sql\""),
            Some(_) => value.choice(&[("sql", ())]).unwrap_or_default(),
        }
    }
    CatalogConfig {
        kind: CatalogKind::Sql,
        name: catalog.get("name").and_then(|value| value.name()).unwrap_or_else(|| String::from("tidegate")),
        uri: catalog.require("uri").and_then(|value| value.parsed(catalog_uri)).unwrap_or_default(),
        warehouse: catalog.require("warehouse").and_then(|value| value.parsed(warehouse)).unwrap_or_default(),
        properties: properties(catalog),
    }
}

fn properties(catalog: &Section<'_>) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (name, value) in catalog.properties(vocabulary::keys("catalog")) {
        if known().any(|known| known == name) {
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
    PROPERTIES.iter().chain(stores::PROPERTIES).map(|(known, _)| *known)
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
