//! Being asked to stop.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

use crate::distributed::launcher::INTERRUPTED;

/// A batch system signals all processes of a job, and a launcher among them passes the signal on: this is the longest that
/// takes.
const ECHO: Duration = Duration::from_secs(1);

/// Watches for SIGINT (Ctrl-C), SIGTERM, SIGHUP (a terminal that was closed) and SIGUSR1 (how Slurm warns of a job's end). The
/// first one sets the flag that is returned, and training ends behind its step with a checkpoint; a second one ends the
/// process at once, except SIGUSR1, which some send again and again, and a SIGTERM right behind the first, which is the same
/// one on its way through a launcher.
///
/// # Errors
/// An [`io::Error`] where signals cannot be watched.
pub fn flag() -> io::Result<Arc<AtomicBool>> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGUSR1])?;
    let flag = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&flag);
    let watch = move || {
        let mut first: Option<Instant> = None;
        for signal in signals.forever() {
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
