//! Command line features shared by `glm-prep` and `glm-trainer`.
//!
//! - [`completions`]: shell completion scripts.
//! - [`manual`]: manual pages.
//! - [`download`]: arguments of both `fetch` commands.
//! - [`log`]: log lines and errors on standard error.
//! - [`paint`](mod@paint): styled text, wrapped to the width of the terminal.
//! - [`pipe`]: detection of a closed output pipe.
//! - [`positive`]: numbers of at least 1.
//! - [`WIDTH`]: maximum width of help texts.
//!
//! Scripts and pages are generated from the [`clap::Command`] that parses the command line, so they are always up to date:
//!
//! ```
//! let command = clap::Command::new("tool").subcommand(clap::Command::new("run").about("Runs"));
//! let pages = glm_support::command::manual::pages(command);
//! assert_eq!(pages.iter().map(|page| page.file.as_str()).collect::<Vec<_>>(), ["tool.1", "tool-run.1"]);
//! ```

pub mod completions;
pub mod download;
pub mod log;
pub mod manual;
pub mod paint;
pub mod pipe;
pub mod positive;

/// Columns that help texts are wrapped to, also on wider terminals: long lines are hard to read.
pub const WIDTH: usize = 80;
