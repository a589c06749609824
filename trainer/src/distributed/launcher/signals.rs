//! Signals to the launcher, as messages, and their names.

use std::ffi::c_int;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::Instant;

use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::{Handle, Signals};

/// What makes workers end. Any other signal that is added to [`WATCHED`] is passed on to them and nothing more.
const STOPS: [c_int; 4] = [SIGINT, SIGTERM, SIGHUP, SIGUSR1];
const WATCHED: [c_int; 5] = [SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGCHLD];

/// What came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// A worker may have ended.
    Child,
    /// A signal to pass on, and whether it asks to stop.
    Signal {
        /// Its number.
        signal: c_int,
        /// Whether workers are to end.
        stops: bool,
    },
    /// The time is over.
    Late,
}

/// Signals that arrive from the making of it on; none does what it would do by default.
#[derive(Debug)]
pub(super) struct Inbox {
    events: Receiver<c_int>,
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl Inbox {
    /// Starts to watch.
    pub(super) fn open() -> io::Result<Self> {
        let mut signals = Signals::new(WATCHED)?;
        let handle = signals.handle();
        let (sender, events) = channel();
        let watch = move || signals.forever().take_while(|&signal| sender.send(signal).is_ok()).for_each(drop);
        let thread = Some(std::thread::Builder::new().name("signals".into()).spawn(watch)?);
        Ok(Self { events, handle, thread })
    }

    /// The next one, at `until` at the latest.
    pub(super) fn next(&self, until: Option<Instant>) -> Event {
        let signal = match until {
            None => self.events.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(until) => self.events.recv_timeout(until.saturating_duration_since(Instant::now())),
        };
        match signal {
            Ok(SIGCHLD) => Event::Child,
            Ok(signal) => Event::Signal { signal, stops: STOPS.contains(&signal) },
            Err(_) => Event::Late,
        }
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

/// `SIGKILL (9)`.
pub(super) fn name(signal: c_int) -> String {
    match signal_hook::low_level::signal_name(signal) {
        Some(name) => format!("{name} ({signal})"),
        None => format!("signal {signal}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names() {
        assert_eq!(name(9), "SIGKILL (9)");
        assert_eq!(name(libc::SIGSEGV), format!("SIGSEGV ({})", libc::SIGSEGV));
        assert_eq!(name(64), "signal 64");
    }
}
