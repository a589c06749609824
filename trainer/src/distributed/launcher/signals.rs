//! Signals received by the launcher.

use std::ffi::c_int;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::Instant;

use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::{Handle, Signals};

const HANDLED: [c_int; 5] = [SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGCHLD];

/// Event that the launcher waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// A worker may have exited.
    ChildExited,
    /// A signal that asks the workers to stop.
    StopSignal(c_int),
    /// The deadline has passed.
    Timeout,
}

/// Queue of received signals. While it exists, the default actions of these signals are disabled.
#[derive(Debug)]
pub(super) struct SignalQueue {
    events: Receiver<c_int>,
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl SignalQueue {
    /// Starts to receive signals.
    pub(super) fn open() -> io::Result<Self> {
        let mut signals = Signals::new(HANDLED)?;
        let handle = signals.handle();
        let (sender, events) = channel();
        let receive = move || signals.forever().take_while(|&signal| sender.send(signal).is_ok()).for_each(drop);
        let thread = Some(std::thread::Builder::new().name("signals".into()).spawn(receive)?);
        Ok(Self { events, handle, thread })
    }

    /// Waits for the next event, at most until `deadline`.
    pub(super) fn next(&self, deadline: Option<Instant>) -> Event {
        let signal = match deadline {
            None => self.events.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(deadline) => self.events.recv_timeout(deadline.saturating_duration_since(Instant::now())),
        };
        match signal {
            Ok(SIGCHLD) => Event::ChildExited,
            Ok(signal) => Event::StopSignal(signal),
            Err(_) => Event::Timeout,
        }
    }
}

impl Drop for SignalQueue {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

/// Formats a signal, such as `SIGKILL (9)`.
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
