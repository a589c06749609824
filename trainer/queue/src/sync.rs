//! The primitives that the queue is made of: those of the standard library and crossbeam, or loom's when it checks the model.

#[cfg(not(loom))]
mod real {
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicUsize, fence};
    pub(crate) use std::sync::{Arc, Condvar, Mutex, MutexGuard};

    pub(crate) use crossbeam::queue::ArrayQueue as Slots;
}

#[cfg(loom)]
mod real {
    use std::collections::VecDeque;

    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
    pub(crate) use loom::sync::{Arc, Condvar, Mutex, MutexGuard};

    /// Stands in for crossbeam's `ArrayQueue`, which loom cannot look into.
    ///
    /// Like that one it may look empty, or full, to a thread that has not yet seen what another one did: that is what the
    /// protocol around it has to cope with. So `push` and `pop` look at a relaxed counter before they take the lock.
    pub(crate) struct Slots<T> {
        capacity: usize,
        length: AtomicUsize,
        items: Mutex<VecDeque<T>>,
    }

    impl<T> Slots<T> {
        pub(crate) fn new(capacity: usize) -> Self {
            Self { capacity, length: AtomicUsize::new(0), items: Mutex::new(VecDeque::new()) }
        }

        pub(crate) fn push(&self, item: T) -> Result<(), T> {
            if self.length.load(Ordering::Acquire) >= self.capacity {
                return Err(item);
            }
            let mut items = self.items.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            if items.len() >= self.capacity {
                return Err(item);
            }
            items.push_back(item);
            drop(items);
            self.length.fetch_add(1, Ordering::Release);
            Ok(())
        }

        pub(crate) fn pop(&self) -> Option<T> {
            if self.length.load(Ordering::Acquire) == 0 {
                return None;
            }
            let mut items = self.items.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            let item = items.pop_front()?;
            drop(items);
            self.length.fetch_sub(1, Ordering::Release);
            Some(item)
        }
    }
}

pub(crate) use std::sync::atomic::Ordering;

pub(crate) use real::*;

/// Locks. Poison is no concern: the lock guards no data, see [`crate::event::Event`].
pub(crate) fn lock(mutex: &Mutex<()>) -> MutexGuard<'_, ()> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Sleeps until a signal, or for no reason at all.
pub(crate) fn wait<'a>(signal: &Condvar, guard: MutexGuard<'a, ()>) -> MutexGuard<'a, ()> {
    signal.wait(guard).unwrap_or_else(|poisoned| poisoned.into_inner())
}
