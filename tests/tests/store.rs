//! The store of several processes: stopped servers, strangers, and the secret. `distributed.timeout` holds whatever happens.

use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use glm_tests::processes::{Running, SECRET, by_hand, descendants, free_port, rank, runs, several_processes_can_train, signal};
use glm_tests::run;
use glm_tests::training::{corpus, endless, set, steps, until_it_trains};

/// Much longer than a timeout of some seconds takes on a busy machine, and shorter than a hang.
const BOUND: Duration = Duration::from_secs(150);

/// Starts an endless run of two ranks, and waits until it trains. Returns the launcher and the process ids of its ranks.
fn endless_pair(folder: &Path) -> (Running, [u32; 2]) {
    corpus(folder);
    let out = folder.join("run");
    let mut launcher = Running::start(endless(folder, &out).args(["--nproc", "2"]), folder.join("launcher.log"));
    until_it_trains(&mut launcher, &out);
    let ranks = [0, 1].map(|rank| launcher.worker(rank));
    (launcher, ranks)
}

/// Returns the value of a variable in the environment of a process.
fn variable(pid: u32, name: &str) -> String {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).expect("environment");
    let prefix = format!("{name}=");
    let mut entries = environment.split(|&byte| byte == 0).map(String::from_utf8_lossy);
    entries.find_map(|entry| entry.strip_prefix(&prefix).map(ToOwned::to_owned)).expect("the variable")
}

/// Opens connections to a store as strangers do, and keeps them.
fn strangers(port: u16) -> Vec<TcpStream> {
    let huge = [&[0xff; 8][..], &[0; 4096]].concat();
    let messages: [&[u8]; 5] = [b"", b"\0\x01", &[0], &huge, b"GET / HTTP/1.1\r\n\r\n"];
    let stranger = |message: &&[u8]| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
        stream.write_all(message).expect("a message");
        stream
    };
    messages.iter().map(stranger).collect()
}

#[test]
fn rank_0_that_is_stopped_is_named_by_the_others() {
    if !several_processes_can_train() {
        return;
    }
    let folder = tempfile::tempdir().expect("folder");
    corpus(folder.path());
    let out = folder.path().join("run");
    let mut ranks = by_hand(folder.path(), 3, |_| endless(folder.path(), &out));
    until_it_trains(&mut ranks[0], &out);
    signal(ranks[0].pid(), "STOP");
    let start = Instant::now();
    for running in &mut ranks[1..] {
        let output = running.ends_with(1);
        let last = output.lines().last().unwrap_or_default();
        let expected = "rank 0, which serves the store at 127.0.0.1:";
        assert!(last.contains(expected) && last.contains("has not responded for 5.0 s"), "{output}");
    }
    assert!(start.elapsed() < BOUND, "{:?}", start.elapsed());
}

#[test]
fn ranks_train_to_the_end_although_the_launcher_is_stopped() {
    if !several_processes_can_train() {
        return;
    }
    let folder = tempfile::tempdir().expect("folder");
    corpus(folder.path());
    let out = folder.path().join("run");
    let mut command = endless(folder.path(), &out);
    let mut launcher = Running::start(command.args(["--nproc", "2", "--max-steps", "100"]), folder.path().join("launcher.log"));
    until_it_trains(&mut launcher, &out);
    let workers = descendants(launcher.pid());
    assert_eq!(workers.len(), 2);
    signal(launcher.pid(), "STOP");
    let start = Instant::now();
    launcher.until("the ranks end", || workers.iter().all(|&pid| !runs(pid)).then_some(()));
    assert!(start.elapsed() < BOUND, "{:?}", start.elapsed());
    signal(launcher.pid(), "CONT");
    launcher.ends_with(0);
    assert_eq!(steps(&out).len(), 100);
}

#[test]
fn ranks_end_with_a_killed_one_although_the_launcher_is_stopped() {
    if !several_processes_can_train() {
        return;
    }
    let folder = tempfile::tempdir().expect("folder");
    let (mut launcher, [first, second]) = endless_pair(folder.path());
    signal(launcher.pid(), "STOP");
    signal(second, "KILL");
    let start = Instant::now();
    launcher.until("rank 0 ends", || (!runs(first)).then_some(()));
    assert!(start.elapsed() < BOUND, "{:?}", start.elapsed());
    signal(launcher.pid(), "CONT");
    let output = launcher.ends_with(1);
    assert!(output.contains("the launcher, which serves the store at 127.0.0.1:"), "{output}");
    let last = output.lines().last().unwrap_or_default();
    assert!(last.contains("rank 1 (host ") && last.contains("killed by SIGKILL (9)"), "{output}");
}

#[test]
fn the_launcher_leaves_no_stopped_rank_behind() {
    if !several_processes_can_train() {
        return;
    }
    let folder = tempfile::tempdir().expect("folder");
    let (mut launcher, [first, second]) = endless_pair(folder.path());
    signal(second, "STOP");
    let start = Instant::now();
    let output = launcher.ends_with(1);
    assert!(start.elapsed() < BOUND, "{:?}", start.elapsed());
    let last = output.lines().last().unwrap_or_default();
    assert!(last.contains("rank 1 (host ") && last.contains("has sent no heartbeat"), "{output}");
    assert!(!runs(first) && !runs(second), "a rank is still running:\n{output}");
}

#[test]
fn strangers_do_not_keep_a_run_from_its_end() {
    if !several_processes_can_train() {
        return;
    }
    let folder = tempfile::tempdir().expect("folder");
    corpus(folder.path());
    let out = folder.path().join("run");
    let mut command = endless(folder.path(), &out);
    let mut launcher = Running::start(command.args(["--nproc", "2", "--max-steps", "60"]), folder.path().join("launcher.log"));
    let worker = launcher.worker(1);
    let port = variable(worker, "MASTER_PORT").parse().expect("a port");
    // Before the ranks have met, and while they train.
    let before = strangers(port);
    until_it_trains(&mut launcher, &out);
    let while_training = strangers(port);
    let start = Instant::now();
    launcher.ends_with(0);
    assert!(start.elapsed() < BOUND, "{:?}", start.elapsed());
    assert_eq!(steps(&out).len(), 60);
    drop((before, while_training));
}

#[test]
fn ranks_with_another_secret_are_refused() {
    if !several_processes_can_train() {
        return;
    }
    let folder = tempfile::tempdir().expect("folder");
    corpus(folder.path());
    let out = folder.path().join("run");
    let port = free_port();
    let start = |number: usize, secret: Option<&str>| {
        let mut command = rank(endless(folder.path(), &out), number, 2, port);
        set(&mut command, &["distributed.timeout=60"]);
        match secret {
            Some(secret) => command.env("GLM_STORE_SECRET", secret),
            None => command.env_remove("GLM_STORE_SECRET"),
        };
        command
    };
    // It waits for rank 1 much longer than the others take.
    let _first = Running::start(set(&mut start(0, Some(SECRET)), &["distributed.timeout=600"]), folder.path().join("0.log"));
    for secret in [Some("another secret of an intruder"), None] {
        let ended = run(&mut start(1, secret));
        assert_eq!(ended.code(), Some(1));
        let expected = format!("rank 0, which serves the store at 127.0.0.1:{port}, has another secret than this process");
        assert!(ended.stderr().contains(&expected) && ended.stderr().contains("GLM_STORE_SECRET"), "{}", ended.stderr());
    }
}

#[test]
fn without_a_secret_a_store_is_for_one_machine_and_rank_0_warns() {
    if !several_processes_can_train() {
        return;
    }
    let folder = tempfile::tempdir().expect("folder");
    corpus(folder.path());
    let out = folder.path().join("run");
    let short = || {
        let mut command = endless(folder.path(), &out);
        command.args(["--max-steps", "2"]);
        command
    };
    // The address is one for documentation, which nobody has.
    let mut remote = rank(short(), 0, 2, free_port());
    let ended = run(remote.env_remove("GLM_STORE_SECRET").env("MASTER_ADDR", "192.0.2.1"));
    assert_eq!(ended.code(), Some(1));
    for part in ["GLM_STORE_SECRET is not set", "192.0.2.1:", "export GLM_STORE_SECRET=$(head -c 32 /dev/urandom | base64)"] {
        assert!(ended.stderr().contains(part), "{part}: {}", ended.stderr());
    }
    let port = free_port();
    let mut ranks = [0, 1].map(|number| {
        let mut command = rank(short(), number, 2, port);
        Running::start(command.env_remove("GLM_STORE_SECRET"), folder.path().join(format!("{number}.log")))
    });
    let [first, second] = ranks.each_mut().map(|rank| rank.ends_with(0));
    let warning = format!(
        "GLM_STORE_SECRET is not set: all users of this machine can read and write the store of this run at 127.0.0.1:{port}"
    );
    assert_eq!((first.matches(&warning).count(), second.matches(&warning).count()), (1, 0), "{first}\n{second}");
}
