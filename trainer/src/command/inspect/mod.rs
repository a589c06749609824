//! `glm-trainer inspect`: lists the content of weights, or the differences between two.

pub mod difference;
pub mod summary;

use std::fmt;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use crate::checkpoint::CheckpointError;
use crate::checkpoint::weights::Weights;
pub use difference::Difference;
pub use summary::Summary;

/// Arguments of `inspect`.
#[derive(Debug, Clone, Args)]
pub struct InspectArgs {
    /// Weights: a file, folder or archive, as for `run --init`
    pub path: PathBuf,
    /// Other weights to compare with
    pub other: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// Result of `inspect`.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum Report {
    /// Content of weights.
    Summary(Summary),
    /// Difference between two.
    Difference(Difference),
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Summary(summary) => summary.fmt(f),
            Self::Difference(difference) => difference.fmt(f),
        }
    }
}

/// Summarizes weights, or compares two.
///
/// # Errors
/// [`CheckpointError`] if weights cannot be read.
pub fn inspect(args: &InspectArgs) -> Result<Report, CheckpointError> {
    let weights = Weights::open(&args.path)?;
    match &args.other {
        None => Ok(Report::Summary(Summary::of(&weights)?)),
        Some(other) => Ok(Report::Difference(Difference::between(&weights, &Weights::open(other)?)?)),
    }
}

/// Width of the column of names; lines have 80 columns.
const NAME_WIDTH: usize = 54;

/// Formats a shape, for example `30592x1024`; a scalar is `-`.
fn shape_text(shape: &[usize]) -> String {
    match shape {
        [] => "-".to_owned(),
        _ => shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x"),
    }
}

/// Formats a number in at most nine characters.
fn number_text(number: f64) -> String {
    let magnitude = number.abs();
    match magnitude {
        0.0 => "0".to_owned(),
        1e-3..1e6 => format!("{number:.4}").chars().take(9).collect::<String>().trim_end_matches('.').to_owned(),
        _ if number.is_finite() => format!("{number:.2e}"),
        _ => "inf".to_owned(),
    }
}

/// Writes a row that starts with a name. Long names get a line of their own.
fn write_row(f: &mut fmt::Formatter<'_>, name: &str, rest: fmt::Arguments<'_>) -> fmt::Result {
    if name.chars().count() > NAME_WIDTH {
        writeln!(f, "{name}")?;
        return writeln!(f, "{:NAME_WIDTH$} {rest}", "");
    }
    writeln!(f, "{name:NAME_WIDTH$} {rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let texts = [0.0, 1.0, -0.02, 123_456.789, 999_999.9, 1e-7, -3.5e-300, 2e30, f64::INFINITY].map(number_text);
        assert_eq!(texts, ["0", "1.0000", "-0.0200", "123456.78", "999999.90", "1.00e-7", "-3.50e-300", "2.00e30", "inf"]);
    }

    #[test]
    fn shapes_are_separated_by_x() {
        assert_eq!(
            (shape_text(&[3072, 1024]), shape_text(&[5]), shape_text(&[])),
            ("3072x1024".into(), "5".into(), "-".into())
        );
    }
}
