//! Reads and commits through Iceberg's SQL catalog.
