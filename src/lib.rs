//! tidegate moves a bounded range of a Kafka topic into an Apache Iceberg table, exactly once, and exits.

pub mod catalog;
pub mod cli;
pub mod config;
pub mod error;
pub(crate) mod keys;
pub(crate) mod names;
pub mod offsets;
pub mod source;
pub(crate) mod storage;
pub(crate) mod table;
