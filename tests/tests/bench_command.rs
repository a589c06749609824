//! `glm-trainer bench`: what it prints can be read by programs, and is of the work that was done.

use std::path::Path;

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
fn made_up_questions_are_trained_on_in_every_precision() {
    for precision in ["fp32", "bf16", "fp16"] {
        let settings = ["--set", "data.batch_size=4", "--set", "data.micro_batch_tokens=600"];
        let arguments = [&["--precision", precision, "--steps", "2", "--profile"][..], &settings].concat();
        let result = bench(&arguments, None);
        assert_eq!(result["step_seconds"].as_array().expect("steps").len(), 2);
        assert_eq!((result["precision"].as_str(), result["threads"].as_u64()), (Some(precision), Some(1)));
        assert!(number(&result, "mean_choices") > 8.0 && number(&result, "mean_context_tokens") > 200.0);
        assert!(number(&result, "loss") > 0.0 && number(&result, "peak_memory_bytes") > 1e7);
        let rate = number(&result, "questions_per_second") * number(&result, "model_flops_per_question");
        assert!((rate / number(&result, "model_flops_per_second") - 1.0).abs() < 1e-9);
        // Only libtorch's own operations, which fp16 takes on a CPU, compute padding.
        assert_eq!(number(&result, "padding") > 0.0, precision == "fp16", "{result}");
        let profile = result["profile"].as_array().expect("profile");
        let seconds: f64 = profile.iter().map(|stage| stage[1].as_f64().expect("seconds")).sum();
        let steps: f64 = result["step_seconds"].as_array().expect("steps").iter().filter_map(Value::as_f64).sum();
        assert!((seconds - steps / 2.0).abs() < 1e-6, "the stages are a step: {seconds}, {steps}");
    }
}

#[test]
fn shards_are_trained_on_and_read() {
    let folder = tempfile::tempdir().expect("folder");
    run(command("glm-prep")
        .args(["sample", "--passages", "60", "--val-passages", "12", "--seed", "5", "--out"])
        .arg(folder.path()))
    .success();
    run(command("glm-prep").arg("ingest").arg(folder.path())).success();
    let trained = bench(&["--steps", "1", "--set", "data.batch_size=8"], Some(folder.path()));
    assert!(number(&trained, "data_wait") >= 0.0 && number(&trained, "mean_context_tokens") > 20.0);

    let manifest = std::fs::read_to_string(folder.path().join("shards/manifest.json")).expect("manifest");
    let manifest: Value = serde_json::from_str(&manifest).expect("json");
    let read = bench(&["--data-only"], Some(folder.path()));
    assert_eq!(read["questions"], manifest["splits"]["train"]["rows"]);
    assert!(number(&read, "questions_per_second") > 0.0 && number(&read, "tokens") > number(&read, "questions"));
}

#[test]
fn training_over_ranks_is_derived() {
    let folder = tempfile::tempdir().expect("folder");
    run(command("glm-prep")
        .args(["sample", "--passages", "60", "--val-passages", "12", "--seed", "5", "--out"])
        .arg(folder.path()))
    .success();
    run(command("glm-prep").arg("ingest").arg(folder.path())).success();
    // More questions than there are: the epochs go on.
    let arguments = ["--simulate-ranks", "1,8", "--steps", "3", "--tflops", "measured", "--network-gbps", "80"];
    let result = bench(&arguments, Some(folder.path()));
    for table in ["same_step", "same_share"] {
        let rows = result[table].as_array().expect("rows");
        let numbers = |key: &str| rows.iter().map(|row| number(row, key)).collect::<Vec<_>>();
        assert_eq!((numbers("ranks"), numbers("steps")), (vec![1.0, 8.0], vec![3.0, 3.0]));
        let efficiency = numbers("efficiency");
        assert!((efficiency[0] - 1.0).abs() < 1e-9 && efficiency[1] < 1.0, "{efficiency:?}");
    }
    assert_eq!(number(&result["same_share"][1], "batch_size"), 256.0);
    let assumed = |name: &str| {
        let all = result["assumptions"].as_array().expect("assumptions");
        all.iter().find(|assumption| assumption["name"] == name).unwrap_or_else(|| panic!("no {name}")).clone()
    };
    assert_eq!(assumed("speed of a rank")["origin"], "measured");
    let network = assumed("network of a machine");
    assert_eq!((network["origin"].as_str(), number(&network, "value")), (Some("given"), 80.0));
    assert!(number(&assumed("tokens"), "value") > 20.0);
}

#[test]
fn mistakes_are_named() {
    for (arguments, code, text) in [
        (&["--precision", "fp8"][..], 1, "fp8"),
        (&["--steps", "0"], 2, "--steps"),
        (&["--data-only"], 2, "--data"),
        (&["--simulate-ranks", "0"], 2, "--simulate-ranks"),
        (&["--simulate-ranks", "2", "--link-gbps", "0"], 2, "more than 0"),
        (&["--tflops", "5"], 2, "--simulate-ranks"),
        (&["--data", "no-such-folder"], 1, "there is no folder no-such-folder"),
    ] {
        let refused = run(command("glm-trainer").arg("bench").args(arguments));
        assert_eq!(refused.code(), Some(code), "{arguments:?}");
        assert!(refused.stderr().contains(text), "{}", refused.stderr());
    }
}
