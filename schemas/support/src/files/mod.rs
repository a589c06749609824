//! Reading and writing files safely: downloads, atomic writes, locks, checksums, progress.
//!
//! - [`fetch`]: resumable HTTP download of one file, verified before it gets its final name.
//! - [`output`]: destinations of options like `--out`: standard output, devices, pipes, files.
//! - [`atomic`]: files that are written completely or not at all.
//! - [`lock`]: advisory locks.
//! - [`checksum`]: size and sha256 of a stream.
//! - [`bomb`]: limit on decompressed sizes.
//! - [`progress`]: progress bars on a terminal, log lines elsewhere.
//!
//! Downloads are verified before use, and output gets its final name only when it is complete:
//!
//! ```text
//! URL -> fetch -> file.part -> content and checksum verified -> file
//! bytes -> atomic::write -> file.PID.tmp -> synced to disk -> file
//! ```
//!
//! ```
//! let digest = glm_support::files::checksum::digest(&b"abc"[..])?;
//! assert_eq!(digest.bytes, 3);
//! assert!(digest.sha256.starts_with("ba7816bf"));
//! # Ok::<(), std::io::Error>(())
//! ```

pub mod atomic;
pub mod bomb;
pub mod checksum;
pub mod fetch;
pub mod lock;
pub mod output;
pub mod progress;
