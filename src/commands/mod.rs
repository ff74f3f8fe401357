//! The commands besides the run itself: each opens the doors it needs, asks, and answers with a value that prints as text or JSON.
//!
//! Owns how a job file becomes a catalog, a store and a source. Holds no rule of its own about offsets, rows or commits.

pub mod caught;
pub mod check;
pub mod clean;
pub mod init;
pub mod job_file;
pub mod plan;
pub mod reset;
pub mod run;
pub mod show;
pub mod status;
pub mod verify;

use serde::Serialize;

use crate::catalog::AnyCatalog;
use crate::config::{CatalogConfig, Config, may_be_elsewhere, may_be_elsewhere_in_catalog};
use crate::error::{Error, Result};
use crate::memory::Budget;
use crate::report::ErrorReport;
use crate::secrets;
use crate::source::kafka::Kafka;
use crate::storage::Store;

/// Catalog and store of a job.
#[derive(Debug)]
pub struct Tables {
    /// Every byte goes through it.
    pub store: Store,
    /// The door to the heads of the job's tables.
    pub catalog: AnyCatalog,
}

/// What a command answers that fails. Its JSON form is a contract.
#[derive(Debug, Serialize)]
pub struct Failed {
    /// Version of the program.
    pub tidegate: &'static str,
    /// The command.
    pub command: &'static str,
    /// Exit code of the process.
    pub exit_code: u8,
    /// Why.
    pub error: ErrorReport,
}

impl Failed {
    /// Of a command that ended with this error.
    pub fn of(command: &'static str, error: &Error) -> Self {
        Self { tidegate: env!("CARGO_PKG_VERSION"), command, exit_code: error.exit_code(), error: ErrorReport::from_error(error) }
    }
}

/// Opens catalog and store; asks neither yet.
pub fn open_tables(config: &Config) -> Result<Tables> {
    let properties = secrets::resolved("catalog", &config.catalog.properties, may_be_elsewhere_in_catalog)?;
    let catalog = CatalogConfig { properties, ..config.catalog.clone() };
    let store = Store::with(catalog.properties.clone());
    let catalog = AnyCatalog::open(&catalog, &config.name, &store)?;
    Ok(Tables { store, catalog })
}

/// Opens the source; asks it nothing yet.
pub fn open_source(config: &Config) -> Result<Kafka> {
    // A token is read anew whenever one ends.
    let takes = |name: &str| may_be_elsewhere(name) && name != Kafka::TOKEN;
    let mut properties = secrets::resolved("kafka", &config.kafka.properties, takes)?;
    let is_tls = properties.get("security.protocol").is_some_and(|name| name.to_ascii_lowercase().ends_with("ssl"));
    let trusts = ["ssl.ca.location", "ssl.ca.pem"].iter().any(|name| properties.contains_key(*name));
    if let Some(place) = trusted().filter(|_| is_tls && !trusts) {
        properties.insert("ssl.ca.location".into(), place);
    }
    // librdkafka's queue is part of what `memory_limit` promises.
    let budget = Budget::of(config.limits.memory_limit);
    properties.entry("queued.max.messages.kbytes".into()).or_insert_with(|| (budget.queue / 1024).to_string());
    // librdkafka's own default is 50 MiB; below `message.max.bytes` it would refuse ours.
    let message_max = properties.get("message.max.bytes").and_then(|bytes| bytes.trim().parse().ok()).unwrap_or(0);
    properties.entry("fetch.max.bytes".into()).or_insert_with(|| budget.fetch.max(message_max).to_string());
    // A topic may hold larger records than librdkafka takes by itself (100 MB): one of those would stop the job for ever.
    properties.entry("receive.message.max.bytes".into()).or_insert_with(|| i32::MAX.to_string());
    Kafka::connect(&config.kafka.topic, &properties)
}

/// Where this process is told to find authorities, as OpenSSL and the HTTP clients are told.
#[expect(clippy::disallowed_methods, reason = "both TLS stacks look at these variables: the one here, the other by itself")]
fn trusted() -> Option<String> {
    let set = |name| std::env::var(name).ok().filter(|place| !place.is_empty());
    set("SSL_CERT_FILE").or_else(|| set("SSL_CERT_DIR"))
}

/// Lays out rows in columns, the first column to the left and the others to the right.
pub(crate) fn columns(rows: &[Vec<String>]) -> String {
    let mut widths = vec![0; rows.iter().map(Vec::len).max().unwrap_or(0)];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in rows {
        let line: Vec<String> = row
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(at, (cell, &width))| if at == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") })
            .collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
    }
    text
}
