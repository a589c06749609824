//! Ctrl-C and SIGTERM during an ingest.

use std::io;
use std::process::ExitCode;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level;

use crate::ingest::Stop;

/// Exit code of a run that was stopped by a signal, as of a process that SIGINT ended.
const INTERRUPTED: u8 = 130;

/// Starts a thread that requests `stop` at the first signal and ends the process at the second one.
pub(super) fn stop_on_signals(stop: &Stop) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let stop = stop.clone();
    std::thread::spawn(move || {
        let mut signals = signals.forever();
        if signals.next().is_some() {
            stop.request();
            tracing::warn!(
                "stopping and removing the temporary files; a second Ctrl-C stops at once and leaves them to the next ingest"
            );
        }
        if let Some(signal) = signals.next() {
            // Ends the process; an error would mean that the signal has no default action.
            let _ = low_level::emulate_default_handler(signal);
        }
    });
    Ok(())
}

/// Reports a run that was stopped and returns its exit code.
pub(super) fn report() -> ExitCode {
    eprintln!("glm-prep: stopped by a signal; nothing was published, and the temporary files are removed");
    ExitCode::from(INTERRUPTED)
}
