//! Files in and out of `glm-prep` and `glm-trainer`.
//!
//! - [`fetch`]: one file over HTTP, continued where it was cut, checked before it gets its name.
//! - [`whole`]: a file is written whole or not at all.
//! - [`checksum`]: size and sha256 of what is read.
//! - [`progress`]: how far a long job has come, on a terminal and elsewhere.

pub mod checksum;
pub mod fetch;
pub mod progress;
pub mod whole;
