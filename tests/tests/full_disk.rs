//! `glm-trainer run` where the disk becomes full: what was saved stays, and with more room the same command goes on from there.

use std::path::Path;
use std::process::Command;

use glm_tests::run;
use glm_tests::training::{corpus, remains, set, trainer};

/// Room for one checkpoint of the model (its weights and two averages, 12 MB) and half of another one.
const SMALL: &str = "18m";

/// Whether this process may mount a small disk that only its children see; if not, says on stderr that the test is skipped.
fn can_mount() -> bool {
    let tried = Command::new("unshare").args(["-rm", "sh", "-c", "mount -t tmpfs tmpfs /tmp"]).output();
    let can = tried.as_ref().is_ok_and(|output| output.status.success());
    if !can {
        eprintln!("skipped: this machine does not let a test mount a small disk of its own: {tried:?}");
    }
    can
}

/// Runs the command on a small disk, and again when the disk has grown. `folder` then holds what each has said (`said-1`), its
/// exit code (`code-1`), and the run's folder behind it (`run-1`).
fn on_a_small_disk(command: &Command, disk: &Path, folder: &Path) {
    let script = r#"
        disk=$1 folder=$2
        shift 2
        mount -t tmpfs -o size=$SMALL tmpfs "$disk" || exit 9
        for time in 1 2; do
            "$@" 2>"$folder/said-$time"
            echo $? >"$folder/code-$time"
            cp -r "$disk/run" "$folder/run-$time"
            mount -o remount,size=256m "$disk" || exit 9
        done
    "#;
    let mut shell = Command::new("unshare");
    shell.args(["-rm", "sh", "-c", script, "sh"]).arg(disk).arg(folder).arg(command.get_program()).args(command.get_args());
    shell.env("SMALL", SMALL).env("OMP_NUM_THREADS", "1").env_remove("GLM_DATA_DIR");
    run(&mut shell).success();
}

#[test]
fn a_full_disk_costs_no_checkpoint_that_was_written() {
    if !can_mount() {
        return;
    }
    let folder = tempfile::tempdir().expect("folder");
    let [data, disk, kept] = ["data", "disk", "kept"].map(|name| folder.path().join(name));
    for folder in [&data, &disk, &kept] {
        std::fs::create_dir(folder).expect("folder");
    }
    corpus(&data);
    let command = |out: &Path| {
        let mut command = trainer(&data, out);
        set(&mut command, &["train.save_every=32", "train.eval_every=0"]).args(["--max-steps", "12"]);
        command
    };
    let whole = folder.path().join("whole");
    run(&mut command(&whole)).success();

    on_a_small_disk(&command(&disk.join("run")), &disk, &kept);
    let text = |name: &str| std::fs::read_to_string(kept.join(name)).expect(name);
    assert_eq!(text("code-1"), "1\n", "{}", text("said-1"));
    let said = text("said-1");
    let error = said.lines().rfind(|line| line.contains("ERROR")).unwrap_or_else(|| panic!("no error in {said}"));
    assert!(error.contains("No space left on device") && error.contains("step-"), "{error}");
    // The first checkpoint is whole and the newest; of the second nothing is left that takes up room.
    let mut names: Vec<_> = std::fs::read_dir(kept.join("run-1/checkpoints"))
        .expect("list")
        .map(|entry| entry.expect("entry").file_name().into_string().expect("name"))
        .collect();
    names.sort();
    assert_eq!(names, ["latest", "step-00000004"]);

    assert_eq!(text("code-2"), "0\n", "{}", text("said-2"));
    assert!(text("said-2").contains("going on from") && text("said-2").contains("step-00000004"), "{}", text("said-2"));
    assert!(remains(&kept.join("run-2")) == remains(&whole));
}
