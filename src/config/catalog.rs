//! `[catalog]`: where the head of the table is kept, and how its files are reached.
//!
//! Properties of a catalog, its servers and its stores have the names that PyIceberg gave them.

use std::collections::BTreeMap;

use super::nearest::nearest;
use super::reader::{Section, Value};
use super::{CatalogConfig, CatalogKind, database, refused, vocabulary};

/// Properties beside `type`, `name`, `uri` and `warehouse`: PyIceberg's names, and whether the value is a secret.
const PROPERTIES: &[(&str, bool)] = &[("password", true)];

pub(super) fn read(catalog: &Section<'_>) -> CatalogConfig {
    let kind = catalog.require("type").and_then(|value| kind(&value));
    // What the uri and the warehouse should be hangs on the type.
    let uri = catalog.require("uri").filter(|_| kind.is_some());
    let warehouse = catalog.require("warehouse").filter(|_| kind.is_some());
    CatalogConfig {
        kind: kind.unwrap_or(CatalogKind::Sql),
        name: catalog.get("name").and_then(|value| value.name()).unwrap_or_else(|| String::from("tidegate")),
        uri: uri.and_then(|value| value.parsed(database::uri)).unwrap_or_default(),
        warehouse: warehouse.and_then(|value| value.parsed(self::warehouse)).unwrap_or_default(),
        properties: properties(catalog),
    }
}

fn kind(value: &Value<'_>) -> Option<CatalogKind> {
    if let Some(reason) = value.text().and_then(|kind| refused::reason(&kind)) {
        value.mistake(format!("`catalog.type`: {reason}"));
        return None;
    }
    value.choice(&[("sql", CatalogKind::Sql)])
}

fn properties(catalog: &Section<'_>) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (name, value) in catalog.properties(vocabulary::keys("catalog")) {
        if PROPERTIES.iter().any(|(known, _)| *known == name) {
            found.extend(value.property().map(|text| (name, text)));
        } else {
            let known = PROPERTIES.iter().map(|(known, _)| *known);
            match nearest(&name, known) {
                Some(meant) => value.mistake(format!("unknown property `catalog.{name}`; did you mean `{meant}`?")),
                None => catalog.unknown(&name, value.line),
            }
        }
    }
    found
}

/// A URI under which Iceberg finds the files from any directory.
fn warehouse(place: &str) -> Result<String, String> {
    if place.contains('?')
        || place.split_once("://").is_some_and(|(_, rest)| rest.split('/').next().is_some_and(|host| host.contains('@')))
    {
        // The value is not repeated: it can hold a key or a password.
        return Err(String::from(
            "holds a `?` or, before its path, a `@`; keys and passwords have no place in it, as tables keep it",
        ));
    }
    let path = match place.strip_prefix("file:") {
        None if place.starts_with('/') => place,
        Some(rest) if rest.starts_with("///") => &rest[2..],
        Some(rest) if rest.starts_with('/') && !rest.starts_with("//") => rest,
        Some(_) => return Err(format!("\"{place}\" has no absolute path; write \"file:///absolute/path\"")),
        None if place.contains("://") => {
            return Err(format!("\"{place}\" is not a local place, the only kind today; write \"file:///absolute/path\""));
        }
        None => {
            return Err(format!("\"{place}\" is a relative path; write \"file://${{PWD}}/{}\"", place.trim_start_matches("./")));
        }
    };
    let path = path.trim_end_matches('/');
    if path.is_empty() {
        return Err(format!("\"{place}\" is the root of the file system; name a folder in it"));
    }
    // `file:/a` keeps its spelling: paths are compared exactly as manifests hold them.
    Ok(if place.starts_with("file:/") && !place.starts_with("file://") { format!("file:{path}") } else { format!("file://{path}") })
}
