//! Runs the body of a test on several ranks, each a process of its own.

use std::process::{Child, Command, ExitStatus, Stdio};
use std::rc::Rc;
use std::time::Duration;

use libtorch_ext::distributed::{GroupOptions, ProcessGroup, Store, StoreOptions, available};
use tch::Tensor;

/// Tells a process that it is a rank: "rank/world size/port of the store".
const VARIABLE: &str = "LIBTORCH_EXT_TEST_RANK";

/// Everything may take so many times as long; `scripts/valgrind` sets it, which slows processes down.
const SLOWNESS: &str = "LIBTORCH_EXT_TEST_SLOWNESS";

fn slowed(duration: Duration) -> Duration {
    duration * std::env::var(SLOWNESS).map_or(1, |factor| factor.parse().expect("a number"))
}

/// No test may last longer.
fn patience() -> Duration {
    slowed(Duration::from_secs(20))
}

/// More than enough to notice that a connection was closed, and less than the patience of a test.
pub(crate) fn long() -> Duration {
    slowed(Duration::from_secs(15))
}

/// How long a rank that hangs is waited for. Those that come do so within this even where the machine is busy: they meet
/// in the store before.
pub(crate) fn short() -> Duration {
    slowed(Duration::from_millis(1500))
}

/// One of several processes, as the body of a test sees it.
pub(crate) struct Rank {
    pub(crate) rank: usize,
    pub(crate) world_size: usize,
    /// Served by the process that started the ranks, so that it outlives each of them.
    pub(crate) store: Store,
}

impl Rank {
    /// Waits in the store until all of `ranks` are there; once a test.
    pub(crate) fn meet(&self, ranks: &[usize]) {
        self.store.set(&format!("met/{}", self.rank), b"").expect("the store");
        let keys: Vec<String> = ranks.iter().map(|rank| format!("met/{rank}")).collect();
        self.store.wait(&keys.iter().map(String::as_str).collect::<Vec<_>>(), patience()).expect("all come");
    }

    /// The group of all ranks.
    pub(crate) fn group(&self, timeout: Duration) -> Rc<ProcessGroup> {
        self.group_named("world", timeout)
    }

    /// Another group of all ranks, of the same name on each.
    pub(crate) fn group_named(&self, name: &str, timeout: Duration) -> Rc<ProcessGroup> {
        let options = GroupOptions { name: name.into(), timeout, ..GroupOptions::default() };
        Rc::new(ProcessGroup::new(&self.store, self.rank, self.world_size, &options).expect("a group"))
    }
}

/// Runs `body` on that many ranks and expects all of them to end well. `test` is the path of the test that calls this.
pub(crate) fn on_ranks(test: &str, world_size: usize, body: impl FnOnce(&Rank)) {
    on_ranks_that_end(test, world_size, body, |rank, status| assert!(status.success(), "rank {rank}: {status}"));
}

/// Runs `body` on that many ranks and shows to `check` how each ended.
pub(crate) fn on_ranks_that_end(test: &str, world_size: usize, body: impl FnOnce(&Rank), check: impl Fn(usize, ExitStatus)) {
    if let Ok(told) = std::env::var(VARIABLE) {
        return run_as_rank(&told, body);
    }
    if let Err(unavailable) = available() {
        return eprintln!("not tested: {unavailable}");
    }
    let store = Store::serve(&StoreOptions { port: 0, ..StoreOptions::default() }).expect("a store");
    let ranks = (0..world_size).map(|rank| start(test, &format!("{rank}/{world_size}/{}", store.port()))).collect();
    for (rank, status) in wait(ranks).into_iter().enumerate() {
        check(rank, status);
        let ran = store.check(&[&format!("ran/{rank}")]).expect("the store");
        assert!(ran, "rank {rank} has not run a test: is this one called {test}?");
    }
}

fn wait(ranks: Vec<Child>) -> Vec<ExitStatus> {
    ranks.into_iter().map(|mut rank| rank.wait().expect("a status")).collect()
}

/// A process that runs this one test.
fn start(test: &str, rank: &str) -> Child {
    Command::new(std::env::current_exe().expect("this program"))
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(VARIABLE, rank)
        // Two ranks a core.
        .env("OMP_NUM_THREADS", "1")
        .env("OMP_WAIT_POLICY", "passive")
        .stdout(Stdio::null())
        .spawn()
        .expect("a process")
}

fn run_as_rank(told: &str, body: impl FnOnce(&Rank)) {
    // Whatever hangs ends: the process that started this one waits for it.
    std::thread::spawn(|| {
        std::thread::sleep(patience());
        eprintln!("still running after {:?}", patience());
        std::process::abort();
    });
    let mut parts = told.split('/').map(|part| part.parse::<usize>().expect("a number"));
    let mut next = || parts.next().expect("three numbers");
    let (rank, world_size, port) = (next(), next(), next() as u16);
    let options = StoreOptions { port, world_size, timeout: patience(), ..StoreOptions::default() };
    let store = Store::connect(&options).expect("the store");
    store.set(&format!("ran/{rank}"), b"").expect("the store");
    body(&Rank { rank, world_size, store });
}

/// Its numbers, end to end.
pub(crate) fn numbers(tensor: &Tensor) -> Vec<f64> {
    Vec::try_from(tensor.reshape([-1])).expect("numbers")
}
