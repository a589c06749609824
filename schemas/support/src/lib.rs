//! The parts of `glm-prep` and `glm-trainer` that have nothing to do with models or data sets.
//!
//! - [`files`]: downloads, checksums, atomic writes and progress bars.
//! - [`command`]: shell completions, manual pages, colour and line width.
//! - [`memory`]: memory use of the process.
//! - [`page`]: self-contained HTML pages with SVG charts.

pub mod command;
pub mod files;
pub mod memory;
pub mod page;
