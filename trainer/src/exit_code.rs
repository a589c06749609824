//! Exit codes of `glm-trainer`.

/// Success.
pub const DONE: u8 = 0;
/// Failure.
pub const FAILED: u8 = 1;
/// Invalid usage: clap's exit code for invalid arguments.
pub const USAGE: u8 = 2;
/// Stopped by a signal; the run can be resumed. This is EX_TEMPFAIL of sysexits.h.
pub const INTERRUPTED: u8 = 75;
