//! Tests of the launcher with shell scripts as workers, and of the command line of `glm-trainer run --nproc`.
//!
//! Scripts and tests synchronize through files in a temporary folder, never by sleeping.

mod command_line;
mod failures;
mod launched;
mod signals;
mod start;
