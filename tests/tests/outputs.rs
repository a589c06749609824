//! Destinations of `--out` and `--scores`: standard output, devices, pipes, links and folders, with the real programs.

use std::fs;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use glm_tests::{Finished, command, fixtures, json_lines, run};
use serde_json::{Value, json};

/// A folder with a data set of three questions, and a run folder with one record.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let question = |id: &str| json!({"context": "Ada has a dog. The [BLANK] barked.", "choices": ["dog", "cat"], "answer": 0, "id": id});
        let questions: String = ["b", "a", "c"].map(|id| format!("{}\n", question(id))).concat();
        fs::write(folder.path().join("val.jsonl"), questions).expect("write");
        run(command("glm-prep").arg("ingest").arg(folder.path())).success();
        fs::create_dir(folder.path().join("run")).expect("folder");
        fs::write(folder.path().join("run/metrics.jsonl"), "{\"kind\":\"train\",\"step\":1,\"samples\":8,\"loss\":2.0}\n")
            .expect("write");
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn scorer(&self, name: &str) -> Command {
        let mut command = command("glm-trainer");
        command.args([name, "--device", "cpu", "--split", "val", "--set", "model.heads=2", "--init"]);
        command.arg(fixtures().join("golden/model/full-vocab/blocklm-tiny")).arg("--data").arg(self.folder.path());
        command
    }

    fn predict(&self, out: &Path) -> Command {
        let mut command = self.scorer("predict");
        command.arg("--out").arg(out);
        command
    }

    fn eval(&self, scores: &Path) -> Command {
        let mut command = self.scorer("eval");
        command.arg("--scores").arg(scores);
        command
    }

    fn run_report(&self, out: &Path) -> Command {
        let mut command = command("glm-trainer");
        command.arg("report").arg(self.path("run")).arg("--out").arg(out);
        command
    }

    fn data_report(&self, out: &Path) -> Command {
        let mut command = command("glm-prep");
        command.arg("report").arg(self.folder.path()).arg("--out").arg(out);
        command
    }

    fn convert(&self, output: &Path) -> Command {
        let mut command = command("glm-trainer");
        command.arg("convert").arg(fixtures().join("golden/model/full-vocab/blocklm-tiny")).arg(output);
        command.args(["--heads", "2", "--force"]);
        command
    }

    /// Every command with a file to write.
    fn all(&self, out: &Path) -> [Command; 4] {
        [self.predict(out), self.eval(out), self.run_report(out), self.data_report(out)]
    }
}

/// Answers of `predict`, in the order of the raw data.
fn assert_answers(text: &str) {
    let ids: Vec<Value> = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("json")["id"].clone()).collect();
    assert_eq!(ids, ["b", "a", "c"], "{text}");
}

#[track_caller]
fn assert_refused(finished: &Finished, text: &str) {
    assert_eq!(finished.code(), Some(1), "{}", finished.stderr());
    assert_eq!(finished.stderr().matches(text).count(), 1, "{}", finished.stderr());
    assert_eq!(finished.stdout(), "");
}

#[test]
fn devices_stay_devices_and_a_full_one_is_an_error() {
    let place = Place::new();
    for device in ["/dev/full", "/dev/null"] {
        for mut command in place.all(Path::new(device)) {
            let finished = run(&mut command);
            if device == "/dev/full" {
                assert_refused(&finished, "cannot write /dev/full: No space left on device");
            } else {
                finished.success();
            }
            assert!(fs::symlink_metadata(device).expect("metadata").file_type().is_char_device(), "{command:?}");
        }
    }
}

#[test]
fn a_fifo_is_written_to() {
    let place = Place::new();
    for (number, mut command) in place.all(&place.path("pipe")).into_iter().enumerate() {
        let pipe = place.path("pipe");
        run(Command::new("mkfifo").arg(&pipe)).success();
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || fs::read_to_string(pipe).expect("read")
        });
        run(&mut command).success();
        let text = reader.join().expect("reader");
        assert!(if number < 2 { text.lines().count() == 3 } else { text.starts_with("<!DOCTYPE html>") }, "{text}");
        assert!(fs::symlink_metadata(&pipe).expect("metadata").file_type().is_fifo());
        fs::remove_file(pipe).expect("remove");
    }
    run(Command::new("mkfifo").arg(place.path("weights.safetensors"))).success();
    let weights = run(&mut place.convert(&place.path("weights.safetensors")));
    assert_refused(&weights, "it is a FIFO, but the output must be a file");
}

#[test]
fn the_target_of_a_link_is_replaced() {
    let place = Place::new();
    let (target, link) = (place.path("target"), place.path("link.safetensors"));
    symlink("target", &link).expect("link");
    for mut command in place.all(&link).into_iter().chain([place.convert(&link)]) {
        fs::write(&target, "old").expect("write");
        run(&mut command).success();
        assert!(fs::symlink_metadata(&link).expect("metadata").is_symlink(), "{command:?}");
        assert!(fs::read(&target).expect("read").len() > 100, "{command:?}");
    }
}

#[test]
fn a_dash_is_standard_output_and_nothing_else_goes_there() {
    let place = Place::new();
    let dash = Path::new("-");
    let predict = run(place.predict(dash).current_dir(place.folder.path())).success();
    assert_answers(&predict.stdout());
    assert!(predict.stderr().contains("3 answers\n"), "{}", predict.stderr());

    let eval = run(place.eval(dash).arg("--json").current_dir(place.folder.path())).success();
    assert_eq!(eval.stdout().lines().count(), 3);
    assert!(eval.stdout().lines().all(|line| serde_json::from_str::<Value>(line).expect("json")["choices"].is_array()));
    assert!(eval.stderr().lines().any(|line| line.starts_with('{') && line.contains("\"accuracy\":")), "{}", eval.stderr());

    for mut command in [place.run_report(dash), place.data_report(dash)] {
        let page = run(command.current_dir(place.folder.path())).success().stdout();
        assert!(page.starts_with("<!DOCTYPE html>") && page.trim_end().ends_with("</html>"), "{page}");
    }
    assert!(!place.path("-").exists());

    let both = run(place.predict(dash).args(["--scores", "/dev/stdout"]));
    assert_refused(&both, "--out and --scores are both -");
    assert_refused(&run(&mut place.convert(dash)), "weights cannot be written to standard output");
    let sample = run(command("glm-prep").args(["sample", "--passages", "1", "--out", "-"]).current_dir(place.folder.path()));
    assert_refused(&sample, "cannot be written to standard output");
}

#[test]
fn a_process_substitution_gets_the_lines() {
    let place = Place::new();
    let out = place.path("copy.jsonl");
    let predict = place.predict(Path::new("/dev/null"));
    let mut bash = Command::new("bash");
    // All but the last two, which are --out.
    bash.args(["-c", r#"out=$1; shift; "$@" --out >(cat >"$out") && wait $!"#, "bash"]).arg(&out);
    let arguments: Vec<_> = predict.get_args().collect();
    bash.arg(predict.get_program()).args(&arguments[..arguments.len() - 2]);
    bash.env_remove("GLM_DATA_DIR").env("OMP_NUM_THREADS", "1");
    run(&mut bash).success();
    assert_answers(&fs::read_to_string(out).expect("read"));
}

#[test]
fn standard_output_that_is_a_file_keeps_what_it_had() {
    let place = Place::new();
    let log = place.path("log");
    fs::write(&log, "before\n").expect("write");
    let file = fs::OpenOptions::new().append(true).open(&log).expect("open");
    let status = place.predict(Path::new("/dev/stdout")).stdout(file).status().expect("start");
    assert!(status.success());
    assert_answers(fs::read_to_string(&log).expect("read").strip_prefix("before\n").expect("kept"));
}

#[test]
fn folders_are_refused_at_once() {
    let place = Place::new();
    for mut command in place.all(place.folder.path()) {
        assert_refused(&run(&mut command), " is a folder; specify a file, such as ");
    }
    for mut command in place.all(&place.path("no/such")) {
        assert_refused(&run(&mut command), "no/such: folder ");
    }
    // Mistakes show before the weights are read.
    let early = run(command("glm-trainer").args(["predict", "--init", "/nonexistent", "--out"]).arg(place.folder.path()));
    assert_refused(&early, " is a folder");
    // A file in the place of a corpus.
    let file = place.path("out/ReCoRD/train.jsonl");
    fs::create_dir_all(&file).expect("folder");
    let sample = run(command("glm-prep").args(["sample", "--passages", "1", "--force", "--out"]).arg(place.path("out")));
    assert_refused(&sample, "train.jsonl is a folder");
}

#[test]
fn a_replaced_file_keeps_its_permissions() {
    use std::os::unix::fs::PermissionsExt;

    let place = Place::new();
    let out = place.path("private.jsonl");
    fs::write(&out, "old").expect("write");
    fs::set_permissions(&out, fs::Permissions::from_mode(0o600)).expect("chmod");
    run(&mut place.predict(&out)).success();
    assert_eq!(json_lines(&out).len(), 3);
    assert_eq!(fs::metadata(&out).expect("metadata").permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_terminal_shows_progress() {
    let place = Place::new();
    for (command, part) in
        [(place.eval(&place.path("x")), "evaluating val"), (place.predict(&place.path("y")), "answering val")]
    {
        let words: Vec<_> =
            [command.get_program()].into_iter().chain(command.get_args()).map(|word| word.to_string_lossy()).collect();
        // util-linux: runs a command on a terminal.
        let mut terminal = Command::new("script");
        terminal.args(["-qec", &words.join(" "), "/dev/null"]).env("TERM", "xterm").env("OMP_NUM_THREADS", "1");
        let shown = run(&mut terminal).success().stdout();
        assert!(shown.contains(part) && shown.contains("3/3 questions"), "{shown}");
    }
}

#[test]
fn reports_have_a_result_for_programs() {
    let place = Place::new();
    let records = [
        r#"{"kind":"train","step":1,"samples":8,"loss":2.0}"#,
        r#"{"kind":"eval","step":1,"samples":8,"accuracy":0.75,"hits":3,"questions":4,"seconds":0.1}"#,
        r#"{"kind":"eval","step":2,"samples":16,"accuracy":0.5,"hits":2,"questions":4,"seconds":0.1}"#,
    ];
    fs::write(place.path("run/metrics.jsonl"), records.join("\n") + "\n").expect("write");
    let page = place.path("run.html");
    let printed = run(place.run_report(&page).arg("--json")).success().stdout();
    let expected = json!({
        "page": page, "run": place.path("run"), "step": 2, "trained_questions": 16, "in_progress": false, "data": null,
        "fingerprint": null, "checkpoints": {}, "tokens_per_second": null, "model_flops_per_second": null, "utilisation": null,
        "latest": {"step": 2, "accuracy": 0.5, "hits": 2, "questions": 4},
        "best": {"step": 1, "accuracy": 0.75, "hits": 3, "questions": 4},
    });
    assert_eq!(serde_json::from_str::<Value>(&printed).expect("one object"), expected);

    let page = place.path("data.html");
    let printed: Value =
        serde_json::from_str(&run(place.data_report(&page).arg("--json")).success().stdout()).expect("one object");
    let manifest: Value = serde_json::from_slice(&fs::read(place.path("shards/manifest.json")).expect("read")).expect("json");
    let expected = json!({
        "page": page, "shards": place.path("shards"), "fingerprint": manifest["fingerprint"],
        "splits": [{"split": "val", "questions": 3}],
    });
    assert_eq!(printed, expected);
    // The page alone goes to standard output.
    let both = run(place.data_report(Path::new("-")).arg("--json")).success();
    assert!(both.stdout().ends_with("</html>") && both.stderr().contains("\"splits\":"), "{}", both.stderr());
}
