//! A run to look at: in-process broker, local table, no set-up.

pub(crate) mod broker;
