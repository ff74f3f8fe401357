//! What is alive in the table at one snapshot, and where a batch's ids already live in it.
//!
//! Reads manifests, data files and deletes of any engine; never writes, and never decides what a match means. A row is alive when
//! its file is and no position delete, deletion vector or equality delete takes it out. A live file that cannot be read ends the
//! run: skipping it would let an id into the table twice.

pub(crate) mod adapt;
pub(crate) mod dead;
pub(crate) mod equality;
pub(crate) mod files;
mod indexed;
pub(crate) mod lookup;
mod pages;
pub(crate) mod prune;
pub(crate) mod rows;
#[cfg(test)]
pub(crate) mod testing;
