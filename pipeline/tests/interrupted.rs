//! Killed runs, full and read-only disks, files that change: the published data set is always either the complete old one or the
//! complete new one, and the next run cleans up.

mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use glm_schemas::manifest::{Split, hex};
use sha2::{Digest, Sha256};

fn glm_prep() -> Command {
    Command::new(env!("CARGO_BIN_EXE_glm-prep"))
}

fn passages(times: i64) -> Vec<u8> {
    let path = support::repository().join("tests/fixtures/golden/cloze/passages.jsonl");
    support::renumbered(&fs::read(path).expect("passages"), times)
}

/// Checks that the published data set is complete and returns its fingerprint.
fn fingerprint_of_complete_set(dir: &Path) -> String {
    let manifest = support::manifest(dir);
    for shard in manifest.splits.values().flat_map(|split| &split.shards) {
        let bytes = fs::read(shard.path(&dir.join("shards"))).expect("a shard");
        assert_eq!(hex(&Sha256::digest(&bytes)), shard.sha256, "{}", shard.file);
    }
    manifest.fingerprint
}

#[test]
fn a_killed_run_leaves_the_old_or_the_new_data_set() {
    let dir = support::raw_folder(&[(Split::Train, &passages(1))]);
    let ingest = |rows: &str| {
        let mut command = glm_prep();
        command.arg("ingest").arg(dir.path()).args(["-q", "--rows-per-shard", rows]);
        command
    };
    assert!(ingest("50").status().expect("run").success());
    let mut old = fingerprint_of_complete_set(dir.path());
    fs::write(dir.path().join("ReCoRD/train.jsonl"), passages(40)).expect("write");
    let started = Instant::now();
    assert!(ingest("60").status().expect("run").success());
    let duration = started.elapsed();
    let mut outcomes = [0, 0];
    // Kills at pseudo-random times within the duration of a run. Consecutive runs write different numbers of rows per shard.
    let mut state = 0x9e37_79b9_u64;
    for round in 0..40 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let random = (state >> 33) as f64 / f64::from(1_u32 << 31);
        // Half of the kills are close to the time of publication.
        let wait = duration.mul_f64(if round % 4 < 2 { 1.2 * random } else { 0.9 + 0.6 * random });
        if round == 0 {
            old = fingerprint_of_complete_set(dir.path());
        }
        let mut child = ingest(if round % 2 == 0 { "70" } else { "60" }).spawn().expect("run");
        std::thread::sleep(wait);
        child.kill().expect("kill");
        child.wait().expect("wait");
        let now = fingerprint_of_complete_set(dir.path());
        outcomes[usize::from(now != old)] += 1;
        old = now;
    }
    eprintln!("{} runs were killed before they published, {} after", outcomes[0], outcomes[1]);
    assert!(outcomes[0] > 0, "no run was killed before it published");
    assert!(ingest("80").status().expect("run").success());
    assert_ne!(fingerprint_of_complete_set(dir.path()), old);
    assert_eq!(support::names(dir.path()), ["ReCoRD", "shards"]);
}

/// Runs a script in its own mount namespace, after the command `mount` has mounted something at `$DIR`. Returns `None` if mounting
/// is not permitted.
fn with_mount(mount: &str, script: &str) -> Option<Output> {
    let dir = tempfile::tempdir().expect("folder");
    let script = format!("{mount} || exit 77\n{script}");
    let run = |program: &[&str]| {
        let mut command = Command::new(program[0]);
        command
            .args(&program[1..])
            .args(["sh", "-c", &script])
            .env("DIR", dir.path())
            .env("GLM_PREP", env!("CARGO_BIN_EXE_glm-prep"));
        command.output().ok().filter(|output| output.status.code() != Some(77) && !not_allowed(output))
    };
    let output = run(&["unshare", "-m"]).or_else(|| run(&["unshare", "-r", "-m"]));
    if output.is_none() {
        eprintln!("skipped: mounting a file system is not permitted");
    }
    output
}

fn not_allowed(output: &Output) -> bool {
    String::from_utf8_lossy(&output.stderr).starts_with("unshare:")
}

#[test]
fn a_full_disk_leaves_the_old_data_set() {
    let raw = tempfile::tempdir().expect("folder");
    let (small, large) = (raw.path().join("small.jsonl"), raw.path().join("large.jsonl"));
    fs::write(&small, passages(1)).expect("write");
    fs::write(&large, passages(60)).expect("write");
    let script = format!(
        "$GLM_PREP ingest -q $DIR --train {} || exit 1\nsha256sum $DIR/shards/*.json $DIR/shards/data/* > /dev/shm/$$.before\n\
         $GLM_PREP ingest -q $DIR --train {}; echo code $?\nsha256sum $DIR/shards/*.json $DIR/shards/data/* | cmp - /dev/shm/$$.before && echo same\n\
         rm /dev/shm/$$.before; ls -A $DIR",
        small.display(),
        large.display()
    );
    let Some(output) = with_mount("mount -t tmpfs -o size=600k tmpfs $DIR", &script) else { return };
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(stdout, "code 1\nsame\nshards\n", "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(
        stderr.starts_with("glm-prep: no space left on the device for ") && stderr.contains("(nothing was published)"),
        "{stderr}"
    );
}

#[test]
fn a_read_only_folder_is_reported() {
    let raw = tempfile::tempdir().expect("folder");
    let file = raw.path().join("small.jsonl");
    fs::write(&file, passages(1)).expect("write");
    let script = format!("$GLM_PREP ingest -q $DIR --train {}; echo code $?; ls -A $DIR", file.display());
    let Some(output) = with_mount("mount -t tmpfs -o ro tmpfs $DIR", &script) else { return };
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(stdout, "code 1\n", "{stderr}");
    assert!(stderr.starts_with("glm-prep: cannot write ") && stderr.contains("Read-only file system"), "{stderr}");
}

#[test]
fn a_file_that_grows_while_it_is_read_is_reported() {
    // Appends continuously, like a copy in progress.
    let dir = support::raw_folder(&[(Split::Train, &passages(100))]);
    let path = dir.path().join("ReCoRD/train.jsonl");
    let mut child =
        glm_prep().arg("ingest").arg(dir.path()).arg("-q").stderr(std::process::Stdio::piped()).spawn().expect("run");
    let mut file = fs::File::options().append(true).open(&path).expect("open");
    let mut appended = 0_u32;
    while child.try_wait().expect("wait").is_none() {
        std::io::Write::write_all(&mut file, b"\n").expect("write");
        appended += 1;
        std::thread::sleep(Duration::from_micros(200));
    }
    let output = child.wait_with_output().expect("wait");
    let stderr = String::from_utf8_lossy(&output.stderr);
    // The file may have been read before the first change or opened after the last.
    if output.status.success() {
        eprintln!("the file was read between two of {appended} changes");
        return;
    }
    assert!(stderr.contains("ReCoRD/train.jsonl changed while it was read"), "{stderr}");
    assert!(!dir.path().join("shards").exists());
}
