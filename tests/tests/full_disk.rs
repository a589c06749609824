//! `glm-trainer run` on a full disk: existing checkpoints are kept, and with more space the same command resumes from them.

use std::path::Path;
use std::process::Command;

use glm_tests::run;
use glm_tests::training::{corpus, remains, set, trainer};

/// Space for one and a half checkpoints of the model (weights and two moment estimates, 12 MB).
const SMALL: &str = "18m";

/// Returns true if this process may mount a file system in a private namespace; otherwise reports on stderr that the test is skipped.
fn can_mount() -> bool {
    let tried = Command::new("unshare").args(["-rm", "sh", "-c", "mount -t tmpfs tmpfs /tmp"]).output();
    let can = tried.as_ref().is_ok_and(|output| output.status.success());
    if !can {
        eprintln!("skipped: cannot mount a file system in a private namespace: {tried:?}");
    }
    can
}

/// Runs the command on a small disk, and again after enlarging the disk. `folder` then contains the output (`log-1`), the exit
/// code (`code-1`) and a copy of the run folder (`run-1`) of each.
fn on_a_small_disk(command: &Command, disk: &Path, folder: &Path) {
    let script = r#"
        disk=$1 folder=$2
        shift 2
        mount -t tmpfs -o size=$SMALL tmpfs "$disk" || exit 9
        for time in 1 2; do
            "$@" 2>"$folder/log-$time"
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
fn a_full_disk_keeps_existing_checkpoints() {
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
    let log = text("log-1");
    assert_eq!(text("code-1"), "1\n", "{log}");
    let error = log.lines().rfind(|line| line.contains("ERROR")).unwrap_or_else(|| panic!("no error in {log}"));
    assert!(error.contains("No space left on device") && error.contains("step-"), "{error}");
    // The first checkpoint is intact and the latest; the partial second one has been removed.
    let mut names: Vec<_> = std::fs::read_dir(kept.join("run-1/checkpoints"))
        .expect("list")
        .map(|entry| entry.expect("entry").file_name().into_string().expect("name"))
        .collect();
    names.sort();
    assert_eq!(names, ["latest", "step-00000004"]);

    let log = text("log-2");
    assert_eq!(text("code-2"), "0\n", "{log}");
    assert!(log.contains("resuming from") && log.contains("step-00000004"), "{log}");
    assert!(remains(&kept.join("run-2")) == remains(&whole));
}
