//! Model input of every choice as JSON lines.

use std::fs::File;
use std::io::{self, Write};

use glm_schemas::cloze::encoding::ChoiceEncoder;
use glm_schemas::cloze::{ClozeView, TOKEN_COLUMNS};
use glm_schemas::manifest::Split;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;
use serde::Serialize;

use super::error::InspectError;
use super::source::{Part, Source, file_error};

/// Output line: one choice of one question, not padded.
#[derive(Debug, Serialize)]
struct Line<'a> {
    split: Option<Split>,
    /// Index of the question in its split.
    order: usize,
    example_id: &'a str,
    choice_no: usize,
    choice: &'a str,
    num_choices: usize,
    /// Indices of the correct choices.
    correct: &'a [usize],
    sep: usize,
    ids: &'a [i32],
    position: &'a [i32],
    block_position: &'a [i32],
    target: &'a [i32],
    loss_mask: &'a [i32],
}

/// Prints the first `questions` questions, one choice per line. Only one batch of rows is in memory at a time.
pub(super) fn print(
    source: &Source,
    encoder: &ChoiceEncoder,
    questions: usize,
    out: &mut dyn Write,
) -> Result<(), InspectError> {
    let mut left = questions;
    for part in &source.parts {
        let mut order = part.first_row;
        let damaged = |source: ParquetError| InspectError::Parquet { path: part.path.clone(), source };
        let batches = open(part)?;
        // The file is open: from here on, it does not matter whether the data set is replaced.
        source.check_current()?;
        for batch in batches {
            let batch = batch.map_err(|error| damaged(error.into()))?;
            let view =
                ClozeView::try_new(&batch).map_err(|source| InspectError::NotAShard { path: part.path.clone(), source })?;
            for row in 0..view.len() {
                if left == 0 {
                    return Ok(());
                }
                print_question(part, &view, row, order, encoder, out)?;
                left -= 1;
                order += 1;
            }
        }
    }
    Ok(())
}

fn open(part: &Part) -> Result<ParquetRecordBatchReader, InspectError> {
    let damaged = |source| InspectError::Parquet { path: part.path.clone(), source };
    let file = File::open(&part.path).map_err(file_error(&part.path))?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(damaged)?;
    let columns = ProjectionMask::columns(builder.parquet_schema(), TOKEN_COLUMNS);
    builder.with_projection(columns).build().map_err(damaged)
}

fn print_question(
    part: &Part,
    view: &ClozeView<'_>,
    row: usize,
    order: usize,
    encoder: &ChoiceEncoder,
    out: &mut dyn Write,
) -> Result<(), InspectError> {
    let example_id = view.example_id(row);
    let correct: Vec<usize> = view.choices(row).enumerate().filter_map(|(i, choice)| choice.correct.then_some(i)).collect();
    for (choice_no, choice) in view.choices(row).enumerate() {
        let input = encoder.encode(&view.question(row), choice.ids).map_err(|source| InspectError::DoesNotFit {
            path: part.path.clone(),
            example_id: example_id.to_owned(),
            source,
        })?;
        let line = Line {
            split: part.split,
            order,
            example_id,
            choice_no,
            choice: choice.text.unwrap_or_default(),
            num_choices: view.choices(row).len(),
            correct: &correct,
            sep: input.sep,
            ids: &input.ids,
            position: &input.position,
            block_position: &input.block_position,
            target: &input.target,
            loss_mask: &input.loss_mask,
        };
        serde_json::to_writer(&mut *out, &line).map_err(io::Error::from)?;
        out.write_all(b"\n")?;
    }
    Ok(())
}
