//! Shards are compared with the manifest before their rows are learned from.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use glm_schemas::manifest::Manifest;
use glm_tests::training::{corpus, trainer};
use glm_tests::{Finished, command, run};

const RECORD: &str = ".verified-shards.json";

/// Finds the only shard of a split.
fn shard(folder: &Path, split: &str) -> PathBuf {
    let name = format!("{split}-00000-of-00001.parquet");
    let places = [folder.join("shards/data"), folder.join("shards")];
    places.iter().map(|place| place.join(&name)).find(|path| path.is_file()).expect("a shard")
}

/// Changes a byte that no reader of rows looks at: only the checksum shows it.
fn change_metadata(shard: &Path) -> Vec<u8> {
    let intact = fs::read(shard).expect("read");
    let mut changed = intact.clone();
    let at = changed.windows(10).rposition(|window| window == b"parquet-rs").expect("name of the writer");
    changed[at] = b'P';
    fs::write(shard, changed).expect("write");
    intact
}

fn short_run(data: &Path, name: &str, more: &[&str]) -> Command {
    let mut command = trainer(data, &data.join(name));
    command.args(["--max-steps", "2", "--set", "train.eval_questions=8"]).args(more);
    command
}

#[track_caller]
fn assert_names(finished: &Finished, shard: &Path, texts: &[&str]) {
    let stderr = finished.stderr();
    assert_eq!(finished.code(), Some(1), "{stderr}");
    let name = shard.file_name().and_then(|name| name.to_str()).expect("name");
    for text in texts.iter().copied().chain([name, "ingest the raw data again"]) {
        assert!(stderr.contains(text), "{text} in:\n{stderr}");
    }
}

#[test]
fn modified_shards_end_the_run_with_their_names() {
    let folder = tempfile::tempdir().expect("folder");
    let data = folder.path();
    corpus(data);
    let train = shard(data, "train");
    let differs = ["does not match its checksum in the manifest"];
    let intact = change_metadata(&train);
    assert_names(&run(&mut short_run(data, "modified", &[])), &train, &differs);
    let saved = |name: &str| data.join(name).join("checkpoints/latest").exists();
    assert!(!saved("modified"), "nothing that was learned from damaged data is saved");
    assert!(!data.join(RECORD).exists() || !fs::read_to_string(data.join(RECORD)).expect("record").contains("train"));
    run(&mut short_run(data, "unverified", &["--set", "data.verify=never"])).success();
    assert!(saved("unverified"));
    if libtorch_ext::distributed::available().is_ok() {
        assert_names(&run(&mut short_run(data, "ranks", &["--nproc", "2"])), &train, &differs);
    }

    // Intact files are noted next to the data set, and verified again after a change.
    fs::write(&train, &intact).expect("write");
    let weights = data.join("intact");
    run(&mut short_run(data, "intact", &[])).success();
    assert!(fs::read_to_string(data.join(RECORD)).expect("record").contains("train-00000-of-00001.parquet"));
    run(&mut short_run(data, "again", &["--set", "data.verify=always"])).success();
    change_metadata(&train);
    assert_names(&run(&mut short_run(data, "later", &[])), &train, &differs);

    // So do commands that read another split.
    let val = shard(data, "val");
    change_metadata(&val);
    let reader = |args: &[&str]| {
        let mut command = command("glm-trainer");
        command.args(args).args(["--device", "cpu", "--split", "val", "--data"]).arg(data).arg("--init").arg(&weights);
        command
    };
    assert_names(&run(&mut reader(&["eval"])), &val, &differs);
    let out = data.join("predictions.jsonl");
    assert_names(&run(reader(&["predict"]).arg("--out").arg(&out).args(["--set", "data.verify=always"])), &val, &differs);
    run(reader(&["eval"]).args(["--set", "data.verify=never"])).success();
    assert_eq!(run(reader(&["eval"]).args(["--set", "data.verify=sometimes"])).code().map(|code| code > 0), Some(true));
}

#[test]
fn ids_outside_of_the_vocabulary_are_named_with_their_row() {
    let folder = tempfile::tempdir().expect("folder");
    let data = folder.path();
    corpus(data);
    // The same shards with a vocabulary that is too small for them.
    let path = data.join("shards/manifest.json");
    let mut manifest = Manifest::from_json(&fs::read_to_string(&path).expect("manifest")).expect("manifest");
    manifest.tokenizer.vocab_size = 2_500;
    manifest.fingerprint = manifest.compute_fingerprint();
    fs::write(&path, manifest.to_json().expect("json")).expect("write");
    let finished = run(&mut short_run(data, "run", &[]));
    let train = shard(data, "train");
    assert_names(&finished, &train, &["row group 0, row ", "token id ", "expected ids from 0 to 2499"]);
    assert!(!finished.stderr().contains("panicked"), "{}", finished.stderr());
}
