//! The threads that run connections, shared by the whole process.

use std::future::Future;
use std::sync::OnceLock;

use tokio::runtime::{Builder, Runtime};

use crate::RemoteError;

/// Number of threads. They wait for the network; decryption is the only work.
const THREADS: usize = 2;

/// Runs a future to its end. Tasks that it spawns go on afterwards.
///
/// # Errors
/// [`RemoteError::Threads`] if the threads cannot be started.
pub(crate) fn block_on<F: Future>(future: F) -> Result<F::Output, RemoteError> {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let runtime = match RUNTIME.get() {
        Some(runtime) => runtime,
        None => {
            let mut builder = Builder::new_multi_thread();
            let started = builder.worker_threads(THREADS).thread_name("remote").enable_all().build();
            let started = started.map_err(RemoteError::Threads)?;
            // Another thread may have been first; its runtime is as good.
            RUNTIME.get_or_init(|| started)
        }
    };
    Ok(runtime.block_on(future))
}
