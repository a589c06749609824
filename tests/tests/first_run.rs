//! `glm-trainer run` as a new user meets it: a run on own data without settings, the commands that messages suggest, and mistakes on
//! the command line.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use glm_tests::training::{corpus, metrics, set, weights};
use glm_tests::{Finished, command, run, shell_line};
use serde_json::Value;

/// Writes and ingests data in the plain format: 90 questions to train on and 40 to evaluate on.
fn own_data(folder: &Path) {
    for (split, questions) in [("train", 90), ("val", 40)] {
        let line = |i: usize| {
            let context = format!("In year {i} rain fell for a week. By Sunday the cellar was [BLANK].");
            let line =
                serde_json::json!({"context": context, "choices": ["wet", "dry", "hot"], "answer": i % 3, "id": i.to_string()});
            format!("{line}\n")
        };
        let lines: String = (0..questions).map(|i| line(i + questions)).collect();
        std::fs::write(folder.join(format!("{split}.jsonl")), lines).expect("write");
    }
    run(command("glm-prep").args(["ingest", "--quiet"]).arg(folder)).success();
}

/// A command that trains a model of two small layers from random weights, with the settings of its recipe.
fn trainer(data: &Path, out: &Path) -> Command {
    let mut command = command("glm-trainer");
    command.args(["run", "--device", "cpu", "--preset", "tiny", "--init", "random", "--data"]).arg(data).arg("--out").arg(out);
    set(&mut command, &["model.layers=2", "model.hidden=32", "model.heads=2"]);
    command
}

fn of_kind(out: &Path, kind: &str) -> Vec<Value> {
    metrics(out).into_iter().filter(|line| line["kind"] == kind).collect()
}

fn settings(out: &Path, key: &str) -> String {
    let text = std::fs::read_to_string(out.join("config.toml")).expect("config.toml");
    let line = text.lines().find(|line| line.starts_with(&format!("{key} = ")));
    line.unwrap_or_else(|| panic!("no {key} in {text}")).split_once(" = ").expect("a value").1.to_owned()
}

fn sessions(out: &Path) -> Vec<Value> {
    glm_tests::json_lines(&out.join("sessions.jsonl"))
}

#[test]
fn the_schedule_follows_the_length_of_the_run() {
    let folder = tempfile::tempdir().expect("folder");
    own_data(folder.path());
    let out = folder.path().join("run");
    let finished = run(trainer(folder.path(), &out).args(["--epochs", "8", "--batch-size", "10", "--lr", "2e-3"])).success();
    let stderr = finished.stderr();
    assert!(stderr.contains("recipe scratch: 72 steps of 10 questions, learning rate 0.002"), "{stderr}");
    assert!(!stderr.contains("WARN"), "{stderr}");
    assert_eq!([settings(&out, "decay_steps"), settings(&out, "target_metric")], ["72", "0.0"]);
    let train = of_kind(&out, "train");
    let rates: Vec<f64> = train.iter().map(|line| line["lr"].as_f64().expect("lr")).collect();
    assert!(rates.iter().any(|&lr| lr > 1.7e-3) && *rates.last().expect("a line") < 2.5e-4, "{rates:?}");
    // Ten questions per step: the shortest distance of evaluations is ten steps.
    let evals: Vec<_> = of_kind(&out, "eval").iter().map(|line| line["step"].as_u64().expect("step")).collect();
    assert_eq!(evals, [10, 20, 30, 40, 50, 60, 70, 72]);
    // A resumed run keeps its schedule, unless it is asked for another one.
    let resume = |arguments: &[&str]| {
        run(command("glm-trainer").args(["run", "--device", "cpu", "--resume", "--out"]).arg(&out).args(arguments)).success();
        settings(&out, "decay_steps")
    };
    assert_eq!(resume(&["--epochs", "9"]), "72");
    assert_eq!(resume(&["--epochs", "10", "--allow", "optim.decay_steps", "--set", "optim.decay_steps=0"]), "90");
}

#[test]
fn the_schedule_is_the_same_after_an_interruption_and_on_several_ranks() {
    let folder = tempfile::tempdir().expect("folder");
    own_data(folder.path());
    let [whole, ranks] = ["whole", "ranks"].map(|name| folder.path().join(name));
    let arguments = ["--epochs", "2", "--batch-size", "10", "--set", "train.log_every=1"];
    run(trainer(folder.path(), &whole).args(arguments)).success();
    let rates = |out: &Path| of_kind(out, "train").iter().map(|line| line["lr"].to_string()).collect::<Vec<_>>();
    assert_eq!(rates(&whole).len(), 18);
    if libtorch_ext::distributed::available().is_ok() {
        run(trainer(folder.path(), &ranks).args(arguments).args(["--nproc", "2"])).success();
        assert_eq!(rates(&ranks), rates(&whole));
    }
}

#[test]
fn a_run_within_its_warm_up_warns() {
    let folder = tempfile::tempdir().expect("folder");
    own_data(folder.path());
    let out = folder.path().join("run");
    let mut command = trainer(folder.path(), &out);
    let finished = run(set(&mut command, &["optim.decay_steps=1000"]).args(["--max-steps", "3"])).success();
    assert!(finished.stderr().contains("the run ends after 3 steps, within the warm-up of 50 steps"), "{}", finished.stderr());
    // Fewer steps than train.log_every still have a loss.
    let train = of_kind(&out, "train");
    assert_eq!(train.iter().map(|line| line["step"].as_u64()).collect::<Vec<_>>(), [Some(3)]);
    assert!(finished.stderr().contains("step 3/3, "), "{}", finished.stderr());
    let recipe = ["--recipe", "record", "--max-steps", "2"];
    let finished = run(trainer(folder.path(), &folder.path().join("record")).args(recipe)).success();
    assert!(finished.stderr().contains("within the warm-up of 434 steps"), "{}", finished.stderr());
    let recipe = ["--recipe", "record", "--max-steps", "1"];
    let finished = run(trainer(folder.path(), &folder.path().join("one")).args(recipe)).success();
    assert!(finished.stderr().contains("the only step has learning rate 0"), "{}", finished.stderr());
    assert!(!finished.stderr().contains("is that of another task"), "{}", finished.stderr());
    let recipe = ["--recipe", "superglue/rte", "--max-steps", "2"];
    let finished = run(trainer(folder.path(), &folder.path().join("rte")).args(recipe)).success();
    assert!(finished.stderr().contains("recipe superglue/rte is that of another task than "), "{}", finished.stderr());
}

#[test]
fn evaluations_use_the_same_random_questions_and_the_last_one_all() {
    let folder = tempfile::tempdir().expect("folder");
    corpus(folder.path());
    let train = |name: &str, settings: &[&str]| {
        let out = folder.path().join(name);
        let mut command = trainer(folder.path(), &out);
        set(&mut command, &["train.eval_questions=7", "data.max_seq_len=128"]);
        let arguments = ["--batch-size", "8", "--max-steps", "6", "--eval-every", "16", "--keep", "9"];
        let finished = run(set(&mut command, settings).args(arguments)).success();
        (out, finished)
    };
    let (out, finished) = train("run", &[]);
    let evals = of_kind(&out, "eval");
    let counts: Vec<_> = evals.iter().map(|line| (line["step"].as_u64(), line["questions"].as_u64())).collect();
    let all = evals[0]["split_questions"].as_u64().expect("a number");
    assert!(all > 7);
    assert_eq!(counts, [(Some(2), Some(7)), (Some(4), Some(7)), (Some(6), Some(all))]);
    let stderr = finished.stderr();
    assert!(stderr.contains(&format!("7 of {all} evaluation questions")), "{stderr}");
    assert!(stderr.contains(&format!("evaluation of 7 of {all} questions")), "{stderr}");
    // `eval` draws the same questions, whatever the batches.
    let shown = |init: &Path, settings: &[&str]| -> Value {
        let mut eval = command("glm-trainer");
        eval.args(["eval", "--device", "cpu", "--json", "--data"]).arg(folder.path()).arg("--init").arg(init);
        serde_json::from_str(&run(set(&mut eval, settings)).success().stdout()).expect("json")
    };
    let checkpoint = out.join("checkpoints/step-00000004/model.safetensors");
    let part = shown(&checkpoint, &["train.eval_questions=7", "data.micro_batch_tokens=200"]);
    let whole = shown(&out.join("checkpoints/step-00000006/model.safetensors"), &[]);
    for key in ["accuracy", "hits", "questions", "f1", "chance", "most_frequent"] {
        assert_eq!(part[key], evals[1][key], "{key}");
        assert_eq!(whole[key], evals[2][key], "{key}");
    }
    let (other, _) = train("other", &["data.micro_batch_tokens=300", "data.decode_threads=4"]);
    let numbers = |evals: &[Value]| evals.iter().map(|line| line["chance"].to_string()).collect::<Vec<_>>();
    assert_eq!(numbers(&of_kind(&other, "eval")), numbers(&evals));
}

/// Waits until a run has logged, stops it, and returns what it has written.
fn stopped(mut trainer: Command, out: &Path) -> Finished {
    let mut child = trainer.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("start");
    while !std::fs::read_to_string(out.join("metrics.jsonl")).is_ok_and(|text| text.lines().count() >= 3) {
        assert!(child.try_wait().expect("wait").is_none(), "exited before the signal");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill").success());
    Finished::from(child.wait_with_output().expect("wait"))
}

#[test]
fn the_hint_of_a_stopped_run_resumes_it() {
    let folder = tempfile::tempdir().expect("folder");
    own_data(folder.path());
    // A name that a shell must not take apart, and settings that are not the defaults.
    let [halved, whole] = ["half a run", "whole"].map(|name| folder.path().join(name));
    let command = |out: &Path| {
        let mut command = trainer(folder.path(), out);
        command.args(["--max-steps", "300", "--batch-size", "3", "--lr", "2e-3", "--eval-every", "100000"]);
        set(&mut command, &["train.log_every=1"]);
        command
    };
    let finished = stopped(command(&halved), &halved);
    assert_eq!(finished.code(), Some(75), "{}", finished.stderr());
    assert!(finished.stderr().contains(" of 300; to resume: glm-trainer run --resume --out "), "{}", finished.stderr());
    shell_line(folder.path(), &finished.after("to resume: ")).success();
    run(&mut command(&whole)).success();
    assert!(weights(&halved) == weights(&whole), "the weights differ");
    let planned: Vec<_> = sessions(&halved).iter().map(|session| session["planned_samples"].as_u64()).collect();
    assert_eq!(planned, [Some(900), Some(900)]);
}

#[test]
fn examples_of_the_help_and_hints_of_a_finished_run_work_in_sequence() {
    let folder = tempfile::tempdir().expect("folder");
    corpus(&folder.path().join("sample"));
    let help = run(command("glm-trainer").args(["run", "--help"])).success().stdout();
    let examples: Vec<&str> =
        help.lines().filter(|line| line.trim_start().starts_with("glm-trainer run") && line.contains("runs/first")).collect();
    assert_eq!(examples.len(), 2, "{help}");
    let first = shell_line(folder.path(), examples[0]).success();
    assert!(first.after("done in ").contains("accuracy "), "{}", first.stderr());
    shell_line(folder.path(), examples[1]).success();
    let page = shell_line(folder.path(), &first.after("next: ")).success();
    assert!(page.stdout().contains("report.html"), "{}", page.stdout());
    let out = folder.path().join("runs/first");
    let steps = of_kind(&out, "train").last().expect("a line")["step"].as_u64();
    let again = shell_line(folder.path(), examples[1]).success();
    assert!(again.stderr().contains("nothing to do: the run in runs/first is complete: "), "{}", again.stderr());
    assert!(!again.stderr().contains("done in"), "{}", again.stderr());
    assert_eq!(of_kind(&out, "train").last().expect("a line")["step"].as_u64(), steps);
    shell_line(folder.path(), &again.after("to train longer: ")).success();
    assert_eq!(of_kind(&out, "train").last().expect("a line")["step"].as_u64(), steps.map(|steps| 2 * steps));
}

#[test]
fn a_resumed_run_needs_nothing_else_but_its_data() {
    let folder = tempfile::tempdir().expect("folder");
    own_data(folder.path());
    let out = folder.path().join("run");
    run(trainer(folder.path(), &out).args(["--max-steps", "4", "--batch-size", "10", "--seed", "5"])).success();
    let resume = |arguments: &[&str]| {
        run(command("glm-trainer").args(["run", "--device", "cpu", "--resume", "--out"]).arg(&out).args(arguments))
    };
    // A limit below what is done.
    let shorter = resume(&["--max-steps", "2"]).success();
    assert!(shorter.stderr().contains("nothing to do"), "{}", shorter.stderr());
    assert_eq!(sessions(&out).last().expect("a session")["planned_samples"], 40);
    let other = resume(&["--seed", "6"]);
    assert!(other.code() == Some(1) && other.stderr().contains("train.seed is 6 instead of 5"), "{}", other.stderr());
    let init = resume(&["--init", "elsewhere", "--max-steps", "5"]).success();
    assert!(init.stderr().contains("--init elsewhere is ignored"), "{}", init.stderr());
    std::fs::rename(folder.path().join("shards"), folder.path().join("moved")).expect("rename");
    let moved = resume(&["--max-steps", "6"]);
    assert!(moved.code() == Some(1) && moved.stderr().contains("--data"), "{}", moved.stderr());
    resume(&["--max-steps", "6", "--data", &folder.path().join("moved").display().to_string()]).success();
    let nothing = run(command("glm-trainer").args(["run", "--resume", "--out"]).arg(folder.path().join("nowhere")));
    assert!(
        nothing.code() == Some(1) && nothing.stderr().contains("there is no checkpoint to resume from in"),
        "{}",
        nothing.stderr()
    );
    assert!(!folder.path().join("nowhere").exists());
}

#[test]
fn mistakes_in_settings_are_usage_errors_in_one_line() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("my.toml");
    std::fs::write(&file, "[optim]\nlr = fast\n").expect("write");
    let file = file.display().to_string();
    for (arguments, text) in [
        (vec!["--set", "lr=1e-3"], "did you mean optim.lr?"),
        (vec!["--set", "optim.rate=1e-3"], "[optim] has "),
        (vec!["--set", "optim.lr"], "expected section.key=value"),
        (vec!["--set", "optim.lr=high"], "optim.lr expects a number"),
        (vec!["--set", "train.max_steps=-1"], "train.max_steps must be at least 0"),
        (vec!["--set", "train.precision=fp8"], "train.precision must be auto, fp16, bf16 or fp32"),
        (vec!["--set", "optim.beta1=2"], "optim.beta1 = 2 is out of range"),
        (vec!["--config", &file], "line 2: `lr = fast`: `fast` is neither a number nor true or false"),
        (vec!["--allow", "optim.rate", "--resume", "--out", "x"], "unknown setting"),
    ] {
        for commands in [&["run"][..], &["train"], &["eval", "--init", "x"], &["bench"]] {
            if arguments[0] == "--allow" && commands[0] != "run" {
                continue;
            }
            let finished = run(command("glm-trainer").args(commands).args(&arguments));
            assert_eq!(finished.code(), Some(2), "{commands:?} {arguments:?}: {}", finished.stderr());
            let stderr = finished.stderr();
            assert!(
                stderr.starts_with("error: ") && stderr.contains(text) && stderr.trim_end().lines().count() == 1,
                "{stderr}"
            );
        }
    }
    assert_eq!(run(command("glm-trainer").args(["run", "--lr", "fast"])).code(), Some(2));
}

#[test]
fn a_file_instead_of_the_data_folder_is_told() {
    let folder = tempfile::tempdir().expect("folder");
    own_data(folder.path());
    let file = folder.path().join("train.jsonl");
    let finished = run(command("glm-trainer").args(["run", "--preset", "tiny", "--data"]).arg(&file));
    let expected = format!("is a file; specify the folder given to `glm-prep ingest`: --data {}\n", folder.path().display());
    assert!(finished.code() == Some(1) && finished.stderr().ends_with(&expected), "{}", finished.stderr());
}

#[test]
fn errors_name_their_cause_once() {
    let folder = tempfile::tempdir().expect("folder");
    own_data(folder.path());
    let mut command = trainer(folder.path(), &folder.path().join("run"));
    let finished = run(set(&mut command, &["data.max_seq_len=9"]));
    let error = finished.after("ERROR ");
    assert!(finished.code() == Some(1) && error.contains("Train with a larger data.max_seq_len"), "{error}");
    assert_eq!(error.matches("do not fit a sequence length").count(), 1, "{error}");
}

#[test]
fn log_levels_and_formats() {
    let folder = tempfile::tempdir().expect("folder");
    own_data(folder.path());
    let train = |name: &str, arguments: &[&str], levels: Option<&str>| {
        let mut trainer = trainer(folder.path(), &folder.path().join(name));
        trainer.args(["--max-steps", "2"]).args(arguments).envs(levels.map(|levels| ("RUST_LOG", levels)));
        run(&mut trainer).success().stderr()
    };
    let json = train("json", &["--log-format", "json"], None);
    for line in json.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(line["level"] == "INFO" && line["message"].is_string() && line["timestamp"].is_string(), "{line}");
    }
    assert!(json.contains("done in "), "{json}");
    assert_eq!(train("warnings", &[], Some("warn")), "");
    let verbose = train("verbose", &["-v"], None);
    for text in ["data set in ", "format plain", "batches of up to 4096 tokens"] {
        assert!(verbose.contains(text), "{verbose}");
    }
    let mut eval = command("glm-trainer");
    let eval =
        run(eval.args(["-v", "eval", "--data"]).arg(folder.path()).arg("--init").arg(folder.path().join("json"))).success();
    assert!(eval.stderr().contains("step-00000002") && eval.stderr().contains("2 layers"), "{}", eval.stderr());
    for program in ["glm-trainer", "glm-prep"] {
        let mut command = command(program);
        let command =
            if program == "glm-prep" { command.args(["stats", "nowhere"]) } else { command.args(["inspect", "nowhere"]) };
        let plain = run(command);
        assert!(plain.code() == Some(1) && plain.stderr().starts_with("error: "), "{}", plain.stderr());
        let json = run(command.args(["--log-format", "json"])).stderr();
        let line: Value = serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {json}"));
        assert_eq!(line["level"], "ERROR");
    }
}

#[test]
fn overflows_of_fp16_on_a_cpu_are_told() {
    let folder = tempfile::tempdir().expect("folder");
    own_data(folder.path());
    let mut command = trainer(folder.path(), &folder.path().join("run"));
    set(&mut command, &["loss_scale.growth_factor=65536.0"]);
    let stderr = run(command.args(["--precision", "fp16", "--max-steps", "1"])).success().stderr();
    assert!(stderr.contains("WARN fp16 is slow on a CPU"), "{stderr}");
    assert!(stderr.contains("overflow; step skipped") && stderr.contains("(skipped steps so far: 1)"), "{stderr}");
    assert!(stderr.contains("skipped steps, because"), "{stderr}");
}
