//! `glm-trainer run --task infill` on documents: what it logs and writes, and that its samples depend neither on packing, nor on ranks, nor
//! on interruptions.

use std::path::Path;
use std::process::Command;

use glm_tests::processes::several_processes_can_train;
use glm_tests::training::{kill_after_steps, metrics, remains, set, small_model, steps, weights, weights_file};
use glm_tests::{command, run};
use serde_json::Value;

/// Sentences that can be learned: an animal and its sound.
fn sentence(n: usize) -> String {
    let animals = ["dog", "cat", "cow", "horse", "duck", "sheep", "frog"];
    let sounds = ["barks", "purrs", "moos", "neighs", "quacks", "bleats", "croaks"];
    let places = ["in the yard", "near the lake", "behind the house", "at the gate", "on the hill"];
    let animal = n % 7;
    format!("The {} {} {}.", animals[animal], sounds[animal], places[(n / 7) % 5])
}

/// Generates and ingests documents of 1 to 40 sentences, so that some are longer than a sequence of 64 tokens.
fn corpus(folder: &Path) {
    for (split, count) in [("train", 60), ("val", 12)] {
        let document = |d: usize| {
            let text: Vec<String> = (0..1 + (d * 7) % 40).map(|s| sentence(d * 3 + s * 5)).collect();
            serde_json::json!({ "text": text.join(" ") }).to_string()
        };
        let offset = if split == "val" { 1000 } else { 0 };
        let lines: Vec<String> = (0..count).map(|d| document(d + offset)).collect();
        std::fs::write(folder.join(format!("{split}.jsonl")), lines.join("\n") + "\n").expect("write");
    }
    run(command("glm-prep").arg("ingest").arg(folder).args(["--task", "text"])).success();
}

/// Trains with a mixture of all objectives.
fn trainer(data: &Path, out: &Path) -> Command {
    let mut command = small_model(data, out);
    command.args(["--task", "infill", "--seed", "3", "--init", "random"]);
    let mixture = ["infill.token=0.5", "infill.sentence=0.25", "infill.document=0.25", "infill.task_mask=true"];
    set(&mut command, &mixture);
    set(&mut command, &["data.max_seq_len=64", "infill.input_masking=0.1", "infill.short_pieces=0.1"]);
    command
}

fn losses(out: &Path) -> Vec<f64> {
    steps(out).values().map(|record| record["loss"].as_f64().expect("loss")).collect()
}

fn evaluations(out: &Path) -> Vec<Value> {
    metrics(out).into_iter().filter(|record| record["kind"] == "eval").collect()
}

#[test]
fn documents_are_learned() {
    let folder = tempfile::tempdir().expect("folder");
    corpus(folder.path());
    let out = folder.path().join("run");
    let mut first = trainer(folder.path(), &out);
    let finished = run(first.args(["--epochs", "6", "--lr", "3e-3"])).success();
    let log = finished.stderr();
    for text in
        ["60 training documents (", "samples per epoch)", "12 evaluation documents", " samples/s, ", "of them predicted)"]
    {
        assert!(log.contains(text), "{text:?} is missing in\n{log}");
    }
    assert!(!log.contains("question"), "{log}");

    // Long documents are several samples of an epoch.
    let log = finished.after("60 training documents (");
    let per_epoch: u64 = log.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number");
    assert!(per_epoch > 100, "{per_epoch}");
    let last = steps(&out).into_values().last().expect("a record");
    assert_eq!(last["samples"].as_u64(), Some(6 * per_epoch));
    assert!(last["targets_per_second"].as_f64().expect("a number") < last["tokens_per_second"].as_f64().expect("a number"));

    // Speed of the model, absolute and in relation to a matrix product.
    let log = finished.stderr();
    assert!(log.contains(" GFLOP/s (MFU ") && log.contains(" tokens/s ("), "{log}");
    let [flops, product, utilization] = ["model_flops_per_second", "product_flops_per_second", "utilisation"]
        .map(|name| last[name].as_f64().unwrap_or_else(|| panic!("{name} in {last}")));
    assert!((0.0..1.5).contains(&utilization) && (utilization * product / flops - 1.0).abs() < 1e-9, "{last}");

    let evaluations = evaluations(&out);
    let loss = |record: &Value| record["loss"].as_f64().expect("loss");
    let (begin, end) = (&evaluations[0], &evaluations[evaluations.len() - 1]);
    assert!(loss(end) < loss(begin) - 0.5, "{begin} {end}");
    for record in &evaluations {
        assert!((record["perplexity"].as_f64().expect("perplexity") - loss(record).exp()).abs() < 1e-6 * loss(record).exp());
        assert_eq!(record["split_documents"], 12, "{record}");
        // The same samples in every evaluation.
        assert_eq!(record["target_tokens"], begin["target_tokens"], "{record}");
        assert!(["loss_token", "loss_sentence", "loss_document"].iter().all(|name| record[name].is_number()), "{record}");
    }
    // The lowest loss selects the best checkpoint, and there are no answers.
    let best = std::fs::read_to_string(out.join("checkpoints/best")).expect("best");
    let lowest = evaluations.iter().min_by(|a, b| loss(a).total_cmp(&loss(b))).expect("one")["step"].as_u64().expect("step");
    assert!(best.contains(&lowest.to_string()), "{best} {lowest}");
    assert!(!out.join("answers.jsonl").exists());

    let eval = |arguments: &[&str]| {
        let mut eval = command("glm-trainer");
        eval.args(["eval", "--device", "cpu", "--init"]).arg(&out).arg("--data").arg(folder.path());
        let settings = ["data.max_seq_len=64", "infill.token=0.5", "infill.sentence=0.25", "infill.document=0.25"];
        set(&mut eval, &settings);
        set(&mut eval, &["infill.task_mask=true", "infill.input_masking=0.1", "infill.short_pieces=0.1"]);
        run(eval.args(arguments))
    };
    let shown: Value = serde_json::from_str(&eval(&["--json", "--checkpoint", "latest"]).success().stdout()).expect("json");
    assert!((loss(&shown) - loss(end)).abs() < 1e-5, "{shown} {end}");
    let error = eval(&["--scores", "-"]);
    assert!(error.code() != Some(0) && error.stderr().contains("has no choices"), "{}", error.stderr());

    let mut report = command("glm-trainer");
    let reported = run(report.arg("report").arg(&out).arg("--json")).success();
    let reported: Value = serde_json::from_str(&reported.stdout()).expect("json");
    for name in ["tokens_per_second", "model_flops_per_second", "utilisation"] {
        assert!(reported[name].as_f64().is_some_and(|value| value > 0.0), "{name} in {reported}");
    }
    let page = std::fs::read_to_string(out.join("report.html")).expect("page");
    assert!(page.contains("Training loss per predicted token") && page.contains("Samples per second"), "words of documents");
    assert!(page.contains(", MFU ") && page.contains("Model FLOP utilization"), "speed of the model");
    assert!(!page.contains(" questions") && !page.contains("Hardest"), "no questions");
}

#[test]
fn a_killed_and_repeated_run_ends_like_an_undisturbed_one() {
    let folder = tempfile::tempdir().expect("folder");
    corpus(folder.path());
    let [whole, killed] = ["whole", "killed"].map(|name| folder.path().join(name));
    let command = |out: &Path| {
        let mut command = trainer(folder.path(), out);
        set(&mut command, &["train.save_every=24", "train.eval_every=64"]);
        command.args(["--max-steps", "24"]);
        command
    };
    run(&mut command(&whole)).success();
    kill_after_steps(|| command(&killed), &killed, &[2, 9, 15]);
    run(&mut command(&killed)).success();
    assert!(remains(&killed) == remains(&whole), "{:#?} {:#?}", remains(&killed).2, remains(&whole).2);
}

#[test]
fn samples_do_not_depend_on_packing_or_ranks() {
    let folder = tempfile::tempdir().expect("folder");
    corpus(folder.path());
    let train = |name: &str, settings: &[&str], more: &[&str]| {
        let out = folder.path().join(name);
        let mut command = trainer(folder.path(), &out);
        // Dropout stays on: its keys are those of the samples.
        set(&mut command, settings).args(["--max-steps", "6"]).args(more);
        run(&mut command).success();
        (losses(&out), evaluations(&out))
    };
    let (expected, evaluated) = train("one", &[], &[]);
    assert_eq!(expected.len(), 6);
    let close = |found: &[f64]| found.iter().zip(&expected).all(|(found, expected)| (found - expected).abs() < 2e-4 * expected);
    let (packed, evaluated_packed) = train("packed", &["data.micro_batch_tokens=100", "data.decode_threads=3"], &[]);
    assert!(close(&packed), "{packed:?} {expected:?}");
    let last = |records: &[Value]| records[records.len() - 1]["loss"].as_f64().expect("loss");
    assert!((last(&evaluated) - last(&evaluated_packed)).abs() < 2e-4 * last(&evaluated));
    if several_processes_can_train() {
        let (ranks, evaluated_ranks) = train("ranks", &[], &["--nproc", "2"]);
        assert!(close(&ranks), "{ranks:?} {expected:?}");
        assert_eq!(evaluated[0]["target_tokens"], evaluated_ranks[0]["target_tokens"]);
    }
}

#[test]
fn training_continues_from_weights_with_other_settings() {
    let folder = tempfile::tempdir().expect("folder");
    corpus(folder.path());
    let [first, second] = ["first", "second"].map(|name| folder.path().join(name));
    run(trainer(folder.path(), &first).args(["--max-steps", "6"])).success();
    let mut command = small_model(folder.path(), &second);
    // The task follows from the data set.
    command.args(["--seed", "4", "--max-steps", "3", "--init"]).arg(&first);
    set(&mut command, &["data.max_seq_len=96", "infill.token=0", "infill.document=1", "optim.schedule=cosine"]);
    let log = run(&mut command).success().stderr();
    assert!(log.contains("recipe finetune"), "{log}");
    assert!(weights(&first) != weights(&second));
    let evaluations = evaluations(&second);
    assert!(evaluations[0]["loss_document"].is_number() && evaluations[0]["loss_token"].is_null(), "{evaluations:?}");
    assert!(weights_file(&second).exists());
}

#[test]
fn mistakes_name_their_remedy() {
    let folder = tempfile::tempdir().expect("folder");
    corpus(folder.path());
    let out = folder.path().join("run");
    let fails = |command: &mut Command| {
        let finished = run(command);
        assert!(!matches!(finished.code(), Some(0) | None), "{}", finished.stderr());
        assert!(!out.join("metrics.jsonl").exists(), "nothing has started");
        finished.stderr()
    };
    let error = fails(set(&mut trainer(folder.path(), &out), &["infill.document=0.5"]));
    assert!(error.contains("infill.token + infill.sentence + infill.document = 1.25"), "{error}");
    let error = fails(set(&mut trainer(folder.path(), &out), &["infill.mean_span=0"]));
    assert!(error.contains("infill.mean_span = 0"), "{error}");
    let mut wrong = small_model(folder.path(), &out);
    let error = fails(wrong.args(["--task", "cloze", "--init", "random"]));
    assert!(error.contains("--task cloze") && error.contains("--task infill"), "{error}");
    let mut predict = command("glm-trainer");
    predict.args(["predict", "--data"]).arg(folder.path()).args(["--init", "nowhere", "--out", "-"]);
    assert!(run(&mut predict).code() != Some(0));
}
