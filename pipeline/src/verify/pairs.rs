//! Rules for pairs.

use arrow_array::RecordBatch;
use glm_schemas::column::ViewError;
use glm_schemas::origin::OriginView;
use glm_schemas::seq2seq::PairView;
use glm_schemas::seq2seq::encoding::{PairEncoder, PairLayout};

use super::fault::Violation;
use super::rows::Rules;

/// Columns of a batch.
pub(super) struct Columns<'a> {
    view: PairView<'a>,
    origins: OriginView<'a>,
}

impl<'a> Columns<'a> {
    pub(super) fn try_new(batch: &'a RecordBatch) -> Result<Self, ViewError> {
        Ok(Self { view: PairView::try_new(batch)?, origins: OriginView::try_new(batch)? })
    }

    pub(super) fn example_id(&self, row: usize) -> &'a str {
        self.view.example_id(row)
    }
}

impl Rules {
    /// Checks the rules for one pair, in a fixed order; returns its number of tokens.
    pub(super) fn check_pair(&self, columns: &Columns<'_>, row: usize) -> Result<usize, Violation> {
        let view = &columns.view;
        let pair = view.pair(row).map_err(|error| Violation::new("keep", error.to_string(), "start, end or around"))?;
        let lists = [
            ("prefix_ids", pair.prefix),
            ("source_ids", pair.source),
            ("suffix_ids", pair.suffix),
            ("target_ids", pair.target),
        ];
        for (column, ids) in lists {
            self.check_ids(column, ids)?;
        }
        view.check_row(row).map_err(|error| Violation::new(error.column, error.found, error.expected))?;
        let encoder = PairEncoder::new(self.special, self.max_seq_len, 1, PairLayout::Compact);
        if let Err(error) = encoder.push_context(&pair, &mut Vec::new()) {
            return Err(Violation::new("prefix_ids", error.to_string(), "a blank, and room for the source"));
        }
        if view.target(row).is_none() && !pair.target.is_empty() {
            return Err(Violation::new("target", "null", "the text of `target_ids`"));
        }
        self.check_origin(&columns.origins, row)?;
        Ok(pair.context_tokens() + pair.target.len())
    }
}
