//! The program from outside: what it prints, where, and with which exit code.

#![expect(clippy::too_many_lines, reason = "a whole answer stands in the test that asks for it")]

mod command_line;
mod environment;
mod files;
mod help;
mod hostile;
mod job_file;
mod job_values;
mod life;
mod places;
mod reset;
mod run;
mod secrets;
mod settings;
mod signals;
mod verify;
