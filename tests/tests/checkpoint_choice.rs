//! Commands that use the weights of a run: which checkpoint, damaged checkpoints, and the vocabulary of the weights.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use glm_tests::training::{corpus, set, trainer, trainer_from};
use glm_tests::{Finished, command, run};
use serde_json::{Value, json};

/// Four checkpoints of a run with a learning rate so high that the best is not always the latest; returns the run's folder.
fn trained(folder: &Path) -> PathBuf {
    corpus(folder);
    let out = folder.join("run");
    let mut command = trainer(folder, &out);
    set(&mut command, &["train.eval_every=16", "train.eval_questions=40", "train.keep_checkpoints=9"]);
    run(command.args(["--max-steps", "8"])).success();
    out
}

/// Folder of the checkpoint that a file of the run names.
fn named(out: &Path, name: &str) -> PathBuf {
    let checkpoints = out.join("checkpoints");
    checkpoints.join(fs::read_to_string(checkpoints.join(name)).expect(name))
}

/// Makes another checkpoint than the latest the best one.
fn make_best(out: &Path, step: u64) -> PathBuf {
    let name = format!("step-{step:08}");
    fs::write(out.join("checkpoints/best"), &name).expect("write");
    assert_ne!(named(out, "latest"), named(out, "best"));
    out.join("checkpoints").join(name)
}

fn eval(data: &Path, init: &Path, more: &[&str]) -> Command {
    let mut command = command("glm-trainer");
    command.args(["eval", "--device", "cpu", "--json", "--data"]).arg(data).arg("--init").arg(init).args(more);
    command
}

fn score(init: &Path, more: &[&str]) -> Command {
    let mut command = command("glm-trainer");
    command.args([
        "score",
        "--device",
        "cpu",
        "--query",
        "The [BLANK] barked.",
        "--choice",
        "dog",
        "--choice",
        "cat",
        "--init",
    ]);
    command.arg(init).args(more);
    command
}

fn result(command: &mut Command) -> Value {
    serde_json::from_str(&run(command).success().stdout()).expect("json")
}

#[track_caller]
fn assert_fails(finished: &Finished, texts: &[&str]) {
    assert_eq!(finished.code(), Some(1), "{}{}", finished.stdout(), finished.stderr());
    for text in texts {
        assert!(finished.stderr().contains(text), "{text} in:\n{}", finished.stderr());
    }
    let lines = finished.stderr().lines().filter(|line| line.starts_with("error: ") || line.contains("ERROR")).count();
    assert_eq!(lines, 1, "{}", finished.stderr());
}

/// All commands that read the weights of `out`, which write into `folder`.
fn readers(folder: &Path, out: &Path) -> Vec<Command> {
    let program = |args: &[&str]| {
        let mut command = command("glm-trainer");
        command.args(args);
        command
    };
    let mut predict = program(&["predict", "--device", "cpu", "--split", "val", "--data"]);
    predict.arg(folder).arg("--out").arg(folder.join("predictions.jsonl")).arg("--init").arg(out);
    let mut inspect = program(&["inspect"]);
    inspect.arg(out);
    let mut convert = program(&["convert"]);
    convert.arg(out).arg(folder.join("converted"));
    let mut begin = trainer_from(out, folder, &folder.join("from"));
    begin.args(["--max-steps", "1"]);
    vec![eval(folder, out, &[]), predict, score(out, &[]), inspect, convert, begin]
}

#[test]
fn the_best_checkpoint_is_used_unless_another_is_chosen() {
    let folder = tempfile::tempdir().expect("folder");
    let out = trained(folder.path());
    let best = make_best(&out, 4);
    let first = result(&mut eval(folder.path(), &out, &[]));
    let file = best.join("model.safetensors");
    assert_eq!(first["weights"], json!({"path": file, "step": 4, "checkpoint": "best"}));
    assert_eq!((&first["split"], &first["data"]), (&json!("val"), &json!(folder.path().join("shards"))));
    let manifest: Value =
        serde_json::from_str(&fs::read_to_string(folder.path().join("shards/manifest.json")).expect("manifest")).expect("json");
    assert_eq!(first["fingerprint"], manifest["fingerprint"]);
    let metrics = |result: &Value| ["accuracy", "hits", "questions"].map(|key| result[key].clone());
    for (choice, step) in [("best", 4), ("latest", 8), ("2", 2)] {
        let chosen = result(&mut eval(folder.path(), &out, &["--checkpoint", choice]));
        assert_eq!((&chosen["weights"]["step"], &chosen["weights"]["checkpoint"]), (&json!(step), &json!(choice)));
        let folder_of_step = out.join(format!("checkpoints/step-{step:08}"));
        let direct = result(&mut eval(folder.path(), &folder_of_step, &[]));
        assert_eq!((metrics(&chosen), &direct["weights"]["checkpoint"]), (metrics(&direct), &Value::Null));
    }
    // Every command names it.
    for mut command in readers(folder.path(), &out) {
        let stderr = run(&mut command).success().stderr();
        assert!(stderr.contains("using the best checkpoint of ") && stderr.contains("step-00000004"), "{stderr}");
    }
    let converted = folder.path().join("converted/model.safetensors");
    let mut inspect = command("glm-trainer");
    inspect.args(["inspect", "--json"]).arg(&converted).arg(&file);
    let difference = result(&mut inspect);
    assert!(difference["tensors"].as_array().expect("tensors").iter().all(|tensor| tensor["identical"] == true));

    assert_fails(
        &run(&mut eval(folder.path(), &out, &["--checkpoint", "3"])),
        &["there is no checkpoint 3; the run has those of the steps 2, 4, 6, 8"],
    );
    assert_fails(
        &run(&mut eval(folder.path(), &file, &["--checkpoint", "best"])),
        &["--checkpoint best needs the folder of a run"],
    );
    assert_eq!(run(&mut eval(folder.path(), &out, &["--checkpoint", "newest"])).code(), Some(2));
}

#[test]
fn damaged_checkpoints_are_refused_by_every_command() {
    let folder = tempfile::tempdir().expect("folder");
    let out = trained(folder.path());
    let best = make_best(&out, 4);
    let [weights, sums] = ["model.safetensors", "SHA256SUMS"].map(|name| best.join(name));
    let intact = fs::read(&weights).expect("weights");
    let mut damaged = intact.clone();
    *damaged.last_mut().expect("a byte") ^= 0x40;
    fs::write(&weights, &damaged).expect("write");
    for mut command in readers(folder.path(), &out) {
        let finished = run(&mut command);
        assert_fails(
            &finished,
            &["step-00000004/model.safetensors does not match its checksum in SHA256SUMS", "copy the checkpoint"],
        );
    }
    assert!(!folder.path().join("converted/model.safetensors").exists());
    result(&mut eval(folder.path(), &out, &["--checkpoint", "latest"]));

    // A list that was cut at the end of its first line, which does not list the weights.
    fs::write(&weights, &intact).expect("write");
    result(&mut eval(folder.path(), &out, &[]));
    let list = fs::read_to_string(&sums).expect("sums");
    let last = list.lines().last().expect("a line");
    fs::write(&sums, format!("{last}\n")).expect("write");
    assert_fails(&run(&mut eval(folder.path(), &out, &[])), &["SHA256SUMS does not list model.safetensors"]);
    // Resuming checks all files.
    let latest = named(&out, "latest").join("SHA256SUMS");
    let list = fs::read_to_string(&latest).expect("sums");
    let first = list.lines().next().expect("a line");
    fs::write(&latest, format!("{first}\n")).expect("write");
    let mut again = trainer(folder.path(), &out);
    let settings = ["train.eval_every=16", "train.eval_questions=40", "train.keep_checkpoints=9"];
    let resumed = run(set(&mut again, &settings).args(["--max-steps", "8"])).success().stderr();
    assert!(resumed.contains("a later checkpoint is damaged") && resumed.contains("does not list state.json"), "{resumed}");
}

#[test]
fn weights_of_one_vocabulary_are_refused_for_another() {
    let folder = tempfile::tempdir().expect("folder");
    let out = trained(folder.path());
    // The same tokens in another order.
    let vocabulary = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas/text/assets/bert-large-uncased-vocab.txt");
    let text = fs::read_to_string(vocabulary).expect("vocabulary");
    let mut tokens: Vec<&str> = text.lines().collect();
    tokens.swap(2000, 2001);
    let shuffled = folder.path().join("shuffled.txt");
    fs::write(&shuffled, tokens.join("\n") + "\n").expect("write");
    let other = folder.path().join("other");
    fs::create_dir(&other).expect("folder");
    for entry in fs::read_dir(folder.path()).expect("list").flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "jsonl") {
            fs::copy(entry.path(), other.join(entry.file_name())).expect("copy");
        }
    }
    if folder.path().join("ReCoRD").is_dir() {
        fs::create_dir(other.join("ReCoRD")).expect("folder");
        for entry in fs::read_dir(folder.path().join("ReCoRD")).expect("list").flatten() {
            fs::copy(entry.path(), other.join("ReCoRD").join(entry.file_name())).expect("copy");
        }
    }
    run(command("glm-prep").arg("ingest").arg(&other).arg("--tokenizer").arg(&shuffled)).success();

    let digest = |name: &str| -> Value {
        let manifest = fs::read_to_string(folder.path().join(name).join("shards/manifest.json")).expect("manifest");
        serde_json::from_str::<Value>(&manifest).expect("json")["tokenizer"].clone()
    };
    let [own, foreign] = ["", "other"].map(digest);
    let state = fs::read_to_string(named(&out, "latest").join("state.json")).expect("state");
    assert_eq!(serde_json::from_str::<Value>(&state).expect("json")["tokenizer"], own);
    let sums = [&own, &foreign].map(|tokenizer| tokenizer["sha256"].as_str().expect("sha256"));
    let names = [&own, &foreign].map(|tokenizer| tokenizer["name"].as_str().expect("name"));
    let expected = [sums[0], sums[1], names[0], names[1], "--tokenizer FILE"];

    let converted = folder.path().join("converted.safetensors");
    run(command("glm-trainer").arg("convert").arg(&out).arg(&converted)).success();
    for init in [&out, &converted] {
        assert_fails(&run(&mut eval(&other, init, &[])), &expected);
        let shuffled = shuffled.display().to_string();
        assert_fails(&run(&mut score(init, &["--tokenizer", &shuffled])), &expected);
        run(&mut score(init, &[])).success();
    }
    let mut begin = trainer_from(&out, &other, &folder.path().join("from"));
    assert_fails(&run(begin.args(["--max-steps", "1"])), &expected);
    let mut predict = command("glm-trainer");
    predict.args(["predict", "--device", "cpu", "--split", "val", "--data"]).arg(&other).arg("--init").arg(&out);
    assert_fails(&run(predict.arg("--out").arg(folder.path().join("predictions.jsonl"))), &expected);
}

#[test]
fn files_of_killed_processes_are_removed() {
    let folder = tempfile::tempdir().expect("folder");
    let out = trained(folder.path());
    let left = [out.join("config.toml.4194305.tmp"), out.join("checkpoints/latest.4194305.tmp")];
    left.iter().for_each(|path| fs::write(path, "left").expect("write"));
    fs::write(out.join("notes.tmp"), "of the user").expect("write");
    let mut again = trainer(folder.path(), &out);
    let settings = ["train.eval_every=16", "train.eval_questions=40", "train.keep_checkpoints=9"];
    run(set(&mut again, &settings).args(["--max-steps", "8"])).success();
    assert!(left.iter().all(|path| !path.exists()) && out.join("notes.tmp").exists());

    let converted = folder.path().join("converted");
    fs::create_dir(&converted).expect("folder");
    let [own, other] = ["model.safetensors.4194305.tmp", "other.4194305.tmp"].map(|name| converted.join(name));
    [&own, &other].iter().for_each(|path| fs::write(path, "left").expect("write"));
    run(command("glm-trainer").arg("convert").arg(&out).arg(&converted)).success();
    assert!(!own.exists() && other.exists() && converted.join("model.safetensors").exists());
}
