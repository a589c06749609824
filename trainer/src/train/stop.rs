//! Being asked to stop.

use std::ffi::c_int;
use std::io;
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use libc::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};

use crate::exit_code::INTERRUPTED;

/// A batch system signals all processes of a job, and a launcher among them passes the signal on: this is the longest that
/// takes.
const ECHO: Duration = Duration::from_secs(1);

/// Watches for SIGINT (Ctrl-C), SIGTERM, SIGHUP (a terminal that was closed) and SIGUSR1 (how Slurm warns of a job's end). The
/// first one sets the flag that is returned, and training ends behind its step with a checkpoint; a second one ends the
/// process at once, except SIGUSR1, which some send again and again, and a SIGTERM right behind the first, which is the same
/// one on its way through a launcher.
///
/// To be called before any other thread is started: the signals are blocked for this one and those that it starts, and a
/// thread of their own takes them. No handler may run on a thread that computes: under the matrix products that oneDNN makes
/// for AVX-512 the memory of the process was damaged by it (a test sends hundreds of signals during a step).
///
/// # Errors
/// An [`io::Error`] where signals cannot be watched.
pub fn flag() -> io::Result<Arc<AtomicBool>> {
    let watched = block(&[SIGINT, SIGTERM, SIGHUP, SIGUSR1])?;
    let flag = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&flag);
    let watch = move || {
        let mut first: Option<Instant> = None;
        while let Ok(signal) = wait(&watched) {
            asked.store(true, Ordering::Relaxed);
            match first {
                None => tracing::warn!("stopping behind this step, with a checkpoint; once more to stop at once"),
                Some(_) if signal == SIGUSR1 => {}
                Some(first) if signal == SIGTERM && first.elapsed() < ECHO => {}
                Some(_) => std::process::exit(INTERRUPTED.into()),
            }
            first = first.or_else(|| Some(Instant::now()));
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(watch)?;
    Ok(flag)
}

/// Blocks these signals for the calling thread and those that it will start.
fn block(signals: &[c_int]) -> io::Result<libc::sigset_t> {
    let mut set = MaybeUninit::uninit();
    // SAFETY: `sigemptyset` makes a set of what `set` has room for, and the calls behind it read and change that one; they fail
    // for numbers that are no signals only.
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

/// Waits for one of these signals, which are blocked.
fn wait(signals: &libc::sigset_t) -> io::Result<c_int> {
    let mut signal = 0;
    // SAFETY: the set was made by `block`, and `signal` has room for the answer.
    let failed = unsafe { libc::sigwait(signals, &mut signal) };
    if failed == 0 { Ok(signal) } else { Err(io::Error::from_raw_os_error(failed)) }
}
