//! What holds for any input: one law for each decoder and codec, called by libFuzzer and by the tests.
//!
//! A part of the library in tests and in fuzzing builds only, so that laws reach rooms that the product keeps to itself. A law takes
//! bytes and panics where they break it. What it compares with is another library or a model, never the code that it judges.

#![expect(clippy::unwrap_used, reason = "a law ends with the first surprise")]

mod cells;
mod decimals;
mod delete_keys;
mod file_names;
mod ids;
mod input;
mod job_file;
mod json_values;
mod key_index;
mod positions;
mod state;
mod units;

/// Panics where the input breaks the law.
pub type Law = fn(&[u8]);

/// Every law, by the name of its target.
pub const LAWS: &[(&str, Law)] = &[
    ("delete_keys", delete_keys::law),
    ("file_names", file_names::law),
    ("ids", ids::law),
    ("job_file", job_file::law),
    ("job_strings", job_file::strings),
    ("json_values", json_values::law),
    ("key_index", key_index::law),
    ("positions", positions::law),
    ("rejects_property", state::rejects_property),
    ("state_property", state::state_property),
    ("summary", state::summary),
    ("units", units::law),
];

/// The law of a target.
pub fn law(target: &str) -> Option<Law> {
    LAWS.iter().find(|(name, _)| *name == target).map(|(_, law)| *law)
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;

    /// Inputs below `tests/fuzz`, by path.
    fn inputs(folder: &str, target: &str) -> Vec<PathBuf> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz").join(folder).join(target);
        let mut paths: Vec<_> = match std::fs::read_dir(&folder) {
            Ok(entries) => entries.map(|entry| entry.unwrap().path()).collect(),
            Err(_) => Vec::new(),
        };
        paths.sort();
        paths
    }

    #[test]
    fn the_corpus_and_every_input_that_once_failed_keep_their_laws() {
        let mut broken = Vec::new();
        for (target, law) in LAWS {
            let corpus = inputs("corpus", target);
            assert!(!corpus.is_empty(), "target `{target}` has no corpus");
            for path in corpus.iter().chain(&inputs("regressions", target)) {
                let input = std::fs::read(path).unwrap();
                if std::panic::catch_unwind(|| law(&input)).is_err() {
                    broken.push(path.display().to_string());
                }
            }
            law(b"");
        }
        assert!(broken.is_empty(), "inputs that break the law of their target:\n{}", broken.join("\n"));
    }

    #[test]
    fn every_folder_of_inputs_has_its_law() {
        for folder in ["corpus", "regressions"] {
            for path in inputs(folder, "") {
                let name = path.file_name().unwrap().to_str().unwrap();
                assert!(law(name).is_some(), "no law reads `{}`", path.display());
            }
        }
    }
}
