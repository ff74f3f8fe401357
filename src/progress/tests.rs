use super::*;
use proptest::prelude::*;

fn offsets() -> impl Strategy<Value = Offsets> {
    prop::collection::btree_map(0..9_i32, 0..i64::MAX, 0..5)
}

fn progress() -> impl Strategy<Value = Progress> {
    let identity = (
        "[a-z.]{1,9}",
        0..u64::MAX,
        0..u64::MAX,
        "[a-z.-]{1,9}",
        prop::option::of("[A-Za-z0-9_-]{22}"),
        prop::option::of(".{1,9}"),
    );
    let positions = (
        offsets(),
        offsets(),
        prop::collection::btree_map(0..9_i32, (0..99_i64, 99..199_i64), 0..3),
        prop::collection::btree_map(0..9_i32, 0..i32::MAX, 0..3),
        prop::option::of(prop::collection::vec(1..9_i32, 1..3)),
    );
    let of_column = prop::option::of(any::<i32>());
    let times =
        (prop::option::of(any::<i64>()), of_column, prop::collection::btree_map(0..9_i32, any::<i64>(), 0..4), any::<i64>());
    let rest = (any::<bool>(), any::<[u32; 12]>(), prop::option::of((".{0,9}", any::<u64>(), prop::option::of(any::<i64>()))));
    (identity, positions, times, rest).prop_map(|(identity, positions, times, rest)| {
        let (job, epoch, batch, topic, topic_id, cluster_id) = identity;
        let (start, end, skipped, leader_epochs, id) = positions;
        let (watermark, event_time_id, max_event_time, planned_at) = times;
        let n = rest.1.map(u64::from);
        Progress {
            job,
            epoch,
            batch,
            topic,
            topic_id,
            cluster_id,
            start,
            end,
            skipped,
            leader_epochs,
            id,
            watermark,
            event_time_id,
            max_event_time,
            planned_at,
            kind: if rest.0 { Kind::Batch } else { Kind::Reset },
            batch_id: "ab".repeat(32),
            run_id: "r".into(),
            counts: Counts {
                read: n[0],
                rejected: n[1],
                late: n[2],
                filtered: n[3],
                duplicate: n[4],
                stale: n[5],
                inserted: n[6],
                updated: n[7],
                deleted: n[8],
                noop: n[9],
                collapsed: n[10],
                soft_deleted: n[11],
            },
            rejects: rest.2.map(|(path, records, judged_by)| PendingRejects {
                table: "a.b".into(),
                job: "j".into(),
                files: vec![RejectsFile { path, records, size: 7 }],
                judged_by,
            }),
        }
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(progress in progress()) {
        let summary: HashMap<_, _> = progress.encode().into_iter().collect();
        prop_assert_eq!(Progress::decode(&progress.job, &summary).unwrap(), Some(progress.clone()));
        prop_assert_eq!(Progress::decode("another", &summary).unwrap(), None);
        let property = StateProperty { table_uuid: "u".into(), snapshot_id: 3, summary };
        prop_assert_eq!(StateProperty::decode("k", &property.encode()).unwrap(), property);
    }

    #[test]
    fn a_damaged_state_is_refused_and_never_panics(progress in progress(), key in 0..20_usize, text in ".{0,12}") {
        let mut summary: HashMap<_, _> = progress.encode().into_iter().collect();
        let mut keys: Vec<_> = summary.keys().filter(|k| !k.starts_with("tidegate.records")).cloned().collect();
        keys.sort();
        summary.insert(keys[key % keys.len()].clone(), text);
        if let Err(error) = Progress::decode(&progress.job, &summary) {
            prop_assert_eq!(error.exit_code(), 65);
        }
    }
}

#[test]
fn a_newer_state_is_refused() {
    let summary = HashMap::from([("tidegate.job", "j"), ("tidegate.version", "2")].map(|(k, v)| (k.to_owned(), v.to_owned())));
    let error = Progress::decode("j", &summary).unwrap_err();
    assert_eq!(error.exit_code(), 65);
    assert!(error.to_string().contains("version `2`"), "{error}");
}

/// One entry of a sound state replaced; whether it is still read.
fn read_with(key: &str, value: &str) -> bool {
    let entries = [
        ("tidegate.job", "j"),
        ("tidegate.version", "1"),
        ("tidegate.kind", "batch"),
        ("tidegate.epoch", "0"),
        ("tidegate.batch", "1"),
        ("tidegate.batch-id", "ab"),
        ("tidegate.topics", r#"{"t":null}"#),
        ("tidegate.offsets.start", r#"{"t":{"0":1}}"#),
        ("tidegate.offsets.end", r#"{"t":{"0":5}}"#),
        ("tidegate.planned-at", "2026-01-31T12:00:00Z"),
        ("tidegate.run-id", "r"),
    ];
    let mut summary = HashMap::from(entries.map(|(k, v)| (k.to_owned(), v.to_owned())));
    summary.insert(key.to_owned(), value.to_owned());
    match Progress::decode("j", &summary) {
        Ok(progress) => progress.is_some(),
        Err(error) => {
            assert!(error.exit_code() == 65 && error.to_string().contains(key), "{error}");
            false
        }
    }
}

#[test]
fn offsets_of_another_topic_are_not_read_with() {
    assert!(read_with("tidegate.offsets.start", r#"{"t":{"0":2}}"#));
    for key in ["start", "end", "skipped"].map(|name| format!("tidegate.offsets.{name}")) {
        assert!(!read_with(&key, r#"{"other":{"0":[1,2]}}"#) && !read_with(&key, r#"{"other":{"0":2}}"#), "{key}");
    }
    assert!(!read_with("tidegate.leader-epochs", r#"{"other":{"0":2}}"#));
    assert!(!read_with("tidegate.topics", r#"{"t":null,"other":null}"#));
}

#[test]
fn an_offset_that_means_the_end_of_the_log_to_kafka_is_damage() {
    assert!(read_with("tidegate.offsets.end", r#"{"t":{"0":0}}"#));
    assert!(!read_with("tidegate.offsets.end", r#"{"t":{"0":-1}}"#));
    assert!(!read_with("tidegate.offsets.end", r#"{"t":{"-1":0}}"#));
    assert!(!read_with("tidegate.offsets.start", r#"{"t":{"0":-1001}}"#));
    assert!(!read_with("tidegate.offsets.skipped", r#"{"t":{"0":[-2,5]}}"#));
}

#[test]
fn a_batch_after_which_none_can_be_counted_is_damage() {
    assert!(read_with("tidegate.batch", "18446744073709551614"));
    assert!(!read_with("tidegate.batch", "18446744073709551615"));
    assert!(!read_with("tidegate.epoch", "18446744073709551615"));
}

#[test]
fn batch_ids_differ_when_any_part_differs() {
    let (start, end) = (Offsets::from([(0, 1)]), Offsets::from([(0, 5)]));
    let name = |job: &'static str, started_from, batch| BatchName {
        table_uuid: "u",
        branch: "main",
        job,
        started_from,
        epoch: 0,
        batch,
        topic: "t",
        topic_id: None,
        start: &start,
        end: &end,
    };
    let id = name("a", Some(1), 1).id();
    assert_eq!(id.len(), 64);
    assert_eq!(id, name("a", Some(1), 1).id());
    assert_ne!(id, name("b", Some(1), 1).id());
    assert_ne!(id, name("a", Some(2), 1).id());
    assert_ne!(id, name("a", None, 1).id());
    assert_ne!(id, name("a", Some(1), 2).id());
}
