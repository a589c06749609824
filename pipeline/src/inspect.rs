//! `glm-prep inspect`: looks into a shard or a data set.
//!
//! - `source`: which shard files a path stands for, and what the manifest beside them says.
//! - `rows`: schema, counts and the first questions in readable form, through Polars.
//! - `sql`: a query over all shards, through Polars' SQL.
//! - `json`: Polars values as JSON.
//! - `model_input`: the exact model input of every choice, read by Arrow and encoded by [`glm_schemas::encoding`].

mod error;
mod json;
mod model_input;
mod rows;
mod source;
mod sql;

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use glm_schemas::encoding::{ChoiceEncoder, PUBLISHED_SEQUENCE_LENGTH};
use glm_schemas::manifest::Split;

pub use error::InspectError;
use source::Source;

/// Questions that are shown unless `--rows` says otherwise.
const DEFAULT_ROWS: usize = 5;

/// Look into a shard or a data set.
#[derive(Debug, Clone, Args)]
pub struct InspectArgs {
    /// A shard, or the folder of a data set: the one given to `ingest`, or its `shards`.
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    /// Look at one split only: train, val or test.
    #[arg(long, value_name = "SPLIT")]
    pub split: Option<Split>,
    /// Number of questions to show [default: 5; with --model-input: all].
    #[arg(long, value_name = "N", conflicts_with = "sql")]
    pub rows: Option<usize>,
    /// Run a query on the table `shards`, which has a column `split` besides those of the shards.
    #[arg(long, value_name = "QUERY", conflicts_with = "model_input")]
    pub sql: Option<String>,
    /// Print the questions, or the query's result, as JSON: one object a line.
    #[arg(long)]
    pub json: bool,
    /// Print the model input of every choice: one JSON object a line, in published order, not padded.
    #[arg(long)]
    pub model_input: bool,
    /// The sequence length that passages are cut to in the model input.
    #[arg(long, value_name = "N", default_value_t = PUBLISHED_SEQUENCE_LENGTH, requires = "model_input")]
    pub max_seq_len: usize,
}

/// Prints what was asked for.
///
/// # Errors
/// [`InspectError`] where the path is no shard or data set, its content breaks the contract, the query is wrong, or `out`
/// cannot be written to.
pub fn run(args: &InspectArgs, out: &mut dyn Write) -> Result<(), InspectError> {
    let source = Source::open(&args.path, args.split)?;
    if args.model_input {
        let encoder = ChoiceEncoder::new(source.special, args.max_seq_len);
        return model_input::print(&source, &encoder, args.rows.unwrap_or(usize::MAX), out);
    }
    if let Some(query) = &args.sql {
        return sql::print(&source, query, args.json, out);
    }
    let rows = args.rows.unwrap_or(DEFAULT_ROWS);
    if args.json { rows::print_json(&source, rows, out) } else { rows::print(&source, rows, out) }
}
