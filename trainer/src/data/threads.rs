//! Threads that are named, joined, and do not take others down with them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::thread::JoinHandle;

use super::DataError;

/// Starts a thread.
pub(super) fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, DataError> {
    let start = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    start.map_err(|source| DataError::Io { path: PathBuf::from(format!("thread {name}")), source })
}

/// Does a piece of work; a panic becomes an error like any other.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T, DataError>) -> Result<T, DataError> {
    // What the work held is dropped and never looked at again.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(DataError::Panicked))
}

/// Waits for threads; whether one of them panicked.
pub(super) fn join(threads: &mut Vec<JoinHandle<()>>) -> bool {
    // All of them are waited for, so no `any`, which would stop at the first.
    threads.drain(..).filter_map(|thread| thread.join().err()).count() > 0
}
