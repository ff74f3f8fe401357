//! tidegate moves a bounded range of a Kafka topic into an Apache Iceberg table, exactly once, and exits.

pub mod catalog;
pub mod config;
pub mod counts;
pub mod error;
pub(crate) mod keys;
pub(crate) mod names;
pub mod offsets;
pub mod plan;
pub mod progress;
pub mod source;
pub mod watermark;
pub mod report;
pub mod terminal;
pub mod observe;
