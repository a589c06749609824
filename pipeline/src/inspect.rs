//! `glm-prep inspect`: shows the content of a shard or a data set.
//!
//! - `source`: the shard files of a path and their manifest.
//! - `selection`: selects rows with Polars: the first, a random sample, or those that match a condition.
//! - `rows`: schema, counts and rows in readable form.
//! - `question`, `document`: one row in full, laid out by `marks`, `tokens` and [`glm_support::command::paint`]; `closest` suggests
//!   ids if the given one does not exist.
//! - `sql`: SQL queries over all shards with Polars.
//! - `format`: output formats of rows; `json`: Polars values as JSON.
//! - `model_input`: the exact model input of every choice, read by Arrow and encoded by [`glm_schemas::cloze::encoding`].
//! - `error`: errors of the command.

mod closest;
mod document;
mod error;
mod format;
mod found;
mod json;
mod marks;
mod model_input;
mod page;
mod pair;
mod question;
mod rows;
mod selection;
mod source;
mod sql;
mod tokens;

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use glm_schemas::cloze::encoding::PUBLISHED_SEQUENCE_LENGTH;
use glm_schemas::manifest::{Split, TaskName};
use glm_support::command::paint::ColourWhen;

pub use error::InspectError;
use selection::{Pick, Selection};
use source::Source;

use crate::shard::DataSetError;
pub use format::Format;
pub(crate) use format::shorten;

/// Default of `--rows`.
const DEFAULT_ROWS: usize = 5;
/// Maximum number of attempts to show a data set that is replaced again and again.
const MAX_ATTEMPTS: usize = 20;

/// Arguments of `inspect`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  glm-prep inspect data/record
  glm-prep inspect data/record --split val --where 'num_choices > 20' --rows 2
  glm-prep inspect data/record --sample 3 --json
  glm-prep inspect data/record --split val --rows all --format csv
  glm-prep inspect data/record --schema
  glm-prep inspect data/record --id train-p0-q0-a0
  glm-prep inspect data/record --sql 'select count(*) from shards'
  glm-prep inspect data/record --split val --rows 1 --model-input")]
pub struct InspectArgs {
    /// A shard, or the folder of a data set: the one given to `ingest`, or its `shards`
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    /// Show only one split: train, val or test
    #[arg(long, value_name = "SPLIT")]
    pub split: Option<Split>,
    /// Number of rows (questions or documents) to show, or all [default: 5; with --model-input: all]
    #[arg(long, value_name = "N", value_parser = parse_rows, conflicts_with = "sql")]
    pub rows: Option<usize>,
    /// Show only rows that match this SQL condition, such as "num_choices > 9 and source = 'CNN'"
    #[arg(long = "where", value_name = "EXPR", conflicts_with_all = ["sql", "model_input"])]
    pub condition: Option<String>,
    /// Show a random sample of N rows
    #[arg(long, value_name = "N", conflicts_with_all = ["rows", "sql", "model_input"])]
    pub sample: Option<usize>,
    /// Seed of --sample
    #[arg(long, value_name = "S", default_value_t = 0, requires = "sample")]
    pub seed: u64,
    /// Show one row in full: a question with marked mentions, choices and tokens, or a document with its tokens
    #[arg(long, value_name = "EXAMPLE_ID", conflicts_with_all = ["rows", "condition", "sample", "sql", "model_input"])]
    pub id: Option<String>,
    /// Vocabulary of the data set if it is not the built-in one: the file given to `ingest --tokenizer`
    #[arg(long, value_name = "PATH", requires = "id")]
    pub tokenizer: Option<PathBuf>,
    /// Colour the output of --id; without colour, marks are shown as brackets
    #[arg(long, alias = "colour", value_name = "WHEN", value_enum, default_value_t = ColourWhen::Auto)]
    pub color: ColourWhen,
    /// Run a SQL query on the table `shards`: the columns of the shards (see --schema)
    #[arg(long, value_name = "QUERY", conflicts_with = "model_input")]
    pub sql: Option<String>,
    /// Format of rows, or of the result of --sql [default: readable text; with --sql: table]
    #[arg(long, value_name = "FORMAT", value_enum, conflicts_with_all = ["json", "model_input"])]
    pub format: Option<Format>,
    /// Short for --format json: one object per line
    #[arg(long)]
    pub json: bool,
    /// Show the manifest and the columns instead of rows
    #[arg(long, conflicts_with_all = ["rows", "condition", "sample", "id", "sql", "json", "format", "model_input"])]
    pub schema: bool,
    /// Print the model input of every choice of questions: one JSON object per line, in published order, not padded
    #[arg(long)]
    pub model_input: bool,
    /// Sequence length that passages are truncated to in the model input
    #[arg(long, value_name = "N", default_value_t = PUBLISHED_SEQUENCE_LENGTH, requires = "model_input")]
    pub max_seq_len: usize,
}

impl InspectArgs {
    /// The arguments of `glm-prep inspect PATH`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            split: None,
            rows: None,
            condition: None,
            sample: None,
            seed: 0,
            id: None,
            tokenizer: None,
            color: ColourWhen::Auto,
            sql: None,
            format: None,
            json: false,
            schema: false,
            model_input: false,
            max_seq_len: PUBLISHED_SEQUENCE_LENGTH,
        }
    }
}

/// Runs the command and prints to `out`. `quiet` leaves out the number of rows per split.
///
/// # Errors
/// [`InspectError`] if the path is not a shard or data set, its content violates the data contract, the query, condition or id
/// is invalid, or `out` cannot be written to.
pub fn run(args: &InspectArgs, quiet: bool, out: &mut dyn Write) -> Result<(), InspectError> {
    let mut out = Output { out, is_empty: true };
    let mut attempts = 0;
    loop {
        attempts += 1;
        let shown = Source::open(&args.path, args.split)
            .and_then(|source| show(&source, args, quiet, &mut out).map_err(|error| source.replaced_or(error)));
        match shown {
            Err(InspectError::DataSet(DataSetError::Replaced(_))) if out.is_empty && attempts < MAX_ATTEMPTS => {}
            shown => return shown,
        }
    }
}

fn show(source: &Source, args: &InspectArgs, quiet: bool, out: &mut dyn Write) -> Result<(), InspectError> {
    if args.model_input && source.task != TaskName::Cloze {
        return Err(InspectError::NoModelInput { path: source.path.clone(), rows: source.task.rows() });
    }
    if args.model_input {
        let encoder = source.cloze.encoder(source.special, args.max_seq_len);
        return model_input::print(source, &encoder, args.rows.unwrap_or(usize::MAX), out);
    }
    if args.schema {
        return rows::print_schema(source, out);
    }
    let format = if args.json { Some(Format::Json) } else { args.format };
    if let Some(query) = &args.sql {
        return sql::print(source, query, format.unwrap_or(Format::Table), out);
    }
    if let Some(id) = &args.id {
        return match format {
            Some(format) => question::print_as(source, id, format, out),
            None => {
                let (tokenizer, screen) = (args.tokenizer.as_deref(), args.color.for_stdout());
                match source.task {
                    TaskName::Cloze => question::print(source, id, tokenizer, &screen, out),
                    TaskName::Text => document::print(source, id, tokenizer, &screen, out),
                    TaskName::Seq2seq => pair::print(source, id, tokenizer, &screen, out),
                }
            }
        };
    }
    let pick = match args.sample {
        Some(rows) => Pick::Random { rows, seed: args.seed },
        None => Pick::First(args.rows.unwrap_or(DEFAULT_ROWS)),
    };
    let selection = Selection::new(source, args.condition.as_deref(), pick)?;
    match format {
        Some(format) => rows::print_as(&selection, format, out),
        None => rows::print(&selection, !quiet, out),
    }
}

/// Output that knows whether something was written to it.
struct Output<'a> {
    out: &'a mut dyn Write,
    is_empty: bool,
}

impl Write for Output<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.is_empty &= bytes.is_empty();
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Parses a number of rows.
fn parse_rows(text: &str) -> Result<usize, String> {
    match text {
        "all" => Ok(usize::MAX),
        _ => text.parse().map_err(|_| "expected a number of rows, or all".to_owned()),
    }
}
