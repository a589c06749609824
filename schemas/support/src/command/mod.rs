//! What the command lines of `glm-prep` and `glm-trainer` share.
//!
//! - [`completions`]: the script that makes a shell complete a program's commands and options.
//! - [`manual`]: one page for `man` of the program and of each of its commands.
//! - [`download`]: the arguments of both `fetch` commands.
//! - [`paint`](mod@paint): colour, and lines that fit the terminal.
//! - [`pipe`]: detection of a closed output pipe.
//! - [`WIDTH`]: how wide help may be.
//!
//! Scripts and pages are made of the [`clap::Command`] that also parses what is typed, so they cannot fall behind it:
//!
//! ```
//! let command = clap::Command::new("tool").subcommand(clap::Command::new("run").about("Runs"));
//! let pages = glm_support::command::manual::pages(command);
//! assert_eq!(pages.iter().map(|page| page.file.as_str()).collect::<Vec<_>>(), ["tool.1", "tool-run.1"]);
//! ```

pub mod completions;
pub mod download;
pub mod manual;
pub mod paint;
pub mod pipe;

/// Columns that help is wrapped to, on a wider terminal too: longer lines are hard to read.
pub const WIDTH: usize = 80;
