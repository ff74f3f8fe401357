//! What snapshots and table properties say about a job: read, written and read again it is the same; damage is refused (65).

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use crate::progress::{Progress, StateProperty, micros};
use crate::rejects::Done;

/// The input is one entry a line: `key=value`.
pub(super) fn summary(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let entries = text.lines().filter_map(|line| line.split_once('='));
    read(&entries.map(|(key, value)| (key.to_owned(), value.to_owned())).collect());
}

fn read(summary: &HashMap<String, String>) {
    let job = summary.get("tidegate.job").map_or("j", String::as_str);
    let progress = match Progress::decode(job, summary) {
        Ok(None) => return assert!(!summary.contains_key("tidegate.job")),
        Ok(Some(progress)) => progress,
        Err(error) => return assert_eq!(error.exit_code(), 65, "{error}"),
    };
    assert_eq!(Progress::decode(&format!("{job}-"), summary).unwrap(), None);
    let encoded = progress.encode();
    let again = Progress::decode(job, &encoded.clone().into_iter().collect()).unwrap();
    assert_eq!(again.as_ref(), Some(&progress));
    assert_eq!(again.unwrap().encode(), encoded);
    let property = StateProperty { table_uuid: "u".into(), snapshot_id: 1, summary: encoded.clone().into_iter().collect() };
    assert_eq!(StateProperty::decode("k", &property.encode()).unwrap(), property);
    for (key, read) in &encoded {
        if let Some(held) = summary.get(key) {
            assert!(means_the_same(key, held, read), "`{key}` was `{held}` and became `{read}`");
        }
    }
    usable(&progress);
}

/// Whether an entry that was read says what stood there.
fn means_the_same(key: &str, held: &str, read: &str) -> bool {
    let parsed = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    match key {
        "tidegate.planned-at" | "tidegate.watermark" => micros(held) == micros(read),
        "tidegate.epoch" | "tidegate.batch" => held.parse::<u64>() == read.parse::<u64>(),
        "tidegate.event-time-id" => held.parse::<i32>() == read.parse::<i32>(),
        // A count that is missing or damaged is none: verification says so, and a run does not need it.
        counted if counted.starts_with("tidegate.records.") => held.parse::<u64>().unwrap_or(0) == read.parse::<u64>().unwrap(),
        "tidegate.max-event-time" => {
            let times = |text: &str| -> BTreeMap<String, BTreeMap<i32, Option<i64>>> {
                let times: BTreeMap<String, BTreeMap<i32, String>> = serde_json::from_str(text).unwrap();
                times.into_iter().map(|(topic, of)| (topic, of.iter().map(|(&p, time)| (p, micros(time))).collect())).collect()
            };
            times(held) == times(read)
        }
        "tidegate.offsets.start" | "tidegate.offsets.end" | "tidegate.leader-epochs" | "tidegate.offsets.skipped" => {
            let offsets = |text: &str| serde_json::from_str::<BTreeMap<String, BTreeMap<i32, Value>>>(text).unwrap();
            offsets(held) == offsets(read)
        }
        "tidegate.topics" => parsed(held) == parsed(read),
        // An array in place of an object, and fields of later versions, are read too.
        "tidegate.rejects" => true,
        _ => held == read,
    }
}

/// What the next run computes with does not overflow, and asks Kafka for no offset that means something else to it.
fn usable(progress: &Progress) {
    let positions = progress.start.iter().chain(&progress.end);
    assert!(positions.clone().all(|(&partition, &offset)| partition >= 0 && offset >= 0), "{progress:?}");
    assert!(progress.skipped.values().all(|&(from, to)| from >= 0 && to >= 0), "{progress:?}");
    assert!(progress.epoch.checked_add(1).is_some() && progress.batch.checked_add(1).is_some(), "{progress:?}");
}

/// The input is the property's value.
pub(super) fn state_property(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match StateProperty::decode("tidegate.state.j.main", text) {
        Ok(property) => {
            assert!(serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok());
            assert_eq!(StateProperty::decode("k", &property.encode()).unwrap(), property);
            read(&property.summary);
        }
        Err(error) => assert_eq!(error.exit_code(), 65, "{error}"),
    }
}

/// The input is two values of the property, a line each.
pub(super) fn rejects_property(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut read = Vec::new();
    for line in text.lines().take(3) {
        match Done::decode("tidegate.rejects.j", "a.b", line) {
            Ok(done) => {
                assert_eq!(Done::decode("k", "a.b", &done.encode()).unwrap(), done);
                assert!(done.holds(&done));
                read.push(done);
            }
            Err(error) => assert_eq!(error.exit_code(), 65, "{error}"),
        }
    }
    // What holds a batch holds every earlier one of the same table, and none of another table.
    for (one, other) in read.iter().zip(read.iter().skip(1)) {
        let (a, b): (Value, Value) = (serde_json::from_str(&one.encode()).unwrap(), serde_json::from_str(&other.encode()).unwrap());
        let place = |of: &Value| (of["epoch"].as_u64(), of["batch"].as_u64());
        let same_table = a["table-uuid"] == b["table-uuid"];
        assert_eq!(one.holds(other), same_table && place(&a) >= place(&b), "{a} {b}");
    }
}
