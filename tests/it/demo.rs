//! The demo proves itself: it compares the table with what the producer meant.

use crate::program::Place;

#[test]
fn the_demo_ends_with_the_truth_in_any_directory() {
    for directory in ["first", "second"] {
        let place = Place::without_broker();
        let answer = place.tidegate(&format!("demo --dir {directory}")).expect(0);
        let proof = answer.stdout.lines().find(|line| line.trim_start().starts_with("table equals the truth"));
        assert!(proof.is_some(), "{answer}");
        assert!(place.path().join(directory).is_dir(), "{answer}");
    }
}

#[test]
fn the_demo_leaves_nothing_behind() {
    let place = Place::without_broker();
    std::fs::create_dir(place.path().join("tmp")).unwrap();
    let temporary = place.path().join("tmp").display().to_string();
    let place = place.with("TMPDIR", &temporary);
    let answer = place.tidegate("demo").expect(0);
    assert!(answer.stdout.contains("table equals the truth"), "{answer}");
    let left: Vec<_> = std::fs::read_dir(place.path().join("tmp")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}
