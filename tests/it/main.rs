//! What users and schedulers rely on, tested on the built program, and the rules of the house, tested on its source.

mod broker;
mod cli;
mod demo;
mod jobs;
mod program;
mod tidy;
