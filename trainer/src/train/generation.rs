//! Texts for the rows of a split, generated while they are scored.

use std::sync::Arc;

use arrow_array::RecordBatch;
use glm_text::pair::PART_END;
use glm_text::tokenize::Tokenizer;
use tch::no_grad;

use crate::data::DataError;
use crate::distributed::World;
use crate::model::{Glm, Pass};
use crate::task::generation::{Generation, Prediction};
use crate::task::metrics::Metrics;

/// Rows for which texts are generated together.
const WINDOW: usize = 64;

/// Generates texts for rows that are added one by one.
pub(super) struct Texts<'a> {
    model: &'a Glm,
    pass: Pass,
    generation: &'a dyn Generation,
    tokenizer: &'a Tokenizer,
    /// Rows without a text: columns, index of the row in them and in the split.
    pending: Vec<(RecordBatch, usize, usize)>,
    /// Predictions with the index of their row in the split.
    predictions: Vec<(usize, Prediction)>,
}

impl<'a> Texts<'a> {
    /// Starts without rows. `None` if the task is not evaluated by texts.
    ///
    /// # Errors
    /// [`DataError::NoTokenizer`] if the task is, and there is no tokenizer.
    pub(super) fn of_task(
        model: &'a Glm,
        pass: Pass,
        generation: Option<&'a dyn Generation>,
        tokenizer: Option<&'a Arc<Tokenizer>>,
    ) -> Result<Option<Self>, DataError> {
        let Some(generation) = generation else { return Ok(None) };
        let tokenizer = tokenizer.ok_or(DataError::NoTokenizer)?;
        Ok(Some(Self { model, pass, generation, tokenizer, pending: Vec::new(), predictions: Vec::new() }))
    }

    /// Adds a row; calls `on_text` for each row that has a text then.
    pub(super) fn add(
        &mut self,
        rows: &RecordBatch,
        row: usize,
        split_row: usize,
        on_text: &mut dyn FnMut(&Prediction),
    ) -> Result<(), DataError> {
        self.pending.push((rows.clone(), row, split_row));
        if self.pending.len() < WINDOW { Ok(()) } else { self.generate(on_text) }
    }

    /// Generates texts for the pending rows.
    fn generate(&mut self, on_text: &mut dyn FnMut(&Prediction)) -> Result<(), DataError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let contexts = self.pending.iter().map(|(rows, row, _)| self.generation.context(rows, *row));
        let contexts = contexts.collect::<Result<Vec<_>, _>>()?;
        let found = no_grad(|| self.generation.generate(self.model, &self.pass, &contexts))?;
        for ((rows, row, split_row), hypothesis) in self.pending.drain(..).zip(found) {
            // Pieces for several blanks are written as their targets are.
            let pieces = hypothesis.tokens.split(|token| *token == self.tokenizer.special().eop);
            let text = pieces.map(|piece| self.tokenizer.decode(piece)).collect::<Vec<_>>().join(PART_END);
            let prediction = self.generation.prediction(&rows, row, text, hypothesis.score)?;
            on_text(&prediction);
            self.predictions.push((split_row, prediction));
        }
        Ok(())
    }

    /// Generates the remaining texts and returns the predictions of all ranks, in the order of their rows in the split.
    pub(super) fn finish(
        mut self,
        world: Option<&World>,
        on_text: &mut dyn FnMut(&Prediction),
    ) -> Result<Predictions<'a>, DataError> {
        self.generate(on_text)?;
        let mut all = match world {
            None => self.predictions,
            Some(world) => {
                let own = serde_json::to_vec(&self.predictions).unwrap_or_default();
                let shares = world.gather_bytes(&own)?;
                let read = |share: &Vec<u8>| serde_json::from_slice::<Vec<(usize, Prediction)>>(share);
                let shares = shares.iter().map(read).collect::<Result<Vec<_>, _>>();
                shares.map_err(|error| DataError::OtherRank(error.to_string()))?.into_iter().flatten().collect()
            }
        };
        all.sort_by_key(|(row, _)| *row);
        Ok(Predictions { generation: self.generation, all })
    }
}

/// Predictions of a split.
pub(super) struct Predictions<'a> {
    generation: &'a dyn Generation,
    all: Vec<(usize, Prediction)>,
}

impl Predictions<'_> {
    /// Metrics of the predictions of the rows of the split that `has_row` accepts, given the metrics of their targets.
    pub(super) fn metrics(&self, targets: &Metrics, has_row: impl Fn(usize) -> bool) -> Metrics {
        let of_rows = self.all.iter().filter(|(row, _)| has_row(*row)).map(|(_, prediction)| prediction.clone());
        self.generation.metrics(&of_rows.collect::<Vec<_>>(), targets)
    }
}
