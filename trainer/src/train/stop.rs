//! Stop signals.

use std::ffi::c_int;
use std::io;
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use libc::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};

use crate::exit_code::{ABORTED, exit_now};

/// Maximum delay of a duplicate signal: a batch system signals all processes of a job, and a launcher among them forwards the
/// signal to its workers.
const ECHO: Duration = Duration::from_secs(1);

/// Starts to watch for SIGINT (Ctrl-C), SIGTERM, SIGHUP (closed terminal) and SIGUSR1 (Slurm's warning before a job ends).
///
/// The first signal sets the returned flag, and training ends after the current step with a checkpoint. A second one exits
/// immediately with [`ABORTED`], except SIGUSR1, which may be sent repeatedly, and a SIGTERM shortly after the first signal, which is a duplicate
/// from a launcher.
///
/// This must be called before other threads start: it blocks the signals for the current thread and its descendants, and a
/// dedicated thread receives them. No signal handler may run on a compute thread: with the AVX-512 matrix products of oneDNN,
/// handlers corrupted memory (a test sends hundreds of signals during a step).
///
/// # Errors
/// An [`io::Error`] if the signals cannot be blocked or the thread cannot start.
pub fn flag() -> io::Result<Arc<AtomicBool>> {
    let watched = block(&[SIGINT, SIGTERM, SIGHUP, SIGUSR1])?;
    let flag = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&flag);
    let watch = move || {
        let mut first: Option<Instant> = None;
        while let Ok(signal) = wait(&watched) {
            stop.store(true, Ordering::Relaxed);
            match first {
                None => tracing::warn!("saving a checkpoint after this step; press Ctrl-C again to exit now"),
                Some(_) if signal == SIGUSR1 => {}
                Some(first) if signal == SIGTERM && first.elapsed() < ECHO => {}
                Some(_) => exit_now(ABORTED),
            }
            first = first.or_else(|| Some(Instant::now()));
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(watch)?;
    Ok(flag)
}

/// Blocks signals for the calling thread and the threads that it will start.
fn block(signals: &[c_int]) -> io::Result<libc::sigset_t> {
    let mut set = MaybeUninit::uninit();
    // SAFETY: `sigemptyset` initializes `set`, which the other calls read and modify. They fail for invalid signal numbers only.
    let (set, failed) = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for &signal in signals {
            libc::sigaddset(set.as_mut_ptr(), signal);
        }
        let set = set.assume_init();
        (set, libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()))
    };
    if failed == 0 { Ok(set) } else { Err(io::Error::from_raw_os_error(failed)) }
}

/// Waits for one of `signals`, which must be blocked.
fn wait(signals: &libc::sigset_t) -> io::Result<c_int> {
    let mut signal = 0;
    // SAFETY: the set was initialized by `block`, and `signal` is a valid place for the result.
    let failed = unsafe { libc::sigwait(signals, &mut signal) };
    if failed == 0 { Ok(signal) } else { Err(io::Error::from_raw_os_error(failed)) }
}
