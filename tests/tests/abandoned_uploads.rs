//! Programs that are killed while a large file is on its way to an object store, in parts.

#[path = "support/machine.rs"]
mod machine;

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use glm_test_server::Objects;
use glm_tests::processes::{Running, signal};
use glm_tests::run;
use machine::{Machine, assert_sums, contents, data_set, empty, stored};

/// Larger files are sent in parts.
const PART_BYTES: usize = 8 << 20;

/// Starts the command, and kills it when one part of a file is in the store and others are on their way.
fn kill_in_upload(server: &Objects, command: &mut Command, log: &Path) {
    let parts = server.open_parts();
    server.stall_parts(1);
    let mut running = Running::start(command, log.to_owned());
    running.until("a part is uploaded", || (server.open_parts() > parts).then_some(()));
    signal(running.pid(), "KILL");
    running.end();
    server.answer_parts();
}

/// Writes documents that hardly compress: words of random letters.
fn documents(path: &Path, seed: u64) {
    let mut state = seed;
    let mut text = String::new();
    for _ in 0..1200 {
        text.push_str("{\"text\": \"");
        for _ in 0..2000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let word: String = (0..5).map(|i| char::from(b'a' + (state >> (30 + 5 * i)) as u8 % 26)).collect();
            let _ = write!(text, "{word} ");
        }
        text.push_str("\"}\n");
    }
    fs::write(path, text).expect("write");
}

#[test]
fn an_ingest_killed_in_an_upload_leaves_no_part_of_a_shard() {
    let (server, folder) = (empty(), tempfile::tempdir().expect("folder"));
    let machine = Machine::new(&server);
    let (raw, log) = (folder.path().join("raw"), folder.path().join("log"));
    fs::create_dir(&raw).expect("folder");
    let ingest =
        || machine.prep(&["ingest", raw.to_str().expect("text"), "--task", "text", "--out", "s3://bucket/set", "--quiet"]);
    let shard = "bucket/set/shards/data/train-00000-of-00001.parquet";
    let no_data_set = || {
        let finished = run(&mut machine.prep(&["stats", "s3://bucket/set"]));
        assert_eq!(finished.code(), Some(1));
        assert!(finished.stderr().contains("s3://bucket/set is not a data set"), "{}", finished.stderr());
    };
    let sound = || {
        assert_sums(&server, "bucket/set/shards");
        run(&mut machine.prep(&["verify", "s3://bucket/set"])).success();
        assert!(server.get(shard).expect("a shard").len() > PART_BYTES);
        assert!(contents(&machine.cache().join("ingest"), "").is_empty());
    };
    documents(&raw.join("train.jsonl"), 1);
    kill_in_upload(&server, &mut ingest(), &log);
    assert_eq!(server.names(), [] as [&str; 0]);
    no_data_set();
    run(&mut ingest()).success();
    sound();

    // While a data set is replaced, the old shard is whole, and is no data set.
    let old = server.get(shard);
    documents(&raw.join("train.jsonl"), 2);
    kill_in_upload(&server, &mut ingest(), &log);
    assert!(server.get(shard) == old && server.get("bucket/set/shards/manifest.json").is_none());
    no_data_set();
    run(&mut ingest()).success();
    sound();
    assert!(server.get(shard) != old);
    // The server keeps the parts of the killed uploads, and of no others.
    assert_eq!(server.open_uploads(), 2);
}

#[test]
fn a_run_killed_in_an_upload_leaves_no_part_of_a_checkpoint() {
    let (server, folder) = data_set();
    let machine = Machine::new(&server);
    let run_to = |machine: &Machine, steps: &str| {
        machine.train("s3://bucket/set", "s3://bucket/run", steps, &["--set", "model.hidden=96", "--set", "train.eval_every=0"])
    };
    run(&mut run_to(&machine, "1")).success();
    let latest = || server.get("bucket/run/checkpoints/latest").map(|name| String::from_utf8(name).expect("text"));
    assert_eq!(latest().as_deref(), Some("step-00000001"));
    let weights = |step: &str| format!("bucket/run/checkpoints/{step}/model.safetensors");
    assert!(server.get(&weights("step-00000001")).expect("weights").len() > PART_BYTES);

    kill_in_upload(&server, run_to(&machine, "2").arg("--resume"), &folder.path().join("log"));
    assert_eq!(latest().as_deref(), Some("step-00000001"));
    assert_sums(&server, "bucket/run/checkpoints/step-00000001");
    // What there is of the next checkpoint is whole.
    let of_run = contents(&machine.cache().join("runs"), "");
    for (name, content) in stored(&server, "bucket/run/checkpoints/step-00000002") {
        let end = format!("/checkpoints/step-00000002/{name}");
        assert!(of_run.iter().any(|(path, there)| path.ends_with(&end) && *there == content), "{name}");
    }
    let mut eval = machine.trainer(&["eval", "--device", "cpu", "--data", "s3://bucket/set", "--init", "s3://bucket/run"]);
    run(eval.args(["--checkpoint", "latest"])).success();

    // The same command goes on; another machine goes on from there.
    for (machine, steps, step) in [(machine, "2", "step-00000002"), (Machine::new(&server), "3", "step-00000003")] {
        run(run_to(&machine, steps).arg("--resume")).success();
        assert_eq!(latest().as_deref(), Some(step));
        assert_sums(&server, &format!("bucket/run/checkpoints/{step}"));
    }
    assert_eq!(server.open_uploads(), 1);
}
