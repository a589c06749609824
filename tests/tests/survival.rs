//! A run of `glm-trainer run` that is killed at any moment and repeated ends like an undisturbed run, bit for bit.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use glm_tests::processes::{Running, descendants, runs, several_processes_can_train, signal};
use glm_tests::run;
use glm_tests::training::{remains, set, sized_corpus, small_model};

fn corpus(folder: &Path) {
    sized_corpus(folder, 40, 30, 5);
}

/// A run across the end of an epoch, with frequent evaluations and checkpoints.
fn settings(data: &Path, out: &Path) -> Command {
    let mut command = small_model(data, out);
    set(&mut command, &["train.save_every=24", "train.eval_every=64"]);
    command
}

/// The same with a limit, a seed and random weights.
fn trainer(data: &Path, out: &Path) -> Command {
    let mut command = settings(data, out);
    command.args(["--max-steps", "24", "--seed", "3", "--init", "random"]);
    command
}

fn start(command: &mut Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("start")
}

/// Kills a run as soon as `now` returns true. Returns true if that was before its end.
fn kill_when(mut child: Child, mut now: impl FnMut() -> bool) -> bool {
    while child.try_wait().expect("wait").is_none() {
        if now() {
            child.kill().expect("kill");
            return !child.wait().expect("wait").success();
        }
        std::thread::yield_now();
    }
    false
}

fn lines(out: &Path) -> usize {
    fs::read_to_string(out.join("metrics.jsonl")).map_or(0, |text| text.lines().count())
}

/// Returns true if a checkpoint is being written.
fn is_writing(out: &Path) -> bool {
    let names = fs::read_dir(out.join("checkpoints")).into_iter().flatten().flatten();
    names.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with(".writing-"))
}

#[test]
fn a_killed_and_repeated_run_ends_like_an_undisturbed_one() {
    let folder = tempfile::tempdir().expect("folder");
    corpus(folder.path());
    let whole = folder.path().join("whole");
    run(&mut trainer(folder.path(), &whole)).success();
    let expected = remains(&whole);
    let evaluations = expected.2.iter().filter(|line| line.starts_with("\"eval\"")).count();
    assert!(evaluations >= 3, "{:?}", expected.2);

    // After some lines of metrics (steps, end of an epoch, evaluations), and while a checkpoint is being written.
    let out = folder.path().join("killed");
    let mut kills = 0;
    for after in [1, 4, 8, 12, 17, 19, 23] {
        kills += usize::from(kill_when(start(&mut trainer(folder.path(), &out)), || lines(&out) >= after));
    }
    for _ in 0..4 {
        let writing = folder.path().join("writing");
        let before = lines(&writing);
        kills += usize::from(kill_when(start(&mut trainer(folder.path(), &writing)), || {
            lines(&writing) > before && is_writing(&writing)
        }));
    }
    assert!(kills >= 5, "only {kills} kills came before the end");
    for out in [out, folder.path().join("writing")] {
        run(&mut trainer(folder.path(), &out)).success();
        assert!(remains(&out) == expected, "{}: {:#?}", out.display(), remains(&out).2);
    }
    // Once more, with nothing left to do.
    let start = Instant::now();
    let again = run(&mut trainer(folder.path(), &whole)).success();
    assert!(
        remains(&whole) == expected && again.stderr().contains("nothing to do: "),
        "{} in {:?}",
        again.stderr(),
        start.elapsed()
    );
}

#[test]
fn a_damaged_checkpoint_is_passed_over() {
    let folder = tempfile::tempdir().expect("folder");
    corpus(folder.path());
    let [whole, out] = ["whole", "damaged"].map(|name| folder.path().join(name));
    run(&mut trainer(folder.path(), &whole)).success();
    run(&mut trainer(folder.path(), &out)).success();
    let checkpoints = out.join("checkpoints");
    let latest = checkpoints.join(fs::read_to_string(checkpoints.join("latest")).expect("latest"));
    for damage in ["cut", "flipped", "missing"] {
        let file = latest.join("optimizer.safetensors");
        let mut bytes = fs::read(&file).expect("read");
        match damage {
            "cut" => bytes.truncate(bytes.len() / 2),
            _ => *bytes.last_mut().expect("a byte") ^= 1,
        }
        match damage {
            "missing" => fs::remove_file(&file).expect("remove"),
            _ => fs::write(&file, bytes).expect("write"),
        }
        let again = run(&mut trainer(folder.path(), &out)).success();
        let text = again.stderr();
        assert!(text.contains("a later checkpoint is damaged") && text.contains("optimizer.safetensors"), "{text}");
        assert!(remains(&out) == remains(&whole), "{damage}: {:#?}", remains(&out).2);
    }
    // Deleted metrics are restored from the checkpoint; without a complete checkpoint the run fails.
    fs::remove_file(out.join("metrics.jsonl")).expect("remove");
    run(&mut trainer(folder.path(), &out)).success();
    assert!(remains(&out) == remains(&whole));
    for entry in fs::read_dir(&checkpoints).expect("list").flatten().filter(|entry| entry.path().is_dir()) {
        fs::remove_file(entry.path().join("SHA256SUMS")).expect("remove");
    }
    let none = run(&mut trainer(folder.path(), &out));
    assert!(none.code() == Some(1) && none.stderr().contains("all checkpoints in "), "{}", none.stderr());
}

#[test]
fn another_run_in_the_same_folder_is_refused_with_the_differences() {
    let folder = tempfile::tempdir().expect("folder");
    corpus(folder.path());
    let out = folder.path().join("run");
    let finish = |arguments: &str| run(settings(folder.path(), &out).args(arguments.split(' ')));
    finish("--max-steps 3 --seed 3 --init random").success();
    let refused = |arguments: &str, texts: &[&str]| {
        let finished = finish(arguments);
        assert_ne!(finished.code(), Some(0), "{arguments}: {}", finished.stderr());
        for text in texts {
            assert!(finished.stderr().contains(text), "{arguments}: {text:?} in {}", finished.stderr());
        }
    };
    refused("--max-steps 24 --seed 3", &["already holds a run", "train.max_steps is 24 instead of 3", "--resume"]);
    let lr = "--max-steps 3 --seed 3 --set optim.lr=0.5";
    refused(lr, &["optim.lr is 0.5 instead of 0.001", "--resume --allow optim.lr"]);
    refused(&format!("{lr} --resume"), &["optim.lr is 0.5 instead of 0.001"]);
    refused("--max-steps 3 --seed 4 --resume", &["cannot change", "train.seed is 4 instead of 3"]);
    refused("--seed 4 --resume --allow train.seed", &["--allow train.seed: this cannot change"]);
    refused("--resume --allow optim.speed", &["--allow optim.speed: unknown setting"]);
    refused("--max-steps 3 --seed 3 --init elsewhere", &["started from the weights random"]);
    // Settings that do not affect what is learned may differ, and so may those named by --allow.
    finish("--max-steps 3 --seed 3 --set data.decode_threads=1").success();
    finish("--max-steps 5 --seed 3 --resume").success();
    finish("--max-steps 6 --seed 3 --resume --allow optim.lr --set optim.lr=0.5").success();
}

#[test]
fn signals_end_a_run_with_a_checkpoint_and_two_runs_cannot_share_a_folder() {
    let folder = tempfile::tempdir().expect("folder");
    corpus(folder.path());
    for name in ["INT", "TERM", "USR1", "HUP"] {
        let out = folder.path().join(name);
        let endless = ["--init", "random", "--set", "train.epochs=100000"];
        let log = folder.path().join(format!("{name}.log"));
        let mut running = Running::start(settings(folder.path(), &out).args(endless), log);
        running.until("some steps are done", || (lines(&out) >= 3).then_some(()));
        let other = run(settings(folder.path(), &out).args(endless));
        assert!(other.code() == Some(1) && other.stderr().contains("another process trains in "), "{}", other.stderr());
        signal(running.pid(), name);
        running.ends_with(75);
        assert!(!remains(&out).2.is_empty());
    }
}

/// Returns true if there is a checkpoint that a run can be resumed from.
fn has_checkpoint(out: &Path) -> bool {
    fs::read_to_string(out.join("checkpoints/latest")).is_ok_and(|name| out.join("checkpoints").join(name).is_dir())
}

/// Exit handlers of libtorch that ran while other threads computed once crashed the process.
#[test]
fn second_ctrl_c_exits_at_once_with_its_own_code() {
    let folder = tempfile::tempdir().expect("folder");
    corpus(folder.path());
    let ways: &[&[&str]] = if several_processes_can_train() { &[&[], &["--nproc", "2"]] } else { &[&[]] };
    for (way, processes) in ways.iter().enumerate() {
        let mut aborted = 0;
        for attempt in 0..12 {
            let name = format!("{way}-{attempt}");
            let out = folder.path().join(&name);
            // Large steps, so that the second signal arrives during one.
            let mut command = settings(folder.path(), &out);
            set(command.args(["--init", "random"]).args(*processes), &["train.epochs=100000", "data.batch_size=64"]);
            let mut running = Running::start(&mut command, folder.path().join(format!("{name}.log")));
            running.until("a step is done", || (lines(&out) > 0).then_some(()));
            let workers = descendants(running.pid());
            signal(running.pid(), "INT");
            std::thread::sleep(Duration::from_millis(2 + 3 * attempt));
            // It may have ended.
            let _sent = Command::new("kill").args(["-INT", &running.pid().to_string()]).stderr(Stdio::null()).status();
            let code = running.end().code();
            let output = running.output();
            assert!(!output.contains("killed by"), "{output}");
            assert!(!workers.into_iter().any(runs), "a rank is still running:\n{output}");
            match code {
                Some(130) => aborted += 1,
                // The step and its checkpoint were faster than the second signal.
                Some(75) => assert!(has_checkpoint(&out), "{output}"),
                code => panic!("{code:?}: {output}"),
            }
        }
        assert!(aborted > 0, "{processes:?}: every second signal came too late");
    }
}

/// A signal may come while the program loads, before the first step, during an evaluation or while it writes a checkpoint.
#[test]
fn the_exit_code_of_an_interrupted_run_says_whether_there_is_a_checkpoint() {
    let folder = tempfile::tempdir().expect("folder");
    corpus(folder.path());
    let ways: &[&[&str]] = if several_processes_can_train() { &[&[], &["--nproc", "2"]] } else { &[&[]] };
    for (way, processes) in ways.iter().enumerate() {
        for (attempt, delay) in [0, 5, 20, 40, 80, 120, 200, 300, 450, 700].into_iter().enumerate() {
            let name = format!("{way}-{attempt}");
            let out = folder.path().join(&name);
            let mut command = settings(folder.path(), &out);
            set(command.args(["--init", "random"]).args(*processes), &["train.epochs=100000", "train.eval_every=8"]);
            let mut running = Running::start(&mut command, folder.path().join(format!("{name}.log")));
            std::thread::sleep(Duration::from_millis(delay));
            signal(running.pid(), "INT");
            let status = running.end();
            match (status.code(), status.signal()) {
                (Some(75), _) => assert!(has_checkpoint(&out), "{}", running.output()),
                // Ended before it had begun to watch for signals.
                (Some(130), _) | (None, Some(2)) => assert!(!has_checkpoint(&out), "{}", running.output()),
                _ => panic!("{status}: {}", running.output()),
            }
        }
    }
}

/// Signal handlers that ran during a matrix product once corrupted memory.
#[test]
fn signals_during_a_step_do_not_change_its_result() {
    let folder = tempfile::tempdir().expect("folder");
    corpus(folder.path());
    let out = |name: &str| folder.path().join(name);
    let one_step = |name: &str| {
        let mut command = settings(folder.path(), &out(name));
        // One step over the whole epoch, which takes a while.
        command.args(["--max-steps", "1", "--seed", "3", "--init", "random", "--set", "optim.grad_accumulation=100"]);
        command
    };
    run(&mut one_step("quiet")).success();
    let mut running = Running::start(&mut one_step("disturbed"), folder.path().join("signals.log"));
    let settings = out("disturbed").join("config.toml");
    running.until("it starts", || settings.is_file().then_some(()));
    let storm = format!("n=0; while kill -USR1 {} 2>/dev/null; do n=$((n + 1)); done; echo $n", running.pid());
    let storm = Command::new("sh").args(["-c", &storm]).stdout(Stdio::piped()).spawn().expect("signals");
    let status = running.end();
    let signals = storm.wait_with_output().expect("signals");
    let signals: u32 = String::from_utf8_lossy(&signals.stdout).trim().parse().expect("a number");
    let output = running.output();
    assert!(signals > 100, "{signals} signals came before the end");
    // The step is the last one, so the run is interrupted only if the first signal arrives before the step starts.
    assert!(matches!(status.code(), Some(0 | 75)), "{status}; {output}");
    let [quiet, disturbed] = ["quiet", "disturbed"].map(|name| remains(&out(name)));
    assert!((&disturbed.0, &disturbed.1) == (&quiet.0, &quiet.1), "{:?}", disturbed.2);
    match status.code() {
        Some(0) => assert_eq!(disturbed.2, quiet.2),
        // An interrupted run is not evaluated.
        _ => assert!(quiet.2.starts_with(&disturbed.2) && !disturbed.2.is_empty(), "{:?}", disturbed.2),
    }
}
