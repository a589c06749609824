//! Sleeping until something has happened, without ever missing it.

use crate::sync::{AtomicUsize, Condvar, Mutex, Ordering, fence, lock, wait};

/// What a thread sleeps on until a condition holds that other threads bring about.
///
/// The condition lives elsewhere, in atomics, and is not guarded by the lock in here. That nobody sleeps through its change
/// rests on an order of four steps:
///
/// ```text
/// sleeper:  (1) sleepers += 1    fence    (2) look at the condition
/// waker:    (3) change it        fence    (4) look at sleepers
/// ```
///
/// Of two sequentially consistent fences one comes first, so either (2) sees the change, or (4) sees the sleeper. In the
/// second case the waker takes the lock before it signals: a sleeper holds the lock from its look until it sleeps, so the
/// signal cannot fall in between.
pub(crate) struct Event {
    /// Threads that sleep or are about to.
    sleepers: AtomicUsize,
    /// Guards no data, only the time between a sleeper's look and its sleep.
    lock: Mutex<()>,
    signal: Condvar,
}

impl Event {
    pub(crate) fn new() -> Self {
        Self { sleepers: AtomicUsize::new(0), lock: Mutex::new(()), signal: Condvar::new() }
    }

    /// Calls `condition` until it gives something, and sleeps in between.
    pub(crate) fn wait_until<R>(&self, mut condition: impl FnMut() -> Option<R>) -> R {
        // Most often it holds already, and nothing here is touched.
        if let Some(result) = condition() {
            return result;
        }
        let mut guard = lock(&self.lock);
        self.sleepers.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let result = loop {
            if let Some(result) = condition() {
                break result;
            }
            guard = wait(&self.signal, guard);
        };
        self.sleepers.fetch_sub(1, Ordering::Relaxed);
        drop(guard);
        result
    }

    /// Wakes one sleeper, if there is any. To be called behind a change that lets one go on.
    pub(crate) fn wake_one(&self) {
        if self.has_sleepers() {
            self.signal.notify_one();
        }
    }

    /// Wakes all sleepers. To be called behind a change that lets all go on.
    pub(crate) fn wake_all(&self) {
        if self.has_sleepers() {
            self.signal.notify_all();
        }
    }

    /// Whether there are sleepers; those then sleep indeed, or will see the change that came before this call.
    fn has_sleepers(&self) -> bool {
        fence(Ordering::SeqCst);
        let any = self.sleepers.load(Ordering::Relaxed) > 0;
        if any {
            drop(lock(&self.lock));
        }
        any
    }
}
