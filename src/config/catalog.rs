//! `[catalog]`: where the head of the table is kept, and how its files are reached.
//!
//! Properties of a catalog, its servers and its stores have the names that PyIceberg gave them.

use std::collections::BTreeMap;

use super::nearest::nearest;
use super::properties::is_secret as is_secret_by_name;
use super::reader::{Section, Value};
use super::stores::warehouse;
use super::{CatalogConfig, CatalogKind, catalog_properties, database, refused, rest, vocabulary};

const KINDS: &[(&str, CatalogKind)] = &[("sql", CatalogKind::Sql), ("rest", CatalogKind::Rest)];

/// Of a catalog that names none, and no entry of a catalogs file.
const NAME_DEFAULT: &str = "tidegate";

pub(super) fn read(catalog: &Section<'_>) -> CatalogConfig {
    let kind = catalog.require("type").and_then(|value| read_kind(&value));
    let rest = kind == Some(CatalogKind::Rest);
    // What the uri and the warehouse should be hangs on the type.
    let uri = catalog.require("uri").filter(|_| kind.is_some());
    let place = match rest {
        // A server may have one warehouse only.
        true => catalog.get("warehouse").and_then(|value| value.name()),
        false => catalog.require("warehouse").filter(|_| kind.is_some()).and_then(|value| value.parsed(warehouse)),
    };
    let uri = uri.and_then(|value| value.parsed(if rest { rest::uri } else { database::uri })).unwrap_or_default();
    let (properties, plain_secrets) = properties(catalog, kind, &uri);
    CatalogConfig {
        kind: kind.unwrap_or(CatalogKind::Sql),
        name: catalog.get("name").and_then(|value| value.name()).unwrap_or_else(|| String::from(NAME_DEFAULT)),
        properties,
        uri,
        warehouse: place.unwrap_or_default(),
        plain_secrets,
    }
}

fn read_kind(value: &Value<'_>) -> Option<CatalogKind> {
    value.parsed(|kind| refused::reason(kind).map_or(Ok(()), Err))?;
    value.choice(KINDS)
}

/// The word for a kind of catalog.
pub(super) fn kind(kind: CatalogKind) -> &'static str {
    vocabulary::word(KINDS, &kind)
}

/// Whether a text is an address with a password in it.
pub(super) fn holds_password(text: &str) -> bool {
    let options = text.split_once('?').filter(|(before, _)| before.contains("://")).map_or("", |(_, options)| options);
    without_password(text).contains(":***@") || is_secret_by_name(&options.to_lowercase())
}

/// An address with `***` in place of what may be a secret: the password before its host, and whatever stands behind a `?`.
pub(super) fn without_password(uri: &str) -> String {
    let (before, options) = match uri.split_once('?') {
        Some((before, _)) => (before, "?***"),
        None => (uri, ""),
    };
    let masked = before.split_once("://").and_then(|(scheme, rest)| {
        // A password may hold a `/` or a `@` that its author forgot to encode.
        let (user, host) = rest.rsplit_once('@')?;
        let (user, _) = user.split_once(':')?;
        Some(format!("{scheme}://{user}:***@{host}"))
    });
    masked.unwrap_or_else(|| before.to_owned()) + options
}

/// The properties, and the names of those whose secret stands in a file.
fn properties(catalog: &Section<'_>, kind: Option<CatalogKind>, uri: &str) -> (BTreeMap<String, String>, Vec<String>) {
    let mut plain = Vec::new();
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    let mut values = Vec::new();
    for (name, value) in catalog.properties(vocabulary::keys("catalog")) {
        if catalog_properties::find(&name).is_none() {
            match nearest(&name, catalog_properties::known().iter().map(|(known, ..)| *known)) {
                Some(meant) => value.mistake(format!("unknown property `catalog.{name}`; did you mean `{meant}`?")),
                None => catalog.unknown(&name, value.at),
            }
            continue;
        }
        let kept = catalog_properties::may_be_elsewhere(&name);
        let Some(text) = (if kept { value.kept() } else { value.property() }) else { continue };
        if let Some(other) = found.keys().find(|other| **other != name && catalog_properties::is_same(other, &name)) {
            value.mistake(format!("`catalog.{name}` is `{other}` again: case makes no difference in a header's name"));
        }
        // As for AWS's own libraries an empty variable is none; an empty header takes away one that is sent by itself.
        if !text.is_empty() || name.starts_with("header.") {
            if catalog_properties::is_secret(&name) && value.is_plain() {
                plain.push(name.clone());
            }
            found.insert(name.clone(), text);
            values.push((name, value));
        }
    }
    for (name, value) in values {
        if let Some(reason) = catalog_properties::unfit(&name, &found[&name]) {
            value.mistake(format!("`catalog.{name}` {reason}"));
        }
        if let Some(reason) = kind.and_then(|kind| catalog_properties::idle(kind, uri, &name, &found)) {
            value.mistake(format!("`catalog.{name}` has no effect {reason}"));
        }
    }
    (found, plain)
}
