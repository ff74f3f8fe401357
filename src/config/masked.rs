//! Debug forms that show everything but secrets.

use std::collections::BTreeMap;
use std::fmt;

use super::{CatalogConfig, CatalogsFile, KafkaConfig, Layers, TableConfig, catalog, catalog_properties, is_secret};

/// What stands in place of a secret.
pub(super) const MASK: &str = "***";

fn masked(properties: &BTreeMap<String, String>, is_secret: fn(&str) -> bool) -> BTreeMap<&str, &str> {
    let hidden = |name: &str, value: &str| is_secret(name) || catalog::holds_password(value);
    properties.iter().map(|(name, value)| (name.as_str(), if hidden(name, value) { MASK } else { value.as_str() })).collect()
}

impl fmt::Debug for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { job: _, catalogs, variables, sets: _ } = self;
        let names: Vec<_> = variables.iter().map(|(name, _)| name).collect();
        f.debug_struct("Layers").field("catalogs", catalogs).field("variables", &names).finish_non_exhaustive()
    }
}

impl fmt::Debug for CatalogsFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CatalogsFile").field("file", &self.file).finish_non_exhaustive()
    }
}

impl fmt::Debug for KafkaConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic, start, on_data_loss, mirror_group, properties, plain_secrets } = self;
        f.debug_struct("KafkaConfig")
            .field("topic", topic)
            .field("start", start)
            .field("on_data_loss", on_data_loss)
            .field("mirror_group", mirror_group)
            .field("properties", &masked(properties, is_secret))
            .field("plain_secrets", plain_secrets)
            .finish()
    }
}

impl fmt::Debug for CatalogConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, name, uri, warehouse, properties, plain_secrets } = self;
        f.debug_struct("CatalogConfig")
            .field("kind", kind)
            .field("name", name)
            .field("uri", &catalog::without_password(uri))
            .field("warehouse", warehouse)
            .field("properties", &masked(properties, catalog_properties::is_secret))
            .field("plain_secrets", plain_secrets)
            .finish()
    }
}

impl fmt::Debug for TableConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { namespace, name, branch, columns, partition_by, sort_by, format_version, properties } = self;
        f.debug_struct("TableConfig")
            .field("namespace", namespace)
            .field("name", name)
            .field("branch", branch)
            .field("columns", columns)
            .field("partition_by", partition_by)
            .field("sort_by", sort_by)
            .field("format_version", format_version)
            .field("properties", &masked(properties, is_secret))
            .finish()
    }
}
