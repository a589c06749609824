//! Tests of `glm-trainer bench`: its JSON output describes the work that was done.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use glm_tests::{command, run};
use serde_json::Value;

fn bench(arguments: &[&str], data: Option<&Path>) -> Value {
    let mut command = command("glm-trainer");
    command.args(["bench", "--device", "cpu", "--preset", "tiny", "--threads", "1", "--json"]).args(arguments);
    if let Some(data) = data {
        command.arg("--data").arg(data);
    }
    let text = run(&mut command).success().stdout();
    assert_eq!(text.lines().count(), 1, "{text}");
    serde_json::from_str(&text).expect("json")
}

fn number(value: &Value, key: &str) -> f64 {
    value[key].as_f64().unwrap_or_else(|| panic!("{key} of {value}"))
}

#[test]
fn synthetic_questions_are_trained_on_in_every_precision() {
    for precision in ["fp32", "bf16", "fp16"] {
        let settings = ["--set", "data.batch_size=4", "--set", "data.micro_batch_tokens=600"];
        let arguments = [&["--precision", precision, "--steps", "2", "--profile"][..], &settings].concat();
        let result = bench(&arguments, None);
        assert_eq!(result["step_seconds"].as_array().expect("steps").len(), 2);
        assert_eq!(result["host_seconds"].as_array().expect("steps").len(), 2);
        assert_eq!(result["skipped_steps"], 0, "fp16 starts with a loss scale that does not overflow: {result}");
        assert_eq!((result["precision"].as_str(), result["threads"].as_u64()), (Some(precision), Some(1)));
        assert!(number(&result, "mean_choices") > 8.0 && number(&result, "mean_context_tokens") > 200.0);
        assert!(number(&result, "loss") > 0.0 && number(&result, "peak_memory_bytes") > 1e7);
        assert_eq!(number(&result, "data_wait"), 0.0, "synthetic questions are made before the first step");
        let rate = number(&result, "questions_per_second") * number(&result, "model_flops_per_question");
        assert!((rate / number(&result, "model_flops_per_second") - 1.0).abs() < 1e-9);
        // On a CPU, only fp16 runs on libtorch's operators, which compute padding.
        assert_eq!(number(&result, "padding") > 0.0, precision == "fp16", "{result}");
        let profile = result["profile"].as_array().expect("profile");
        let of = |name: &str| profile.iter().find(|stage| stage[0] == name).and_then(|stage| stage[1].as_f64());
        for name in ["products, forward", "attention, forward", "norm of the gradients", "AdamW"] {
            assert!(of(name).is_some_and(|seconds| seconds > 0.0), "{name} in {result}");
        }
        let seconds: f64 = profile.iter().map(|stage| stage[1].as_f64().expect("seconds")).sum();
        let steps: f64 = result["step_seconds"].as_array().expect("steps").iter().filter_map(Value::as_f64).sum();
        assert!((seconds - steps / 2.0).abs() < 1e-6, "the parts of the profile add up to a step: {seconds}, {steps}");
    }
}

#[test]
fn batch_sizes_are_compared_in_one_call() {
    let arguments = ["--batch-sizes", "2,6", "--steps", "1", "--set", "data.micro_batch_tokens=900"];
    let result = bench(&arguments, None);
    let sizes: Vec<_> = result.as_array().expect("a list").iter().map(|speed| number(speed, "batch_size")).collect();
    assert_eq!(sizes, [2.0, 6.0]);
    assert!(number(&result[0], "mean_batches") < number(&result[1], "mean_batches"), "{result}");
    assert!(result[0]["loss"] != result[1]["loss"] && number(&result[1], "loss") > 0.0, "{result}");

    let mut command = command("glm-trainer");
    command.args(["bench", "--device", "cpu", "--preset", "tiny", "--threads", "1"]).args(arguments);
    let finished = run(&mut command).success();
    let table: Vec<_> = finished.stdout().lines().map(str::to_owned).collect();
    assert!(table.len() == 4 && table[1].contains("questions/s") && table[3].trim_start().starts_with("6 "), "{table:?}");
    assert!(finished.stderr().contains("2 questions per step: "), "{}", finished.stderr());
}

/// Writes a program in place of Python: `import torch` succeeds, and a script's output is `line`.
fn stand_in(folder: &Path, name: &str, line: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n[ \"$1\" = -c ] && exit 0\n{line}\n")).expect("write");
    std::fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("permissions");
    path
}

#[test]
fn the_published_form_is_measured_by_the_scripts_of_the_program() {
    let folder = tempfile::tempdir().expect("folder");
    let seen = folder.path().join("seen");
    let result = r#"{"questions_per_second": 0.5, "questions": 2, "mean_choices": 8.5, "positions_computed": 4352, "recomputation": true, "precision": "fp32", "device": "cpu", "torch": "2.11.0", "peak_memory_bytes": 1000000000}"#;
    let script = format!("cp \"$(dirname \"$1\")\"/*.py {0}; echo \"$@\" > {0}/line; echo '{result}'", seen.display());
    std::fs::create_dir(&seen).expect("folder");
    let python = stand_in(folder.path(), "python", &script);
    let python = python.to_str().expect("path");
    let compared = bench(&["--steps", "2", "--set", "data.batch_size=2", "--baseline", "--python", python], None);
    assert_eq!((number(&compared["published"], "questions_per_second"), compared["batch_size"].as_u64()), (0.5, Some(2)));
    let ratio = number(&compared, "questions_per_second") / 0.5;
    assert!((number(&compared, "speedup") / ratio - 1.0).abs() < 1e-9, "{compared}");
    let line = std::fs::read_to_string(seen.join("line")).expect("arguments");
    assert!(line.contains("--sizes 3,128,4 --precision fp32") && line.contains("--questions 2 "), "{line}");
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/bench.d");
    for name in ["padded_baseline.py", "padded_model.py", "machine.py"] {
        let [given, expected] = [&seen, &repository].map(|folder| std::fs::read(folder.join(name)).expect("script"));
        assert!(given == expected, "{name} differs");
    }
    let script = Path::new(line.split(' ').next().expect("script"));
    assert!(script.ends_with("padded_baseline.py") && !script.exists(), "temporary files are removed: {line}");

    for (python, text) in [
        (stand_in(folder.path(), "failing", "exit 3"), "the baseline ended with exit status: 3"),
        (stand_in(folder.path(), "silent", "exit 0"), "the baseline has printed no result"),
        (folder.path().join("missing"), "install it with `python3 -m pip install torch"),
    ] {
        let mut command = command("glm-trainer");
        command.args(["bench", "--device", "cpu", "--preset", "tiny", "--baseline", "--python"]).arg(&python);
        let failed = run(&mut command);
        assert_eq!(failed.code(), Some(1), "{}", python.display());
        assert!(failed.stderr().contains(text), "{}", failed.stderr());
    }
}

#[test]
fn the_published_form_trains_in_pytorch() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    // scripts/bench installs torch into .venv. Without that, the libtorch that scripts/setup downloads may be enough.
    let (python, modules) = (repository.join(".venv/bin/python"), repository.join(".libtorch"));
    let imports = Command::new(&python).args(["-c", "import torch"]).env("PYTHONPATH", &modules).output();
    if !imports.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: .venv/bin/python cannot import torch; `scripts/bench train` installs it");
        return;
    }
    let mut command = command("glm-trainer");
    command.args(["bench", "--device", "cpu", "--preset", "tiny", "--precision", "fp32", "--threads", "1", "--json"]);
    command.args(["--steps", "1", "--warmup", "0", "--set", "data.batch_size=2", "--set", "model.layers=1"]);
    command.args(["--baseline", "--python"]).arg(&python).env("PYTHONPATH", &modules);
    let compared: Value = serde_json::from_str(&run(&mut command).success().stdout()).expect("json");
    let published = &compared["published"];
    assert_eq!((number(published, "questions"), number(published, "mean_choices")), (1.0, 9.0), "{compared}");
    assert_eq!(number(published, "positions_computed"), 9.0 * 512.0, "{compared}");
    assert!(number(published, "questions_per_second") > 0.0, "{compared}");
    assert!(number(&compared, "speedup") > 1.0, "{compared}");
}

#[test]
fn shards_are_trained_on_and_read() {
    let folder = tempfile::tempdir().expect("folder");
    run(command("glm-prep")
        .args(["sample", "--passages", "60", "--val-passages", "12", "--seed", "5", "--out"])
        .arg(folder.path()))
    .success();
    run(command("glm-prep").arg("ingest").arg(folder.path())).success();
    let manifest = std::fs::read_to_string(folder.path().join("shards/manifest.json")).expect("manifest");
    let manifest: Value = serde_json::from_str(&manifest).expect("json");
    let train = &manifest["splits"]["train"];

    // One step over the whole split, so the averages are those of the split.
    let batch_size = format!("data.batch_size={}", train["rows"]);
    let trained = bench(&["--warmup", "0", "--steps", "1", "--set", &batch_size], Some(folder.path()));
    assert_eq!(trained["batch_size"], train["rows"]);
    let choices = number(train, "choices") / number(train, "rows");
    assert!((number(&trained, "mean_choices") - choices).abs() < 1e-9, "{trained}, {choices} choices per question");
    // Without warm-up, the first step waits until its shard has been decoded.
    let wait = number(&trained, "data_wait");
    assert!(wait > 0.0 && wait < 1.0, "share of the time: {wait}");

    let read = bench(&["--data-only"], Some(folder.path()));
    assert_eq!(read["questions"], train["rows"]);
    let tokens = number(&trained, "mean_context_tokens") + number(&trained, "mean_piece_tokens");
    assert!(
        (number(&read, "tokens") / number(&read, "questions") - tokens).abs() < 1e-9,
        "{read}, {tokens} tokens per question"
    );
    let rate = number(&read, "questions") / number(&read, "wall_seconds");
    assert!((number(&read, "questions_per_second") / rate - 1.0).abs() < 1e-9, "{read}");
}

#[test]
fn invalid_arguments_are_named() {
    for (arguments, code, text) in [
        (&["--precision", "fp8"][..], 2, "fp8"),
        (&["--steps", "0"], 2, "--steps"),
        (&["--data-only"], 2, "--data"),
        (&["--python", "python3"], 2, "--baseline"),
        (&["--baseline", "--data", "folder"], 2, "--data"),
        (&["--batch-sizes", "8,x"], 2, "--batch-sizes"),
        (&["--data", "no-such-folder"], 1, "folder no-such-folder does not exist"),
    ] {
        let failed = run(command("glm-trainer").arg("bench").args(arguments));
        assert_eq!(failed.code(), Some(code), "{arguments:?}");
        assert!(failed.stderr().contains(text), "{}", failed.stderr());
    }
}
