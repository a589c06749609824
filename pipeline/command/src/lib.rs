//! What the command lines of `glm-prep` and `glm-trainer` share.
//!
//! - [`paint`](mod@paint): colour, and lines that fit the terminal.

pub mod paint;
