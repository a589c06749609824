//! `glm-prep patterns`: lists embedded pattern files or prints one.

use std::io::{self, Write};

use clap::Args;
use thiserror::Error;

use super::catalogue;
use super::error::PatternError;
use super::task::PatternTask;

/// Arguments of `patterns`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
A pattern file lays out the fields of raw records as a context with one blank, and names the words \
that may fill it. To write one of your own, start from a printed file and pass its path to \
`glm-prep ingest DIR --pattern my.toml`.

Examples:
  glm-prep patterns
  glm-prep patterns superglue/rte
  glm-prep patterns superglue/rte > my.toml")]
pub struct PatternsArgs {
    /// Print this file
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
}

/// Error of `patterns`.
#[derive(Debug, Error)]
pub enum PatternsCommandError {
    /// There is no such file.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// The output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

/// Runs the command and prints to `out`.
///
/// # Errors
/// [`PatternsCommandError`] if there is no such file, or `out` cannot be written to.
pub fn run(args: &PatternsArgs, out: &mut dyn Write) -> Result<(), PatternsCommandError> {
    if let Some(name) = &args.name {
        let text = catalogue::find(name).ok_or_else(|| PatternError::unknown(name))?;
        return Ok(out.write_all(text.as_bytes())?);
    }
    let width = catalogue::ALL.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, text) in catalogue::ALL {
        let task = PatternTask::parse(name, text, None, false)?;
        let file = task.file();
        let patterns = match file.patterns.len() {
            1 => "1 pattern".to_owned(),
            count => format!("{count} patterns"),
        };
        writeln!(out, "{name:<width$}  {patterns:<11} {}", file.about)?;
    }
    Ok(())
}
