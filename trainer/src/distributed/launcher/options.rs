//! Options and outcome of a launch.

use std::time::Duration;

/// Options for starting and stopping workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Number of workers; at least one.
    pub world_size: usize,
    /// True if the only worker is not to know of ranks: it trains as it would without a launcher.
    pub alone: bool,
    /// Maximum number of restarts after a failure.
    pub max_restarts: u32,
    /// Time from the failure of a worker to SIGTERM for the others.
    pub grace: Duration,
    /// Time from SIGTERM to SIGKILL.
    pub kill_after: Duration,
    /// OMP_NUM_THREADS of each worker if the environment does not set it. `None` leaves it to libtorch. See
    /// [`threads_per_worker`](super::threads_per_worker).
    pub threads: Option<usize>,
}

impl Options {
    /// Creates options without restarts and with timeouts of 10 seconds.
    pub fn new(world_size: usize) -> Self {
        let timeout = Duration::from_secs(10);
        Self { world_size, alone: false, max_restarts: 0, grace: timeout, kill_after: timeout, threads: None }
    }
}

/// Outcome of a launch that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All workers have finished.
    Finished,
    /// Workers have stopped after a signal, with a checkpoint.
    Interrupted,
    /// Workers have exited at once: after a second signal, or after one before they had begun.
    Aborted,
}
