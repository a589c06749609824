//! `glm-trainer convert`: converts weights to another container or number format, one tensor at a time.

use std::fmt;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use glm_support::files::atomic::remove_leftovers_of;
use glm_support::files::output::{self, OutputError};
use serde::Serialize;
use thiserror::Error;

use crate::checkpoint::locate::{CheckpointChoice, WEIGHTS_FILE};
use crate::checkpoint::numbers::{Format, converted};
use crate::checkpoint::published::PUBLISHED_FILE;
use crate::checkpoint::stored::TensorHeader;
use crate::checkpoint::weights::Weights;
use crate::checkpoint::{CheckpointError, published, safetensors_file, tensors};

/// Maximum number of names in a message.
const SHOWN_NAMES: usize = 5;

/// Container of the converted weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Layout {
    /// model.safetensors, the format of training runs
    Safetensors,
    /// mp_rank_00_model_states.pt in the folder layout of the published Python code
    Published,
}

/// Arguments of `convert`.
#[derive(Debug, Clone, Args)]
pub struct ConvertArgs {
    /// Weights: a file, folder or archive, as for `run --init`
    pub input: PathBuf,
    /// File to write (.safetensors, .pt), or its folder
    pub output: PathBuf,
    /// File format [default: published if OUTPUT ends in .pt, else safetensors]
    #[arg(long, value_name = "LAYOUT")]
    pub to: Option<Layout>,
    /// Data type [default: fp16 for published, else unchanged]
    #[arg(long, value_name = "FORMAT")]
    pub dtype: Option<Format>,
    /// Number of attention heads, if INPUT does not specify it
    #[arg(long, value_name = "N")]
    pub heads: Option<usize>,
    /// Checkpoint of a run: best, latest or the number of its step [default: best, or latest if none was evaluated]
    #[arg(long, value_name = "WHICH")]
    pub checkpoint: Option<CheckpointChoice>,
    /// Replace an existing file
    #[arg(long)]
    pub force: bool,
}

/// Errors of `convert`.
#[derive(Debug, Error)]
pub enum ConvertError {
    /// The weights cannot be read or written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The output cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// Standard output does not take weights.
    #[error("weights cannot be written to standard output; specify a file (.safetensors, .pt) or a folder")]
    Stdout,
    /// The output exists.
    #[error("{} already exists; use another path, or --force to replace it", .0.display())]
    Exists(PathBuf),
}

/// Result of `convert`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Converted {
    /// Written file.
    pub path: PathBuf,
    /// Number of tensors.
    pub tensors: usize,
    /// Size of their elements in bytes.
    pub bytes: usize,
}

impl fmt::Display for Converted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, tensors, bytes } = self;
        writeln!(f, "{}: {tensors} tensors, {:.1} MB", path.display(), *bytes as f64 / 1e6)
    }
}

/// Converts weights. Tensors that are not part of a GLM are skipped with a warning.
///
/// # Errors
/// [`ConvertError`]; the output is unchanged in this case.
pub fn convert(args: &ConvertArgs) -> Result<Converted, ConvertError> {
    if args.output == Path::new(output::STDOUT) {
        return Err(ConvertError::Stdout);
    }
    let weights = Weights::open_checkpoint(&args.input, args.checkpoint)?;
    let to = args.to.unwrap_or(match has_extension(&args.output, "pt") {
        true => Layout::Published,
        false => Layout::Safetensors,
    });
    // The published code requires at least 1.
    let iteration = weights.located().step.unwrap_or(1).max(1);
    let path = output_file(&args.output, to, iteration);
    if path.exists() {
        output::file(&path)?;
        if !args.force {
            return Err(ConvertError::Exists(path));
        }
    }
    let format = args.dtype.or((to == Layout::Published).then_some(Format::Fp16));
    let config = match to {
        Layout::Safetensors => weights.model_config(args.heads)?,
        // The published container does not store heads, and any number lists the same parameters.
        Layout::Published => weights.model_config(args.heads.or(Some(1)))?,
    };
    let mut headers = weights.check(&config)?;
    if let Some(format) = format {
        headers.iter_mut().for_each(|header| header.kind = format.kind());
    }
    warn_about_others(&weights, &headers);

    let data = |header: &TensorHeader| {
        let stored = weights.stored(&header.name)?;
        let Some(format) = format else { return Ok(stored.data) };
        converted(stored, format).map_err(|number| CheckpointError::OutOfRange {
            path: weights.path().to_owned(),
            name: header.name.clone(),
            number,
        })
    };
    create_parent(&path)?;
    let file = output::file(&path)?;
    // Of a conversion that was killed.
    remove_leftovers_of(&file).map_err(|source| CheckpointError::Io {
        doing: "cannot remove temporary files of",
        path: path.clone(),
        source,
    })?;
    match to {
        Layout::Safetensors => {
            let metadata = tensors::metadata(&path, &config, weights.tokenizer().as_ref())?;
            safetensors_file::write(&file, &headers, &metadata, data)?;
        }
        Layout::Published => published::write_file(&file, iteration, &headers, data)?,
    }
    if to == Layout::Published && path != args.output {
        // Last, so that it names a complete file.
        published::write_latest(&args.output, iteration)?;
    }
    let bytes = headers.iter().filter_map(TensorHeader::bytes).sum();
    Ok(Converted { path, tensors: headers.len(), bytes })
}

fn warn_about_others(weights: &Weights, headers: &[TensorHeader]) {
    let known: std::collections::HashSet<&str> = headers.iter().map(|header| header.name.as_str()).collect();
    let others: Vec<&str> = weights.names().filter(|name| !known.contains(name)).collect();
    if !others.is_empty() {
        let shown = others[..others.len().min(SHOWN_NAMES)].join(", ");
        let more = if others.len() > SHOWN_NAMES { ", …" } else { "" };
        tracing::warn!(
            "{}: skipped {} tensors that are not part of a GLM: {shown}{more}",
            weights.path().display(),
            others.len()
        );
    }
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found == extension)
}

/// Returns `output` if it names a file, or the file of the layout in the folder `output`.
fn output_file(output: &Path, to: Layout, iteration: u64) -> PathBuf {
    match to {
        Layout::Safetensors if has_extension(output, "safetensors") => output.to_owned(),
        Layout::Safetensors => output.join(WEIGHTS_FILE),
        Layout::Published if has_extension(output, "pt") => output.to_owned(),
        Layout::Published => output.join(iteration.to_string()).join(PUBLISHED_FILE),
    }
}

fn create_parent(path: &Path) -> Result<(), CheckpointError> {
    let Some(folder) = path.parent() else { return Ok(()) };
    std::fs::create_dir_all(folder).map_err(|source| CheckpointError::Io {
        doing: "cannot create folder",
        path: folder.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_is_a_file_or_a_folder() {
        let file = |output: &str, to| output_file(Path::new(output), to, 7).display().to_string();
        assert_eq!(file("a.safetensors", Layout::Safetensors), "a.safetensors");
        assert_eq!(file("a", Layout::Safetensors), "a/model.safetensors");
        assert_eq!(file("a.pt", Layout::Published), "a.pt");
        assert_eq!(file("a", Layout::Published), "a/7/mp_rank_00_model_states.pt");
    }
}
