//! The program from outside: what it prints, where, and with which exit code.

mod command_line;
mod files;
mod job_file;
mod places;
mod run;
mod signals;
