//! Monitor thread: publishes this rank's heartbeats and detects that it waits for a rank that is gone.
//!
//! Heartbeats are only read after something has failed; see [`super::diagnosis`]. Clocks of different machines are not
//! compared: a rank is silent if its heartbeat does not change during an observation window.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use libtorch_ext::distributed::Store;
use tch::TchError;

use super::context::RankContext;
use super::diagnosis::find_failed_peer;
use super::error::DistributedError;
use super::failure;
use super::heartbeat::{Heartbeat, Phase, interval};

/// Called on the monitor thread when this rank hangs in a call that cannot be cancelled. It should end the process.
pub type OnHang = Box<dyn Fn(DistributedError) + Send>;

/// Maximum time that a rank keeps waiting after the failure of another. Its own call usually fails earlier.
const GRACE: Duration = Duration::from_secs(8);

#[derive(Debug)]
struct Status {
    step: u64,
    phase: Phase,
    since: Instant,
    stopped: bool,
}

#[derive(Debug)]
struct Shared {
    status: Mutex<Status>,
    changed: Condvar,
}

impl Shared {
    /// Locks the status, also after a panic: its fields are independent, so it is always consistent.
    fn lock(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns step and phase if this rank has been in the phase for at least `timeout`.
    fn waiting(&self, timeout: Duration) -> Option<(u64, Phase)> {
        let status = self.lock();
        (status.since.elapsed() >= timeout).then_some((status.step, status.phase))
    }
}

/// Monitor of this rank.
#[derive(Debug)]
pub(super) struct Monitor {
    context: RankContext,
    shared: Arc<Shared>,
    store: Arc<Store>,
    thread: Option<JoinHandle<()>>,
}

impl Monitor {
    /// Publishes the first heartbeat and starts the thread. `store` must be a connection of its own. From the phase
    /// `may_wait_from` on, a call of this rank may wait for another rank.
    ///
    /// # Errors
    /// A [`DistributedError`] if the store is lost or the thread cannot be started.
    pub(super) fn start(
        context: RankContext,
        store: Store,
        may_wait_from: Phase,
        on_hang: OnHang,
    ) -> Result<Self, DistributedError> {
        let status = Status { step: 0, phase: Phase::Start, since: Instant::now(), stopped: false };
        let shared = Arc::new(Shared { status: Mutex::new(status), changed: Condvar::new() });
        let store = Arc::new(store);
        let worker =
            Worker { context: context.clone(), store: Arc::clone(&store), shared: Arc::clone(&shared), may_wait_from, on_hang };
        worker.publish(0)?;
        let thread = std::thread::Builder::new().name("heartbeat".into()).spawn(move || worker.run());
        let thread = thread.map_err(|error| TchError::Torch(format!("cannot start the heartbeat thread: {error}")))?;
        Ok(Self { context, shared, store, thread: Some(thread) })
    }

    /// Sets step and phase of this rank.
    pub(super) fn set_phase(&self, step: u64, phase: Phase) {
        let mut status = self.shared.lock();
        (status.step, status.phase, status.since) = (step, phase, Instant::now());
    }

    /// Finds the rank that caused an error of this one; see [`find_failed_peer`].
    pub(super) fn find_failed_peer(&self, store: &Store) -> Option<DistributedError> {
        find_failed_peer(&self.context, store, || self.shared.waiting(self.context.timeout))
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.shared.lock().stopped = true;
        self.shared.changed.notify_all();
        // Ends a call to which the store does not respond.
        self.store.close();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been reported on stderr.
            let _panicked = thread.join();
        }
    }
}

/// State of the monitor thread.
struct Worker {
    context: RankContext,
    store: Arc<Store>,
    shared: Arc<Shared>,
    may_wait_from: Phase,
    on_hang: OnHang,
}

impl Worker {
    fn publish(&self, count: u64) -> Result<(), DistributedError> {
        let status = self.shared.lock();
        let heartbeat = Heartbeat {
            rank: self.context.rank,
            host: self.context.host.clone(),
            pid: std::process::id(),
            count,
            step: status.step,
            phase: status.phase,
            seconds: status.since.elapsed().as_secs_f64(),
        };
        drop(status);
        heartbeat.write(&self.context, &self.store)
    }

    fn run(self) {
        let Self { context, store, shared, may_wait_from, on_hang } = &self;
        let (mut failed_since, mut store_lost) = (None::<Instant>, None);
        for count in 1.. {
            let status = shared.lock();
            let waited = shared.changed.wait_timeout_while(status, interval(context.timeout), |status| !status.stopped);
            let (status, _) = waited.unwrap_or_else(PoisonError::into_inner);
            if status.stopped {
                return;
            }
            let waiting = (status.phase >= *may_wait_from).then(|| status.since.elapsed());
            drop(status);
            // If another rank or the store is gone, calls of this rank fail too, or hang. Calls of the store end after its
            // timeout, so this loop continues if the process that serves it is stopped.
            let any_failure = || {
                self.publish(count)?;
                failure::any(store, context.attempt).map_err(|error| context.failure_error(error))
            };
            let failed = store_lost.is_some()
                || any_failure().unwrap_or_else(|error| {
                    store_lost = Some(error);
                    true
                });
            if failed {
                failed_since.get_or_insert_with(Instant::now);
            }
            let timed_out = waiting.is_some_and(|time| time > context.timeout + GRACE);
            let abandoned =
                failed_since.is_some_and(|since| since.elapsed() > GRACE) && waiting.is_some_and(|time| time > GRACE);
            if timed_out || abandoned {
                let waiting = || shared.waiting(context.timeout);
                if let Some(error) = store_lost.take().or_else(|| find_failed_peer(context, store, waiting)) {
                    // The monitor itself closes the connection when it is dropped.
                    if !shared.lock().stopped {
                        on_hang(error);
                    }
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distributed::failure::Failure;
    use libtorch_ext::distributed::StoreOptions;
    use std::sync::mpsc::channel;

    #[test]
    fn a_rank_that_hangs_reports_a_failed_peer_from_the_phase_in_which_it_may_wait() {
        let store = Store::serve(&StoreOptions { port: 0, ..StoreOptions::default() }).expect("a store");
        let context = RankContext {
            rank: 0,
            world_size: 2,
            attempt: 0,
            host: "box".into(),
            timeout: Duration::from_secs(600),
            server: "the launcher",
            address: String::new(),
        };
        let start = |may_wait_from: Phase| {
            let (sender, receiver) = channel();
            let on_hang = move |error: DistributedError| sender.send(error.to_string()).expect("the test waits");
            let store = store.try_clone().expect("a connection");
            let monitor = Monitor::start(context.clone(), store, may_wait_from, Box::new(on_hang)).expect("a monitor");
            monitor.set_phase(3, Phase::Compute);
            (monitor, receiver)
        };
        let (gpu, cpu) = (start(Phase::Data), start(Phase::Reduce));
        let failed = Failure { rank: 1, host: "box".into(), pid: 7, reason: "no space".into(), caused_by: None };
        failure::publish(&store, 0, &failed).expect("publish");
        let error = gpu.1.recv_timeout(GRACE + Duration::from_secs(20)).expect("an error");
        assert_eq!(error, "rank 1 (host box, pid 7) failed: no space");
        assert!(cpu.1.try_recv().is_err(), "a CPU does not wait in this phase");
    }
}
