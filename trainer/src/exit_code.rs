//! Exit codes of `glm-trainer`.

/// Success.
pub const DONE: u8 = 0;
/// Failure.
pub const FAILED: u8 = 1;
/// Invalid usage: clap's exit code for invalid arguments.
pub const USAGE: u8 = 2;
/// Stopped by a signal after writing a checkpoint. This is EX_TEMPFAIL of sysexits.h.
pub const INTERRUPTED: u8 = 75;
/// Stopped without a new checkpoint, by a second Ctrl-C or by a signal before training has begun: 128 + SIGINT, as shells report
/// it.
pub const ABORTED: u8 = 130;

/// Ends the process at once, without exit handlers: those of libtorch free code that other threads are still running.
pub fn exit_now(code: u8) -> ! {
    // SAFETY: ends the process and touches no memory of it.
    unsafe { libc::_exit(code.into()) }
}
