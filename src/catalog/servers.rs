//! Where the servers are that a test run was started beside.

use std::collections::BTreeMap;
use std::path::Path;

/// What `scripts/servers up NAME` printed of a server that it started for this test run.
///
/// # Panics
/// Where there is none: a test that cannot run has failed.
pub(crate) fn server(name: &str) -> BTreeMap<String, String> {
    let hint = "run the tests by `scripts/servers with -- cargo test`";
    #[expect(clippy::disallowed_methods, reason = "who runs the tests says so where the servers are")]
    let folder = std::env::var_os("TIDEGATE_TEST_SERVERS").unwrap_or_else(|| panic!("this test needs a {name}: {hint}"));
    let facts = std::fs::read_to_string(Path::new(&folder).join(name).join("facts"));
    let facts = facts.unwrap_or_else(|e| panic!("this test needs a {name} ({e}): {hint}"));
    facts.lines().filter_map(|line| line.split_once('=')).map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}
