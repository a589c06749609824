//! Fine-tuning on tasks of SuperGLUE, and submissions of its answers.

#[path = "support/moods.rs"]
mod moods;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use glm_tests::processes::several_processes_can_train;
use glm_tests::training::{metrics, set, small_model};
use glm_tests::{command, fixtures, json_lines, run};
use moods::{MOODS, assert_answers, mood, predict, sentence, trained};
use serde_json::{Value, json};

/// Ingests the raw data of a task.
fn ingested(folder: &Path, raw: &str, task: &str) -> PathBuf {
    let data = folder.join(raw);
    std::fs::create_dir(&data).expect("folder");
    for split in ["train", "val", "test"] {
        let from = fixtures().join("golden/superglue/raw").join(raw).join(format!("{split}.jsonl"));
        std::fs::copy(from, data.join(format!("{split}.jsonl"))).expect("copy");
    }
    let finished = run(command("glm-prep").args(["ingest", "--quiet", "--task", &format!("superglue/{task}")]).arg(&data));
    assert!(matches!(finished.code(), Some(0 | 3)), "{}", finished.stderr());
    data
}

fn trainer(data: &Path, out: &Path, task: &str) -> Command {
    let mut command = command("glm-trainer");
    command.args(["run", "--device", "cpu", "--preset", "tiny", "--init", "random", "--recipe", &format!("superglue/{task}")]);
    set(&mut command, &["model.layers=1", "model.hidden=32", "model.heads=2", "data.batch_size=4", "optim.lr=1e-3"]);
    command.arg("--data").arg(data).arg("--out").arg(out);
    command
}

fn evals(out: &Path) -> Vec<Value> {
    metrics(out).into_iter().filter(|line| line["kind"] == "eval").collect()
}

#[test]
fn a_recipe_evaluates_after_each_epoch_and_its_run_is_evaluated_alike() {
    let folder = tempfile::tempdir().expect("folder");
    let data = ingested(folder.path(), "CB", "cb");
    let out = folder.path().join("run");
    run(trainer(&data, &out, "cb").args(["--epochs", "3"])).success();
    let evals = evals(&out);
    let rows = evals[0]["samples"].as_u64().expect("samples");
    assert_eq!(evals.iter().map(|eval| eval["samples"].as_u64()).collect::<Vec<_>>(), [1, 2, 3].map(|n| Some(n * rows)));
    assert_eq!(evals[0]["step"].as_u64(), Some(rows.div_ceil(4)));
    let config = std::fs::read_to_string(out.join("config.toml")).expect("config");
    for setting in ["max_seq_len = 256", "metrics = \"accuracy,f1_macro\"", "loss = \"cross_entropy\"", "length_penalty = 0.0"]
    {
        assert!(config.lines().any(|line| line == setting), "{setting} in\n{config}");
    }

    let result = run(command("glm-trainer")
        .args(["eval", "--json", "--device", "cpu", "--checkpoint", "latest", "--init"])
        .arg(&out)
        .arg("--data")
        .arg(&data))
    .success();
    let result: Value = serde_json::from_str(&result.stdout()).expect("json");
    for metric in ["accuracy", "f1_macro", "hits", "questions", "chance", "majority"] {
        assert_eq!(result[metric], evals[2][metric], "{metric}");
    }
    let report = run(command("glm-trainer").arg("report").arg(&out)).success();
    let page = std::fs::read_to_string(report.stdout().trim()).expect("page");
    assert!(page.contains("macro F1"));
}

#[test]
fn groups_of_answers_are_counted_over_all_ranks() {
    if !several_processes_can_train() {
        return;
    }
    let folder = tempfile::tempdir().expect("folder");
    let data = ingested(folder.path(), "MultiRC", "multirc");
    let run_with = |processes: &str| {
        let out = folder.path().join(processes);
        let mut command = small_model(&data, &out);
        // Small batches, which distribute the answers of a question over ranks.
        set(&mut command, &["data.micro_batch_tokens=1", "train.max_steps=2", "optim.lr=1e-2"]);
        run(command.args(["--init", "random", "--seed", "4", "--nproc", processes])).success();
        evals(&out).pop().expect("an evaluation")
    };
    let (one, two) = (run_with("1"), run_with("2"));
    for metric in ["f1a", "em", "accuracy", "hits", "questions", "majority"] {
        assert_eq!(one[metric], two[metric], "{metric}");
    }
    // Two of the 30 answers have no label.
    assert_eq!(one["questions"], 28);
}

#[test]
fn a_submission_has_the_answers_of_each_run() {
    let folder = tempfile::tempdir().expect("folder");
    let rte = ingested(folder.path(), "RTE", "rte");
    let multirc = ingested(folder.path(), "MultiRC", "multirc");
    let [rte_run, multirc_run] = ["rte", "multirc"].map(|task| folder.path().join(format!("run-{task}")));
    run(trainer(&rte, &rte_run, "rte").args(["--epochs", "1"])).success();
    run(trainer(&multirc, &multirc_run, "multirc").args(["--epochs", "1"])).success();
    let archive = folder.path().join("submission.zip");
    let all = |runs: &[&Path]| {
        run(command("glm-trainer")
            .args(["predict", "--device", "cpu", "--json", "--out"])
            .arg(&archive)
            .arg("--all")
            .args(runs))
    };
    let result: Value = serde_json::from_str(&all(&[&rte_run, &multirc_run]).success().stdout()).expect("json");
    let files: Vec<_> = result["files"].as_array().expect("files").iter().map(|file| &file["file"]).collect();
    assert_eq!(files, [&json!("RTE.jsonl"), &json!("MultiRC.jsonl")]);
    let first = std::fs::read(&archive).expect("archive");
    let mut contents = zip::ZipArchive::new(std::io::Cursor::new(&first)).expect("zip");
    assert_eq!(contents.len(), 2);
    for (run, data, file) in [(&rte_run, &rte, "RTE.jsonl"), (&multirc_run, &multirc, "MultiRC.jsonl")] {
        let alone = folder.path().join(file);
        predict(run, data, &alone, &[]);
        let mut content = String::new();
        contents.by_name(file).expect(file).read_to_string(&mut content).expect("text");
        assert_eq!(content, std::fs::read_to_string(&alone).expect("text"));
    }
    let keys: Vec<String> =
        json_lines(&folder.path().join("MultiRC.jsonl"))[0].as_object().expect("object").keys().cloned().collect();
    assert_eq!(keys, ["idx", "passage"]);

    // The same command writes the same bytes.
    all(&[&rte_run, &multirc_run]).success();
    assert_eq!(std::fs::read(&archive).expect("archive"), first);
    let twice = all(&[&rte_run, &rte_run]);
    assert_eq!(twice.code(), Some(1));
    assert!(twice.stderr().contains("run-rte is given twice; omit one"), "{}", twice.stderr());
    let other = folder.path().join("run-other");
    assert!(std::process::Command::new("cp").arg("-r").args([&rte_run, &other]).status().expect("copied").success());
    let twice = all(&[&rte_run, &other]);
    assert!(
        twice.stderr().contains("writes RTE.jsonl, as ") && twice.stderr().contains("omit one of them"),
        "{}",
        twice.stderr()
    );
    let none = all(&[folder.path()]);
    assert!(none.stderr().contains("is not a run folder"), "{}", none.stderr());
}

/// A Chinese task, with a vocabulary in which its words are single tokens.
#[test]
fn a_task_of_clue_goes_from_lines_to_predictions() {
    let folder = tempfile::tempdir().expect("folder");
    let data = folder.path().join("afqmc");
    std::fs::create_dir(&data).expect("folder");
    let golden = fixtures().join("golden/clue");
    for split in ["train", "dev", "test"] {
        let name = format!("{split}.json");
        std::fs::copy(golden.join("raw/afqmc").join(&name), data.join(&name)).expect("copy");
    }
    let mut ingest = command("glm-prep");
    ingest.args(["ingest", "--quiet", "--task", "clue/afqmc", "--tokenizer"]).arg(golden.join("words.model")).arg(&data);
    run(&mut ingest).success();
    let out = folder.path().join("run");
    let mut training = command("glm-trainer");
    training.args(["run", "--device", "cpu", "--preset", "tiny", "--init", "random"]);
    training.args(["--recipe", "clue/afqmc", "--epochs", "2"]);
    set(&mut training, &["model.layers=1", "model.hidden=32", "model.heads=2", "data.batch_size=2"]);
    run(training.arg("--data").arg(&data).arg("--out").arg(&out)).success();
    let eval = evals(&out).pop().expect("an evaluation");
    assert_eq!((&eval["questions"], eval["chance"].as_f64()), (&json!(3), Some(0.5)));
    let answers = folder.path().join("answers.jsonl");
    predict(&out, &data, &answers, &[]);
    let answers = json_lines(&answers);
    assert_eq!(answers.len(), 2);
    for (answer, id) in answers.iter().zip(["0", "1"]) {
        let predicted = answer["predicted"].as_u64().expect("index") as usize;
        assert_eq!(
            (&answer["id"], &answer["predicted_text"], &answer["label"]),
            (&json!(id), &json!(["不是", "是"][predicted]), &json!(predicted))
        );
    }
}

/// A task of one's own: a pattern file, and JSON lines with any fields.
#[test]
fn a_task_of_ones_own_goes_from_lines_to_predictions() {
    let folder = tempfile::tempdir().expect("folder");
    let data = folder.path().join("reviews");
    std::fs::create_dir(&data).expect("folder");
    let pattern = r#"
        metrics = ["f1_macro", "accuracy"]

        [texts]
        review = { field = "body" }

        [label]
        field = "mood"
        names = ["unhappy", "happy"]

        [[patterns]]
        context = "{review*} In short, it was {blank}."
        words = ["bad", "good"]
    "#;
    std::fs::write(folder.path().join("mood.toml"), pattern).expect("write");
    let lines = |count: usize, labelled: bool| {
        let line = |i: usize| {
            let mut line = json!({"body": sentence(i), "id": format!("r{i}")});
            if labelled {
                line["mood"] = MOODS[mood(i)].into();
            }
            format!("{line}\n")
        };
        (0..count).map(line).collect::<String>()
    };
    for (file, count, labelled) in [("train.jsonl", 24, true), ("val.jsonl", 12, true), ("test.jsonl", 6, false)] {
        std::fs::write(data.join(file), lines(count, labelled)).expect("write");
    }
    run(command("glm-prep").args(["ingest", "--quiet"]).arg(&data).arg("--pattern").arg(folder.path().join("mood.toml")))
        .success();

    let out = folder.path().join("run");
    let eval = trained(&data, &out);
    assert_eq!((&eval["questions"], eval["chance"].as_f64(), eval["majority"].as_f64()), (&json!(12), Some(0.5), Some(0.5)));
    let page = run(command("glm-trainer").args(["report", "--json"]).arg(&out)).success();
    let page: Value = serde_json::from_str(&page.stdout()).expect("json");
    assert_eq!(page["best"]["f1_macro"], eval["f1_macro"]);

    let answers = folder.path().join("answers.jsonl");
    predict(&out, &data, &answers, &[]);
    assert_answers(&answers);
    let submission = run(command("glm-trainer")
        .args(["predict", "--device", "cpu", "--out"])
        .arg(folder.path().join("all.zip"))
        .arg("--all")
        .arg(&out));
    assert!(submission.stderr().contains("is not a task of SuperGLUE"), "{}", submission.stderr());
}
