//! Support library of `glm-prep` and `glm-trainer`: everything unrelated to models and data sets.
//!
//! - [`files`]: downloads, checksums, locks, atomic writes and progress bars.
//! - [`command`]: shell completions, manual pages, styled terminal text.
//! - [`memory`]: memory use of the process.
//! - [`provenance`]: program, command line and machine that made a result.
//! - [`page`]: self-contained HTML pages with SVG charts.

pub mod command;
pub mod files;
pub mod memory;
pub mod page;
pub mod provenance;
