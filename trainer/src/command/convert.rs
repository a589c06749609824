//! `glm-trainer convert`: converts weights to another container or number format, one tensor at a time.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use glm_support::command::positive::positive;
use glm_support::files::atomic::remove_leftovers_of;
use glm_support::files::output::{self, OutputError};
use serde::Serialize;
use thiserror::Error;

use crate::checkpoint::locate::{CheckpointChoice, WEIGHTS_FILE};
use crate::checkpoint::model_parallel::{Share, file_name, parts_in};
use crate::checkpoint::numbers::{Format, converted};
use crate::checkpoint::published::PUBLISHED_FILE;
use crate::checkpoint::stored::TensorHeader;
use crate::checkpoint::weights::Weights;
use crate::checkpoint::{CheckpointError, hugging_face, published, safetensors_file, tensors};

/// Maximum number of names in a message.
const SHOWN_NAMES: usize = 5;

/// Container of the converted weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Layout {
    /// model.safetensors, the format of training runs
    Safetensors,
    /// mp_rank_00_model_states.pt in the folder layout of the published Python code
    Published,
    /// Folder with config.json and model.safetensors, or shards of it with an index, as in THUDM/glm-2b
    HuggingFace,
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
    /// Number of model-parallel parts of the published layout: mp_rank_00_model_states.pt, mp_rank_01_model_states.pt, …
    #[arg(long, value_name = "N", default_value_t = NonZeroUsize::MIN, value_parser = positive)]
    pub parts: NonZeroUsize,
    /// Maximum size of a file of a Hugging Face folder, in GB
    #[arg(long, value_name = "GB", default_value_t = 5.0)]
    pub shard_size: f64,
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
    /// The number of parts does not suit the layout or the model.
    #[error("{0}")]
    Parts(String),
    /// The output exists.
    #[error("{} already exists; use another path, or --force to replace it", .0.display())]
    Exists(PathBuf),
}

/// Result of `convert`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Converted {
    /// Written file, or the folder of several.
    pub path: PathBuf,
    /// Number of written files of weights.
    pub files: usize,
    /// Number of tensors.
    pub tensors: usize,
    /// Size of their elements in bytes.
    pub bytes: usize,
}

impl fmt::Display for Converted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, files, tensors, bytes } = self;
        let files = if *files > 1 { format!(" in {files} files") } else { String::new() };
        writeln!(f, "{}: {tensors} tensors{files}, {:.1} MB", path.display(), *bytes as f64 / 1e6)
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
    output::check_local(&args.output)?;
    let weights = Weights::open_checkpoint(&args.input, args.checkpoint)?;
    let to = args.to.unwrap_or(match has_extension(&args.output, "pt") {
        true => Layout::Published,
        false => Layout::Safetensors,
    });
    let parts = args.parts.get();
    if parts > 1 && (to != Layout::Published || has_extension(&args.output, "pt")) {
        return Err(ConvertError::Parts("--parts needs --to published and a folder as output".to_owned()));
    }
    // The published code requires at least 1.
    let iteration = weights.located().step.unwrap_or(1).max(1);
    let path = output_file(&args.output, to, iteration);
    let old = old_files(&path, to, &args.output);
    if let Some(old) = old.first() {
        output::file(old)?;
        if !args.force {
            return Err(ConvertError::Exists(old.clone()));
        }
    }
    let format = args.dtype.or((to == Layout::Published).then_some(Format::Fp16));
    let config = match to {
        Layout::Safetensors | Layout::HuggingFace => weights.model_config(args.heads)?,
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
    let tokenizer = weights.tokenizer();
    let written = match to {
        Layout::Safetensors => {
            let metadata = tensors::metadata(&path, &config, tokenizer.as_ref())?;
            safetensors_file::write(&file, &headers, &metadata, data)?;
            vec![path.clone()]
        }
        Layout::Published => write_parts(&file, iteration, parts, &headers, data)?,
        Layout::HuggingFace => {
            let metadata = tensors::metadata(&path, &config, tokenizer.as_ref())?;
            let limit = (args.shard_size * 1e9).max(1.0) as usize;
            hugging_face::write(&args.output, &config, &metadata, limit, &headers, data)?
        }
    };
    // Parts and shards of old weights that are not replaced would be read with the new ones.
    let is_kept = |old: &Path| old == path || written.iter().any(|new| new.file_name() == old.file_name());
    for stale in old.iter().filter(|old| !is_kept(old)) {
        std::fs::remove_file(stale).map_err(|source| CheckpointError::Io {
            doing: "cannot remove",
            path: stale.clone(),
            source,
        })?;
    }
    if to == Layout::Published && path != args.output {
        // Last, so that it names complete files.
        published::write_latest(&args.output, iteration)?;
    }
    let bytes = headers.iter().filter_map(TensorHeader::bytes).sum();
    let path = if written.len() == 1 { written[0].clone() } else { args.output.clone() };
    Ok(Converted { path, files: written.len(), tensors: headers.len(), bytes })
}

/// Writes the published layout in model-parallel parts; returns their paths.
fn write_parts<'w>(
    first: &Path,
    iteration: u64,
    parts: usize,
    headers: &[TensorHeader],
    data: impl Fn(&TensorHeader) -> Result<Cow<'w, [u8]>, CheckpointError>,
) -> Result<Vec<PathBuf>, ConvertError> {
    if parts == 1 {
        published::write_file(first, iteration, 1, headers, data)?;
        return Ok(vec![first.to_owned()]);
    }
    let shares = headers.iter().map(|header| {
        let TensorHeader { name, kind, shape } = header;
        let shape = Share::of(name).part(shape, parts).ok_or_else(|| {
            ConvertError::Parts(format!(
                "`{name}` of shape {shape:?} cannot be divided into {parts} parts; use another --parts"
            ))
        })?;
        Ok(TensorHeader { name: name.clone(), kind: *kind, shape })
    });
    let shares = shares.collect::<Result<Vec<_>, ConvertError>>()?;
    let mut written = Vec::new();
    for part in 0..parts {
        let path = first.with_file_name(file_name(part));
        let mut remaining = headers.iter();
        published::write_file(&path, iteration, parts, &shares, |share| {
            // The headers of a part have the order of the whole ones.
            let Some(whole) = remaining.next() else { return Ok(Cow::Borrowed(&[])) };
            Ok(Cow::Owned(Share::of(&share.name).cut(&data(whole)?, &whole.shape, part, parts)))
        })?;
        written.push(path);
    }
    Ok(written)
}

/// Returns the weights that the output replaces: the file, or all parts or shards next to it.
fn old_files(path: &Path, to: Layout, output: &Path) -> Vec<PathBuf> {
    let mut old: Vec<PathBuf> = path.exists().then(|| path.to_owned()).into_iter().collect();
    match to {
        Layout::Published if path != output => {
            old.extend(path.parent().map(parts_in).unwrap_or_default().into_iter().map(|(_, part)| part));
        }
        Layout::HuggingFace => old.extend(hugging_face::weights_in(output)),
        _ => {}
    }
    old.sort();
    old.dedup();
    old
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
        Layout::HuggingFace => output.join(hugging_face::CONFIG_FILE),
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
        assert_eq!(file("a", Layout::HuggingFace), "a/config.json");
    }
}
