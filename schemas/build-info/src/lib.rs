//! Version and git revision of the programs.
//!
//! A crate of its own: it is compiled anew with every commit, and so is everything that depends on it. Only the programs do.

/// Version of the programs.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Git revision of the source, followed by `+` if files were changed when it was compiled; `unknown` outside a git repository.
pub const REVISION: &str = env!("GLM_BUILD_REVISION");

/// Version and revision, such as `0.1.0 (1a2b3c4d5e)`.
pub const SHORT: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("GLM_BUILD_REVISION"), ")");
