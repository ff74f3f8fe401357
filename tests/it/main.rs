//! What users and schedulers rely on, tested on the built program, and the rules of the house, tested on its source.

#![expect(clippy::unwrap_used, reason = "helpers of tests end as tests do: with the first surprise")]

mod broker;
mod cli;
mod demo;
mod ends;
mod histories;
mod jobs;
mod libraries;
mod program;
mod sweep;
mod tidy;
mod world;
