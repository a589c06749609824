//! Support library of `glm-prep` and `glm-trainer`: everything unrelated to models and data sets.
//!
//! - [`files`]: downloads, checksums, locks, atomic writes and progress bars.
//! - [`command`]: shell completions, manual pages, styled terminal text.
//! - [`page`]: self-contained HTML pages with SVG charts.

pub mod command;
pub mod files;
pub mod page;
