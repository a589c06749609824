//! Killed runs, full and read-only disks, files that change: the published data set is always either the complete old one or the
//! complete new one, and the next run cleans up.

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use glm_prep::ingest::IngestOptions;
use glm_prep::stats::{self, Extent};
use glm_prep::verify;
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

#[test]
fn remains_of_killed_runs_are_removed_even_if_nothing_has_changed() {
    let dir = support::raw_folder(&[(Split::Train, &passages(1))]);
    let ingest = || {
        let output = glm_prep().arg("ingest").arg(dir.path()).output().expect("run");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    ingest();
    // What a run leaves that is killed after it has published, and one that is killed while it works.
    let remains = dir.path().join(".shards.tmp-1");
    fs::create_dir_all(remains.join("data")).expect("folder");
    fs::write(remains.join("data/train-00000-of-00001.parquet"), "old").expect("write");
    fs::create_dir(dir.path().join(".shards.tmp-2.old")).expect("folder");
    let dry = glm_prep().arg("ingest").arg(dir.path()).arg("--dry-run").output().expect("run");
    assert!(dry.status.success() && remains.exists(), "a dry run changes nothing: {dry:?}");
    assert!(ingest().contains("nothing has changed"));
    assert_eq!(support::names(dir.path()), ["ReCoRD", "shards"]);
}

#[test]
fn a_stopped_run_removes_its_temporary_files() {
    let dir = support::raw_folder(&[(Split::Train, &passages(1))]);
    assert!(glm_prep().arg("ingest").arg(dir.path()).arg("-q").status().expect("run").success());
    let before = fingerprint_of_complete_set(dir.path());
    for (signal, partition) in [("-INT", None), ("-TERM", None), ("-INT", Some("0/2"))] {
        // The run waits for standard input, and therefore works until the signal arrives.
        let mut command = glm_prep();
        command.arg("ingest").arg(dir.path()).args(["--train", "-", "--format", "record"]);
        if let Some(part) = partition {
            command.args(["--partition", part]);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("run");
        let mut raw = child.stdin.take().expect("a pipe");
        raw.write_all(&passages(1)).expect("write");
        let is_temporary = |name: &String| name.starts_with(".shards.tmp-") || name.starts_with(".shards.parts");
        while !support::names(dir.path()).iter().any(is_temporary) {
            assert!(child.try_wait().expect("wait").is_none(), "the run ended early");
            std::thread::sleep(Duration::from_millis(5));
        }
        let pid = child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().expect("kill").success());
        let mut log = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut text = String::new();
        while !text.contains("stopping and removing the temporary files") {
            assert!(log.read_line(&mut text).expect("read") > 0, "{text}");
        }
        drop(raw);
        let output = child.wait_with_output().expect("wait");
        log.read_to_string(&mut text).expect("read");
        assert_eq!(output.status.code(), Some(130), "{signal} {partition:?}: {text}");
        let last = "glm-prep: stopped by a signal; nothing was published, and the temporary files are removed\n";
        assert!(text.ends_with(last), "{text}");
        assert!(output.stdout.is_empty(), "{output:?}");
        assert_eq!(fingerprint_of_complete_set(dir.path()), before);
        let names = support::names(dir.path());
        assert!(!names.iter().any(|name| name.starts_with(".shards.tmp-")), "{names:?}");
        let parts = dir.path().join(".shards.parts");
        assert!(!parts.exists() || support::names(&parts).is_empty());
        drop(fs::remove_dir(parts));
    }
}

/// Ingests the folder again and again, with other shards every time, while `read` reads it.
fn while_replaced(dir: &Path, times: usize, read: impl Fn() + Sync) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                read();
            }
        });
        let ingest = |time: usize| {
            let rows_per_shard = (10 + time).try_into().expect("some");
            support::run(&IngestOptions { rows_per_shard, ..IngestOptions::new(dir) })
        };
        let failed = (0..times).find_map(|time| ingest(time).err());
        // Before a failure ends the test, which waits for the reader.
        done.store(true, Ordering::Relaxed);
        reader.join().expect("the reader");
        assert!(failed.is_none(), "{failed:?}");
    });
}

#[test]
fn readers_do_not_mix_a_data_set_with_the_one_that_replaces_it() {
    let dir = support::raw_folder(&[(Split::Train, &passages(2)), (Split::Val, &passages(1))]);
    support::ingest_with(dir.path(), 1).expect("ingest");
    let questions = support::manifest(dir.path()).splits[&Split::Train].rows;
    while_replaced(dir.path(), 12, || {
        let report = verify::check(dir.path(), 2.try_into().expect("some")).expect("checked");
        assert!(report.sound, "{:?}", report.fault);
    });
    let extent = Extent { max_seq_len: None, max_target_len: 128, other_lengths: &[], max_sources: 10 };
    while_replaced(dir.path(), 12, || {
        assert_eq!(stats::count(dir.path(), &extent).expect("counted").splits[0].questions, questions);
    });
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
        stderr.starts_with("error: no space left on the device for ") && stderr.contains("(nothing was published)"),
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
    assert!(stderr.starts_with("error: cannot write ") && stderr.contains("Read-only file system"), "{stderr}");
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
