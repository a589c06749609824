//! `glm-trainer run` on a sample corpus: reproducible runs, exact resumption, stopping by a signal, error messages.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use glm_tests::training::{corpus, metrics, trainer, weights};
use glm_tests::{Finished, command, run};
use serde_json::Value;

/// Returns losses, gradient norms and accuracies in order: everything that does not depend on time.
fn learned(out: &Path) -> Vec<String> {
    let keys = ["kind", "step", "samples", "loss", "gradient_norm", "lr", "accuracy"];
    metrics(out).iter().map(|line| keys.map(|key| line[key].to_string()).join(" ")).collect()
}

#[test]
fn the_same_seed_gives_the_same_run_with_any_number_of_threads() {
    let folder = tempfile::tempdir().expect("folder");
    corpus(folder.path());
    let [first, second, other] = ["first", "second", "other"].map(|name| folder.path().join(name));
    run(trainer(folder.path(), &first).args(["--max-steps", "6", "--eval-every", "24"])).success();
    run(trainer(folder.path(), &second).args(["--max-steps", "6", "--eval-every", "24", "--set", "data.decode_threads=5"]))
        .success();
    assert_eq!(learned(&first), learned(&second));
    assert!(weights(&first) == weights(&second), "the weights differ");
    let kinds: Vec<_> = metrics(&first).iter().map(|line| line["kind"].as_str().expect("kind").to_owned()).collect();
    assert_eq!(kinds, ["train", "train", "train", "eval", "train", "train", "train", "eval"]);
    assert!(first.join("config.toml").is_file());
    run(trainer(folder.path(), &other).args(["--max-steps", "6", "--set", "train.seed=4"])).success();
    assert!(weights(&first) != weights(&other), "another seed gave the same weights");
}

#[test]
fn a_resumed_run_equals_an_uninterrupted_one() {
    let folder = tempfile::tempdir().expect("folder");
    corpus(folder.path());
    let [whole, halved] = ["whole", "halved"].map(|name| folder.path().join(name));
    run(trainer(folder.path(), &whole).args(["--max-steps", "9"])).success();
    run(trainer(folder.path(), &halved).args(["--max-steps", "4"])).success();
    let again = run(trainer(folder.path(), &halved).args(["--max-steps", "9"]));
    assert_eq!(again.code(), Some(1));
    assert!(again.stderr().contains("already holds a run"), "{}", again.stderr());
    run(trainer(folder.path(), &halved).args(["--max-steps", "9", "--resume"])).success();
    assert!(weights(&whole) == weights(&halved), "the weights differ");
    let train = |out: &Path| learned(out).into_iter().filter(|line| line.starts_with("\"train\"")).collect::<Vec<_>>();
    assert_eq!(train(&whole), train(&halved));
}

#[test]
fn half_precision_follows_fp32_and_an_overflow_skips_the_step() {
    let folder = tempfile::tempdir().expect("folder");
    corpus(folder.path());
    let train = |name: &str, settings: &[&str]| {
        let out = folder.path().join(name);
        let mut command = trainer(folder.path(), &out);
        command.args(["--max-steps", "2", "--set", "model.dropout=0", "--set", "model.attention_dropout=0"]);
        settings.iter().for_each(|setting| {
            command.args(["--set", setting]);
        });
        run(&mut command).success();
        metrics(&out)
    };
    let single = train("fp32", &["train.precision=fp32"]);
    for settings in [&["train.precision=bf16"][..], &["train.precision=fp16", "loss_scale.init_scale=1024"]] {
        let half = train(settings[0], settings);
        for (half, single) in half.iter().zip(&single).take(2) {
            let [half, single] = [half, single].map(|line| line["loss"].as_f64().expect("loss"));
            assert!((half - single).abs() < 0.02 * single, "{settings:?}: loss {half}, fp32 {single}");
        }
    }
    // Hysteresis tolerates the first overflow; the second one reduces the scale, which then fits.
    let scaled =
        train("scaled", &["train.precision=fp16", "loss_scale.init_scale=16777216.0", "loss_scale.growth_factor=65536.0"]);
    assert_eq!((scaled[0]["step"].as_u64(), scaled[0]["samples"].as_u64()), (Some(1), Some(24)));
    assert_eq!((scaled[0]["skipped"].as_u64(), scaled[0]["loss_scale"].as_f64()), (Some(2), Some(256.0)));
    assert_eq!(scaled[0]["lr"].as_f64(), Some(0.0), "a skipped step does not advance the schedule");
}

#[test]
fn eval_of_a_run_gives_the_accuracy_that_the_run_logged() {
    let folder = tempfile::tempdir().expect("folder");
    corpus(folder.path());
    let out = folder.path().join("run");
    // Shorter than the questions: the evaluation truncates them like the run, without the setting.
    run(trainer(folder.path(), &out).args(["--max-steps", "5", "--set", "data.max_seq_len=64"])).success();
    let logged = metrics(&out).pop().expect("evaluation");
    for budget in ["300", "9000"] {
        let eval = run(command("glm-trainer")
            .args(["eval", "--device", "cpu", "--json", "--set", &format!("data.micro_batch_tokens={budget}"), "--data"])
            .arg(folder.path().join("shards"))
            .arg("--init")
            .arg(&out))
        .success();
        let eval: Value = serde_json::from_str(&eval.stdout()).expect("json");
        for key in ["accuracy", "hits", "questions", "f1", "exact_match", "chance", "most_frequent"] {
            assert_eq!(eval[key], logged[key], "{key}");
        }
    }
}

#[test]
fn ctrl_c_leaves_a_checkpoint_to_resume_from() {
    let folder = tempfile::tempdir().expect("folder");
    corpus(folder.path());
    let out = folder.path().join("run");
    let mut child = trainer(folder.path(), &out)
        .args(["--set", "train.epochs=100000"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start");
    while !std::fs::read_to_string(out.join("metrics.jsonl")).is_ok_and(|text| text.lines().count() >= 3) {
        assert!(child.try_wait().expect("wait").is_none(), "exited before the signal");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill").success());
    let status = child.wait().expect("wait");
    assert_eq!(status.code(), Some(75), "{status}");
    assert!(!weights(&out).is_empty());
    let steps = metrics(&out).len() as u64;
    run(trainer(folder.path(), &out).args(["--resume", "--max-steps", &(steps + 2).to_string()])).success();
}

#[test]
fn errors_for_missing_inputs_contain_a_solution() {
    let folder = tempfile::tempdir().expect("folder");
    let assert_error = |finished: Finished, text: &str| {
        assert_eq!(finished.code(), Some(1), "{}", finished.stderr());
        assert!(finished.stderr().contains(text), "{}", finished.stderr());
        assert_eq!(finished.stderr().trim_end().lines().count(), 1, "{}", finished.stderr());
    };
    let nowhere = folder.path().join("nowhere");
    assert_error(
        run(command("glm-trainer").args(["run", "--device", "cpu"]).env("GLM_DATA_DIR", &nowhere)),
        "specify the data folder or URL with --data",
    );
    assert_error(
        run(command("glm-trainer").args(["-q", "run", "--device", "cpu", "--data"]).arg(folder.path())),
        "`glm-prep ingest",
    );
    corpus(folder.path());
    let no_weights = run(command("glm-trainer")
        .args(["-q", "run", "--device", "cpu", "--data"])
        .arg(folder.path())
        .current_dir(folder.path()));
    assert_error(no_weights, "`glm-trainer fetch glm-large-blank ");
    let gpu = run(command("glm-trainer").args(["run", "--device", "cuda:77", "--data"]).arg(folder.path()));
    assert_error(gpu, "cuda:77 cannot be used");
}

#[test]
fn a_damaged_shard_ends_the_run_with_its_name() {
    let folder = tempfile::tempdir().expect("folder");
    corpus(folder.path());
    let shard = folder.path().join("shards/data/train-00000-of-00001.parquet");
    let mut bytes = std::fs::read(&shard).expect("read");
    // The first bytes of the first page of the first column, after the magic number.
    bytes[4..64].fill(0xff);
    std::fs::write(&shard, &bytes).expect("write");
    let damaged = run(trainer(folder.path(), &folder.path().join("run")).args(["--max-steps", "2"]));
    assert_eq!(damaged.code(), Some(1));
    assert!(damaged.stderr().contains("train-00000-of-00001.parquet"), "{}", damaged.stderr());
    std::fs::write(&shard, &bytes[..100]).expect("write");
    let cut = run(trainer(folder.path(), &folder.path().join("run2")).args(["--max-steps", "2"]));
    assert!(cut.stderr().contains("the manifest lists"), "{}", cut.stderr());
}
