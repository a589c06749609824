//! Files in and out of `glm-prep` and `glm-trainer`.
//!
//! - [`fetch`]: one file over HTTP, continued where it was cut, checked before it gets its name.
//! - [`atomic`]: a file is written whole or not at all.
//! - [`checksum`]: size and sha256 of what is read.
//! - [`progress`]: how far a long job has come, on a terminal and elsewhere.
//!
//! What comes in is checked before anything uses it, and what goes out has its name only when it is whole:
//!
//! ```text
//! URL -> fetch -> file.part -> content and checksum are right -> file
//! bytes -> atomic::write -> file.PID.tmp -> on the disk -> file
//! ```
//!
//! ```
//! let digest = glm_support::files::checksum::digest(&b"abc"[..])?;
//! assert_eq!(digest.bytes, 3);
//! assert!(digest.sha256.starts_with("ba7816bf"));
//! # Ok::<(), std::io::Error>(())
//! ```

pub mod atomic;
pub mod checksum;
pub mod fetch;
pub mod progress;
