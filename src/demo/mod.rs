//! A run to look at: in-process broker, local table, no set-up.

pub(crate) mod broker;

use std::io::Write;
use std::path::Path;

use crate::error::Result;
use crate::job::Run;

/// Placeholder until merged.
pub async fn demo(_dir: Option<&Path>, _out: &mut impl Write, _run: &Run) -> Result<()> {
    Ok(())
}
