//! What the built program asks of the system that it is started on.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// An image without one of them could not start it.
#[test]
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn the_readme_names_the_libraries_that_the_program_is_linked_to() {
    let output = Command::new("ldd").arg(env!("CARGO_BIN_EXE_tidegate")).output().unwrap();
    let listed = String::from_utf8(output.stdout).unwrap();
    let linked: BTreeSet<_> = listed.lines().filter_map(|line| line.trim().split_once(" => ")).map(|(name, _)| name).collect();
    assert!(linked.contains("libc.so.6"), "{listed}");
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let line = readme.lines().find(|line| line.contains("dynamic libraries")).unwrap();
    let named: BTreeSet<_> = line.split('`').filter(|word| word.contains(".so.")).collect();
    assert_eq!(named, linked, "{line}");
}
