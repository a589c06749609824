//! `glm-prep inspect`: shows the content of a shard or a data set.
//!
//! A program of its own, `glm-prep-inspect`, which `glm-prep` starts: Polars takes as long to compile as everything else together.
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

use glm_prep::inspect::{Format, InspectArgs};
use glm_prep::shard::DataSetError;
use glm_schemas::manifest::TaskName;

pub use error::InspectError;
use selection::{Pick, Selection};
use source::Source;

/// Default of `--rows`.
const DEFAULT_ROWS: usize = 5;
/// Maximum number of attempts to show a data set that is replaced again and again.
const MAX_ATTEMPTS: usize = 20;

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
                    TaskName::Cloze => {
                        let mask = source.special.mask;
                        page::print_rows(source, id, tokenizer, &screen, out, |page, row| question::question(page, row, mask))
                    }
                    TaskName::Text => page::print_rows(source, id, tokenizer, &screen, out, document::document),
                    TaskName::Seq2seq => page::print_rows(source, id, tokenizer, &screen, out, pair::pair),
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
