//! Names of files: what counts as ours is exactly what a run would have written, and belongs to one job.

use uuid::Uuid;

use super::input::Input;
use crate::names::{FileNames, OwnName, metadata_id, own_name};

/// Jobs whose names run into each other, and into the parts of a file's name.
const JOBS: &[&str] = &["a", "a-b", "a-b-", "a-0123456789abcdef0123456789abcdef-0", "tidegate", "tidegate-a", "A.b_c", "0"];

/// What a run puts at the end of its names.
const SUFFIXES: &[&str] = &[".parquet", "-deletes.parquet", "-deletes.puffin", "-m.avro", ".avro"];

pub(super) fn law(data: &[u8]) {
    if let Ok(name) = std::str::from_utf8(data) {
        read(name);
    }
    written(&mut Input(data));
}

fn read(name: &str) {
    let mut owners = Vec::new();
    for job in JOBS {
        match own_name(name, job) {
            None => continue,
            Some(OwnName::Content) => content(name, job),
            Some(OwnName::Metadata(version)) => {
                let (_, rest) = name.split_once('-').unwrap();
                let id = rest.get(..36).and_then(|id| Uuid::try_parse(id).ok()).unwrap_or_else(|| panic!("{name}"));
                let plain = format!("{version:05}-{id}.metadata.json");
                let gzipped = format!("{version:05}-{id}.gz.metadata.json");
                assert!(name == plain || name == gzipped, "{name} is not what {job} writes");
            }
        }
        owners.push(job);
    }
    assert!(owners.len() <= 1, "{name} belongs to {owners:?}");
}

/// The parts of the name, printed again, are the name.
fn content(name: &str, job: &str) {
    let (snapshot, rest) = match name.strip_prefix("snap-") {
        Some(list) => list.split_once('-').map(|(id, rest)| (format!("snap-{}-", id.parse::<i64>().unwrap()), rest)).unwrap(),
        None => (String::new(), name),
    };
    let rest = &rest["tidegate-".len() + job.len() + 1..];
    let parts: Vec<&str> = rest.splitn(3, '-').collect();
    let [run, attempt, last] = parts[..] else { panic!("{name} is too short for {job}") };
    let end = last.find(|character: char| !character.is_ascii_digit()).unwrap();
    let (run, attempt, ordinal) =
        (Uuid::try_parse(run).unwrap(), attempt.parse::<u32>().unwrap(), last[..end].parse::<u32>().unwrap());
    let again = format!("{snapshot}tidegate-{job}-{}-{attempt}-{ordinal:05}{}", run.simple(), &last[end..]);
    assert_eq!(again, name, "of {job}");
}

fn written(input: &mut Input<'_>) {
    let job = JOBS[usize::from(input.byte()) % JOBS.len()];
    let run = Uuid::from_slice(&std::array::from_fn::<u8, 16, _>(|_| input.byte())).unwrap();
    let suffix = SUFFIXES[usize::from(input.byte()) % SUFFIXES.len()];
    let name = FileNames::new(job, run).attempt(u32::from(input.word())).next(suffix);
    let id = metadata_id(job, run);
    let version = input.number().unsigned_abs();
    let names = [
        (OwnName::Content, name.clone()),
        (OwnName::Content, format!("snap-{}-{name}", input.number() & i64::MAX)),
        (OwnName::Metadata(version), format!("{version:05}-{id}.metadata.json")),
        (OwnName::Metadata(version), format!("{version:05}-{id}.gz.metadata.json")),
    ];
    for (kind, name) in names {
        for other in JOBS {
            assert_eq!(own_name(&name, other), (*other == job).then_some(kind), "{name} and {other}");
        }
    }
}
