//! Named threads whose panics become errors.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::thread::JoinHandle;

use super::DataError;
use crate::device::on_this_gpu;

/// Starts a thread, with the same current GPU as this one.
pub(super) fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, DataError> {
    let start = std::thread::Builder::new().name(name.to_owned()).spawn(on_this_gpu(work));
    start.map_err(|source| DataError::Io { path: PathBuf::from(format!("thread {name}")), source })
}

/// Calls `work` and turns a panic into [`DataError::Panicked`].
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T, DataError>) -> Result<T, DataError> {
    // Unwind safe: after a panic, the state captured by the closure is dropped and not used again.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(DataError::Panicked))
}

/// Waits for threads to end. Returns true if one of them panicked.
pub(super) fn join(threads: &mut Vec<JoinHandle<()>>) -> bool {
    // `any` would stop at the first panic and leave the other threads unjoined.
    threads.drain(..).filter_map(|thread| thread.join().err()).count() > 0
}
