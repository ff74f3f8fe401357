//! What a table must be for a job: makes one from the job file, and says whether an existing one fits.
//!
//! Knows nothing of offsets, snapshots or files.

pub(crate) mod create;
pub(crate) mod fit;

#[cfg(test)]
pub(crate) mod sample;
