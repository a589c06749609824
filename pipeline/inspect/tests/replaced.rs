//! `glm-prep inspect` of a data set that is replaced meanwhile.

#[path = "../../tests/support/mod.rs"]
mod support;

use std::sync::atomic::{AtomicBool, Ordering};

use glm_prep::ingest::IngestOptions;
use glm_prep::inspect::InspectArgs;
use glm_schemas::manifest::Split;

#[test]
fn rows_of_a_data_set_are_not_mixed_with_those_of_the_one_that_replaces_it() {
    let passages = std::fs::read(support::repository().join("tests/fixtures/golden/cloze/passages.jsonl")).expect("passages");
    let passages = support::renumbered(&passages, 2);
    let dir = support::raw_folder(&[(Split::Train, &passages), (Split::Val, &passages)]);
    support::ingest_with(dir.path(), 1).expect("ingest");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let count =
                    InspectArgs { sql: Some("select count(*) as n from shards".into()), ..InspectArgs::new(dir.path()) };
                let rows = InspectArgs { rows: Some(3), ..InspectArgs::new(dir.path()) };
                for args in [count, rows] {
                    let mut out = Vec::new();
                    glm_inspect::run(&args, true, &mut out).expect("inspect");
                    assert!(!out.is_empty());
                }
            }
        });
        let ingest = |time: usize| {
            let rows_per_shard = (10 + time).try_into().expect("some");
            support::run(&IngestOptions { rows_per_shard, ..IngestOptions::new(dir.path()) })
        };
        let failed = (0..12).find_map(|time| ingest(time).err());
        // Before a failure ends the test, which waits for the reader.
        done.store(true, Ordering::Relaxed);
        reader.join().expect("the reader");
        assert!(failed.is_none(), "{failed:?}");
    });
}
