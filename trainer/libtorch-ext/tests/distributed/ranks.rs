//! Runs the body of a test on several ranks, each in its own process.

use std::process::{Child, Command, ExitStatus, Stdio};
use std::rc::Rc;
use std::time::Duration;

use libtorch_ext::distributed::{GroupOptions, ProcessGroup, Store, StoreOptions, available};
use tch::Tensor;

/// Environment variable set for the process of a rank: "rank/world size/port of the store".
const VARIABLE: &str = "LIBTORCH_EXT_TEST_RANK";

/// Environment variable with a factor for all timeouts. `scripts/valgrind` sets it, because valgrind slows processes down.
const SLOWNESS: &str = "LIBTORCH_EXT_TEST_SLOWNESS";

fn scaled(duration: Duration) -> Duration {
    duration * std::env::var(SLOWNESS).map_or(1, |factor| factor.parse().expect("a number"))
}

/// Maximum duration of a test.
fn test_timeout() -> Duration {
    scaled(Duration::from_secs(20))
}

/// A timeout that is long enough to notice a closed connection, and shorter than [`test_timeout`].
pub(crate) fn long() -> Duration {
    scaled(Duration::from_secs(15))
}

/// A timeout for waiting for a rank that hangs. Live ranks arrive earlier even on a busy machine, because they synchronize in
/// the store first.
pub(crate) fn short() -> Duration {
    scaled(Duration::from_millis(1500))
}

/// The rank on which the body of a test runs.
pub(crate) struct Rank {
    pub(crate) rank: usize,
    pub(crate) world_size: usize,
    /// Served by the parent process, so that it outlives every rank.
    pub(crate) store: Store,
}

impl Rank {
    /// Waits in the store until all ranks have called it. It may be called once per test.
    pub(crate) fn synchronize(&self) {
        let key = |rank: usize| format!("synchronized/{rank}");
        self.store.set(&key(self.rank), b"").expect("the store");
        let keys: Vec<String> = (0..self.world_size).map(key).collect();
        self.store.wait(&keys.iter().map(String::as_str).collect::<Vec<_>>(), test_timeout()).expect("all ranks");
    }

    /// Creates the group of all ranks.
    pub(crate) fn group(&self, timeout: Duration) -> Rc<ProcessGroup> {
        self.group_named("world", timeout)
    }

    /// Creates another group of all ranks.
    pub(crate) fn group_named(&self, name: &str, timeout: Duration) -> Rc<ProcessGroup> {
        let options = GroupOptions { name: name.into(), timeout, ..GroupOptions::default() };
        Rc::new(ProcessGroup::new(&self.store, self.rank, self.world_size, &options).expect("a group"))
    }
}

/// Runs `body` on `world_size` ranks and expects all of them to succeed. `test` is the path of the calling test.
pub(crate) fn on_ranks(test: &str, world_size: usize, body: impl FnOnce(&Rank)) {
    on_ranks_that_end(test, world_size, body, |rank, status| assert!(status.success(), "rank {rank}: {status}"));
}

/// Runs `body` on `world_size` ranks and calls `check` with the exit status of each.
pub(crate) fn on_ranks_that_end(test: &str, world_size: usize, body: impl FnOnce(&Rank), check: impl Fn(usize, ExitStatus)) {
    if let Ok(value) = std::env::var(VARIABLE) {
        return run_as_rank(&value, body);
    }
    if let Err(unavailable) = available() {
        return eprintln!("skipped: {unavailable}");
    }
    let store = Store::serve(&StoreOptions { port: 0, ..StoreOptions::default() }).expect("a store");
    let ranks = (0..world_size).map(|rank| start(test, &format!("{rank}/{world_size}/{}", store.port()))).collect();
    for (rank, status) in wait(ranks).into_iter().enumerate() {
        check(rank, status);
        let ran = store.check(&[&format!("ran/{rank}")]).expect("the store");
        assert!(ran, "rank {rank} did not run the test; its path must be {test}");
    }
}

fn wait(ranks: Vec<Child>) -> Vec<ExitStatus> {
    ranks.into_iter().map(|mut rank| rank.wait().expect("a status")).collect()
}

/// Starts a process that runs only this test.
fn start(test: &str, rank: &str) -> Child {
    Command::new(std::env::current_exe().expect("this program"))
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(VARIABLE, rank)
        // There may be more ranks than cores.
        .env("OMP_NUM_THREADS", "1")
        .env("OMP_WAIT_POLICY", "passive")
        .stdout(Stdio::null())
        .spawn()
        .expect("a process")
}

fn run_as_rank(value: &str, body: impl FnOnce(&Rank)) {
    // Ends a rank that hangs, because the parent process waits for it.
    std::thread::spawn(|| {
        std::thread::sleep(test_timeout());
        eprintln!("still running after {:?}", test_timeout());
        std::process::abort();
    });
    let mut parts = value.split('/').map(|part| part.parse::<usize>().expect("a number"));
    let mut next = || parts.next().expect("three numbers");
    let (rank, world_size, port) = (next(), next(), next() as u16);
    let options = StoreOptions { port, timeout: test_timeout(), ..StoreOptions::default() };
    let store = Store::connect(&options).expect("the store");
    store.set(&format!("ran/{rank}"), b"").expect("the store");
    body(&Rank { rank, world_size, store });
}

/// Returns all elements of a tensor.
pub(crate) fn numbers(tensor: &Tensor) -> Vec<f64> {
    Vec::try_from(tensor.reshape([-1])).expect("numbers")
}
