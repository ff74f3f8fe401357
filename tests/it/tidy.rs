//! Rules of the house that the compiler does not know, read off the source.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Lines before the tests of a file; what is longer has a room that wants to be cut out of it.
const LINES_MAX: usize = 500;

/// What each room may name of the outside. The longest path that fits is the one that counts; what is not here may name nothing.
const MAY_NAME: &[(&str, &[&str])] = &[
    (
        "aws",
        &[
            "async_trait",
            "aws_credential_types",
            "aws_sigv4",
            "chrono",
            "object_store",
            "serde",
            "serde_json",
            "tokio",
            "tracing",
            "url",
        ],
    ),
    ("aws/container", &["async_trait", "bytes", "chrono", "object_store", "reqwest", "serde", "serde_json", "tokio", "url"]),
    ("batch", &["arrow", "crossbeam_channel", "iceberg", "roaring", "tokio"]),
    ("catalog", &["bytes", "flate2", "iceberg", "serde_json", "uuid"]),
    ("catalog/rest", &["bytes", "futures", "iceberg", "reqwest", "serde", "serde_json", "tokio", "tracing", "url", "uuid"]),
    ("catalog/sql", &["iceberg", "sqlx", "tokio", "tracing"]),
    ("cli", &["clap", "clap_complete", "clap_mangen"]),
    ("clean", &["chrono", "futures", "iceberg", "serde_json"]),
    ("commands", &["chrono", "serde", "tokio"]),
    ("commands/caught", &["futures"]),
    ("commands/check", &["serde", "tokio", "uuid"]),
    ("commit", &["futures", "iceberg", "serde_json"]),
    ("config", &["chrono", "iceberg", "strsim", "toml"]),
    ("counts", &["serde"]),
    ("decode", &["arrow", "base64", "hashbrown", "iceberg", "serde_json", "sha2", "simdutf8"]),
    ("deletes", &["iceberg", "roaring"]),
    ("demo", &["arrow", "rdkafka", "serde_json", "tokio"]),
    // Another process that holds the catalog, so that a run can be killed at its commit.
    ("demo/child", &["serde_json", "sqlx", "tokio"]),
    ("error", &["thiserror"]),
    ("http", &["bytes", "chrono", "reqwest", "tokio", "url"]),
    ("index", &["arrow", "crc32fast", "iceberg", "parquet", "serde", "serde_json", "xxhash_rust"]),
    ("job", &["iceberg", "roaring", "sha2", "tokio", "tracing", "uuid"]),
    ("keys", &["arrow", "hashbrown", "xxhash_rust"]),
    ("live", &["arrow", "crc32fast", "futures", "iceberg", "parquet", "roaring", "serde_json", "tokio", "tracing"]),
    ("live/indexed", &["arrow", "bytes", "iceberg"]),
    ("live/rows", &["arrow", "bytes", "futures", "iceberg", "object_store", "parquet", "tracing"]),
    ("main", &["chrono", "clap", "serde", "serde_json", "tikv_jemallocator", "tokio", "tracing", "uuid"]),
    ("memory/allocator", &["tikv_jemalloc_sys"]),
    ("merge", &["roaring"]),
    ("names", &["iceberg", "sha2", "uuid"]),
    ("oauth", &["base64", "bytes", "reqwest", "serde", "serde_json", "tokio", "url"]),
    ("progress", &["chrono", "serde", "serde_json", "sha2"]),
    ("rejects", &["arrow", "iceberg", "roaring", "serde", "serde_json", "uuid"]),
    ("report", &["serde", "serde_json"]),
    ("report/file", &["libc"]),
    ("reset", &["chrono", "serde", "serde_json"]),
    ("rewrite", &["arrow", "iceberg", "roaring"]),
    ("snapshot", &["iceberg", "serde", "serde_json", "sha2", "uuid"]),
    ("source", &["base64", "rdkafka", "rdkafka_sys", "serde", "serde_json", "tracing"]),
    ("source/security", &["aws_credential_types", "base64", "rdkafka", "tokio", "url"]),
    ("state", &["iceberg"]),
    (
        "storage",
        &[
            "async_trait",
            "bytes",
            "chrono",
            "futures",
            "iceberg",
            "object_store",
            "parquet",
            "reqwest",
            "serde",
            "tokio",
            "tracing",
            "typetag",
            "url",
        ],
    ),
    ("table", &["iceberg"]),
    ("terminal", &["indicatif", "tracing", "tracing_subscriber"]),
    ("verify", &["arrow", "futures", "iceberg", "roaring", "serde", "tokio", "xxhash_rust"]),
    (
        "write",
        &[
            "arrow",
            "base64",
            "bytes",
            "chrono",
            "crc32fast",
            "hashbrown",
            "iceberg",
            "parquet",
            "roaring",
            "serde_json",
            "tokio",
            "uuid",
            "xxhash_rust",
        ],
    ),
];

/// Rooms that compute and nothing else, whatever the map says: no `async`, no runtime, no client, no clock.
const PURE: &[&str] = &["config", "counts", "dedupe", "keys", "merge", "offsets", "plan", "progress", "snapshot", "watermark"];

/// What a pure room never names.
const IMPURE: &[&str] =
    &["tokio", "rdkafka", "rdkafka_sys", "object_store", "sqlx", "SystemTime", "Instant", "std::fs", "std::net", "std::env"];

/// A source file, without comments, texts and tests.
struct Source {
    /// Below `src/`, without `.rs` and `/mod`.
    room: String,
    path: PathBuf,
    text: String,
    code: String,
}

/// Every source file that is more than tests.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    walk(&root, &mut files);
    files.sort();
    let texts: Vec<(PathBuf, String)> =
        files.into_iter().map(|path| (path.clone(), std::fs::read_to_string(&path).unwrap())).collect();
    let tests: BTreeSet<PathBuf> = texts.iter().flat_map(|(path, text)| test_modules(path, text)).collect();
    let is_test = |path: &Path| path.ancestors().any(|part| tests.contains(&part.with_extension("")));
    let sources: Vec<_> =
        texts.into_iter().filter(|(path, _)| !is_test(path)).map(|(path, text)| source(&root, path, text)).collect();
    assert!(sources.len() > 50, "only {} files found under {}", sources.len(), root.display());
    sources
}

fn source(root: &Path, path: PathBuf, text: String) -> Source {
    let path = path.strip_prefix(root).unwrap().to_owned();
    let name = path.with_extension("").display().to_string();
    let room = name.strip_suffix("/mod").unwrap_or(&name).to_owned();
    let code = without_tests(&without_words(&text));
    Source { room, path, text, code }
}

fn walk(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Modules that a file declares for tests only, as paths without `.rs`.
fn test_modules(path: &Path, text: &str) -> Vec<PathBuf> {
    let folder = match path.file_name().unwrap().to_str().unwrap() {
        "mod.rs" | "lib.rs" | "main.rs" => path.parent().unwrap().to_owned(),
        _ => path.with_extension(""),
    };
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    let declared = lines.windows(2).filter(|pair| pair[0] == "#[cfg(test)]").filter_map(|pair| {
        let declaration = pair[1].strip_suffix(';')?;
        Some(declaration.split_once("mod ")?.1)
    });
    declared.map(|name| folder.join(name)).collect()
}

/// The text without comments and without what stands in quotes.
fn without_words(text: &str) -> String {
    let mut code = String::new();
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("r\"") || rest.starts_with("r#") && rest[1..].trim_start_matches('#').starts_with('"') {
            let hashes = rest[1..].len() - rest[1..].trim_start_matches('#').len();
            let end = format!("\"{}", "#".repeat(hashes));
            let start = 1 + hashes + 1;
            start + rest[start..].find(&end).map_or(rest.len() - start, |at| at + end.len())
        } else if next == '"' {
            quoted(rest)
        } else if rest.starts_with("'\"'") {
            3
        } else if rest.starts_with("'\\") {
            3 + rest[3..].find('\'').map_or(0, |at| at + 1)
        } else {
            code.push(next);
            next.len_utf8()
        };
        rest = &rest[skipped..];
    }
    code
}

/// Length of the text in quotes at the start.
fn quoted(text: &str) -> usize {
    let mut escaped = false;
    let end = text.char_indices().skip(1).find(|&(_, character)| {
        let ends = character == '"' && !escaped;
        escaped = character == '\\' && !escaped;
        ends
    });
    end.map_or(text.len(), |(at, _)| at + 1)
}

/// The code without the items under `#[cfg(test)]`, as rustfmt lays them out.
fn without_tests(code: &str) -> String {
    let mut kept = String::new();
    let mut lines = code.lines();
    while let Some(line) = lines.next() {
        if line.trim() != "#[cfg(test)]" {
            kept.push_str(line);
            kept.push('\n');
            continue;
        }
        let indent = &line[..line.len() - line.trim_start().len()];
        let end = format!("{indent}}}");
        let first = lines.next().unwrap_or_default();
        if !first.trim_end().ends_with([';', '}']) {
            lines.by_ref().find(|line| *line == end);
        }
    }
    kept
}

/// Whether the code names a word, not as a part of another.
fn names(code: &str, word: &str) -> bool {
    let inside = |character: char| character.is_alphanumeric() || character == '_';
    code.match_indices(word).any(|(at, _)| !code[..at].ends_with(inside) && !code[at + word.len()..].starts_with(inside))
}

/// Whether the code names a crate: at the start of a path, never in the middle of one.
fn names_crate(code: &str, name: &str) -> bool {
    let inside = |character: char| character.is_alphanumeric() || character == '_' || character == ':' || character == '.';
    let path = format!("{name}::");
    let used = format!("use {name};");
    code.match_indices(&path).any(|(at, _)| !code[..at].ends_with(inside)) || code.contains(&used)
}

/// Crates that the program depends on, as code names them.
fn crates() -> Vec<String> {
    let manifest = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    let (_, after) = manifest.split_once("\n[dependencies]\n").unwrap();
    let names = after.lines().take_while(|line| !line.starts_with('[')).filter_map(|line| line.split_once(" = "));
    names.map(|(name, _)| name.replace('-', "_")).collect()
}

/// The longest of the paths within which the room lies.
fn place<'a>(room: &str, paths: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let within = |path: &&str| room == *path || room.strip_prefix(*path).is_some_and(|rest| rest.starts_with('/'));
    paths.filter(within).max_by_key(|path| path.len())
}

#[test]
fn each_room_names_only_the_crates_it_is_about() {
    let crates = crates();
    assert!(crates.len() > 20, "{crates:?}");
    let mut named: BTreeMap<&str, BTreeSet<&str>> = MAY_NAME.iter().map(|(path, _)| (*path, BTreeSet::new())).collect();
    let mut wrong = Vec::new();
    for source in sources() {
        let path = place(&source.room, MAY_NAME.iter().map(|(path, _)| *path));
        let allowed = MAY_NAME.iter().find(|(other, _)| Some(*other) == path).map_or(&[][..], |(_, allowed)| *allowed);
        for name in crates.iter().filter(|name| names_crate(&source.code, name)) {
            match allowed.iter().find(|allowed| *allowed == name) {
                Some(name) => {
                    named.get_mut(path.unwrap_or_default()).unwrap().insert(name);
                }
                None => wrong.push(format!("{} names {name}", source.path.display())),
            }
        }
    }
    assert!(wrong.is_empty(), "not in MAY_NAME:\n{}", wrong.join("\n"));
    let unused = MAY_NAME.iter().flat_map(|(path, allowed)| allowed.iter().map(move |name| (*path, *name)));
    let unused: Vec<_> = unused.filter(|(path, name)| !named[path].contains(name)).collect();
    assert!(unused.is_empty(), "in MAY_NAME, but named nowhere: {unused:?}");
}

#[test]
fn only_the_doors_name_what_is_behind_them() {
    let doors: &[(&str, &[&str])] = &[
        ("rdkafka", &["source", "demo"]),
        ("rdkafka_sys", &["source/ffi"]),
        ("sqlx", &["catalog/sql", "demo/child"]),
        ("object_store", &["storage", "live/rows", "aws"]),
        ("anyhow", &[]),
        ("clap", &["cli", "main"]),
        ("indicatif", &["terminal"]),
    ];
    for (name, rooms) in doors {
        let named: Vec<_> = sources().into_iter().filter(|source| names_crate(&source.code, name)).collect();
        let elsewhere: Vec<_> =
            named.iter().filter(|source| place(&source.room, rooms.iter().copied()).is_none()).map(|source| &source.path).collect();
        assert!(elsewhere.is_empty(), "{name} is named in {elsewhere:?}");
        assert_eq!(named.is_empty(), rooms.is_empty(), "{name}");
    }
}

/// The rows of the map in `src/lib.rs` that end with this kind.
fn rooms_of_kind(kind: &str) -> Vec<String> {
    let library = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let rows = library.lines().filter_map(|line| line.strip_prefix("//! | `")?.strip_suffix(&format!(" | {kind} |")));
    rows.filter_map(|row| Some(row.split_once('`')?.0.to_owned())).collect()
}

#[test]
fn pure_rooms_compute_and_nothing_else() {
    let sources = sources();
    let on_the_map = rooms_of_kind("pure");
    let missing: Vec<_> = PURE.iter().filter(|room| !on_the_map.iter().any(|other| other == *room)).collect();
    assert!(missing.is_empty(), "the map in src/lib.rs does not call them pure: {missing:?}");
    let mut wrong = Vec::new();
    for room in &on_the_map {
        // A report also writes its two files.
        let of_room = |source: &&Source| place(&source.room, [room.as_str()].into_iter()).is_some() && source.room != "report/file";
        let files: Vec<_> = sources.iter().filter(of_room).collect();
        assert!(!files.is_empty(), "no room `{room}`");
        for source in files {
            let named = ["async", "await"].iter().chain(IMPURE).filter(|word| names(&source.code, word));
            wrong.extend(named.map(|word| format!("{} names {word}", source.path.display())));
        }
    }
    assert!(wrong.is_empty(), "pure by the map in src/lib.rs, but:\n{}", wrong.join("\n"));
}

#[test]
fn no_file_is_too_long() {
    let long = |source: &Source| {
        let lines = source.text.lines().take_while(|line| line.trim() != "#[cfg(test)]").count();
        (lines > LINES_MAX).then(|| format!("{}: {lines} lines", source.path.display()))
    };
    let long: Vec<_> = sources().iter().filter_map(long).collect();
    assert!(long.is_empty(), "more than {LINES_MAX} lines before the tests: {long:#?}");
}

#[test]
fn only_the_calls_into_librdkafka_and_jemalloc_are_unsafe() {
    let unsafe_ones: Vec<_> =
        sources().into_iter().filter(|source| names(&source.code, "unsafe")).map(|source| source.room).collect();
    assert!(!unsafe_ones.is_empty());
    let may = |room: &str| room == "memory/allocator" || room == "source/ffi" || room.starts_with("source/ffi/");
    assert!(unsafe_ones.iter().all(|room| may(room)), "{unsafe_ones:?}");
}

#[test]
fn nothing_is_left_for_later() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    walk(&root.join("src"), &mut files);
    walk(&root.join("tests"), &mut files);
    // Taken apart, so that this file does not hold them.
    let marks =
        [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("#[", "ignore"), concat!("to", "do!("), concat!("unimpl", "emented!(")];
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        for mark in marks {
            assert!(!text.contains(mark), "{} holds {mark}", path.display());
        }
    }
}

#[test]
fn the_image_is_built_as_the_readme_says() {
    let [image, readme] =
        ["Dockerfile", "README.md"].map(|name| std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap());
    let packages = |text: &str| {
        let (_, after) = text.split_once("apt-get install").expect("it names what it needs");
        let names = after.split(['`', '\\']).next().unwrap().split_whitespace().filter(|word| !word.starts_with("--"));
        names.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(packages(&image), packages(&readme));
    let build = image.lines().find_map(|line| line.trim().strip_prefix("cargo build ")).expect("it builds");
    let build = format!("cargo build {}", build.trim_end_matches('\\').trim());
    assert!(readme.contains(&build), "the README does not say `{build}`");
}

#[test]
fn every_room_is_on_the_map() {
    let library = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let map: String = library.lines().filter(|line| line.starts_with("//!")).collect();
    let declared =
        library.lines().filter(|line| !line.starts_with("//")).filter_map(|line| line.strip_suffix(';')?.split_once("mod "));
    let missing: Vec<_> = declared.map(|(_, room)| room).filter(|room| !map.contains(&format!("`{room}`"))).collect();
    assert!(missing.is_empty(), "the documentation of src/lib.rs does not name {missing:?}");
}

#[test]
fn every_room_says_what_it_is() {
    let silent: Vec<_> =
        sources().into_iter().filter(|source| !source.text.starts_with("//! ")).map(|source| source.path).collect();
    assert!(silent.is_empty(), "no module documentation: {silent:?}");
}

#[test]
fn the_reader_of_code_sees_only_code() {
    let text = "use a::B; // b::C\nlet x = \"c::D \\\" d::E\"; let y = r#\"e::F\"#; f::G('\"', '\\'');\n#[cfg(test)]\nmod tests {\n    use g::H;\n}\nh::I\n";
    let code = without_tests(&without_words(text));
    let found: Vec<_> = ["a", "b", "c", "d", "e", "f", "g", "h"].into_iter().filter(|name| names_crate(&code, name)).collect();
    assert_eq!(found, ["a", "f", "h"], "{code}");
    assert!(!names_crate("crate::bytes::x, human::bytes::y, kilobytes::z", "bytes"));
    assert!(names("unsafe {", "unsafe") && !names("unsafe_ones", "unsafe"));
    assert_eq!(place("live/rows/adapt", ["live", "live/rows", "liv"].into_iter()), Some("live/rows"));
}
