//! Rules for documents.

use arrow_array::RecordBatch;
use glm_schemas::column::ViewError;
use glm_schemas::document::DocumentView;
use glm_schemas::origin::OriginView;

use super::fault::Violation;
use super::rows::Rules;

/// Columns of a batch.
pub(super) struct Columns<'a> {
    view: DocumentView<'a>,
    origins: OriginView<'a>,
}

impl<'a> Columns<'a> {
    pub(super) fn try_new(batch: &'a RecordBatch) -> Result<Self, ViewError> {
        Ok(Self { view: DocumentView::try_new(batch)?, origins: OriginView::try_new(batch)? })
    }

    pub(super) fn example_id(&self, row: usize) -> &'a str {
        self.view.example_id(row)
    }
}

impl Rules {
    /// Checks the rules for one document, in a fixed order; returns its number of tokens.
    pub(super) fn check_document(&self, columns: &Columns<'_>, row: usize) -> Result<usize, Violation> {
        let view = &columns.view;
        self.check_ids("prompt_ids", view.prompt_ids(row))?;
        self.check_ids("ids", view.ids(row))?;
        view.check_row(row).map_err(|error| Violation::new(error.column, error.found, error.expected))?;
        // Text never becomes a command; an unknown word is not one.
        let commands = self.special.named().into_iter().filter(|&(_, id)| id != self.special.unk);
        for (column, ids) in [("prompt_ids", view.prompt_ids(row)), ("ids", view.ids(row))] {
            for (name, command) in commands.clone() {
                if let Some(at) = ids.iter().position(|&id| id == command) {
                    return Err(Violation::new(column, format!("{name} at position {at}"), "tokens of text only"));
                }
            }
        }
        if view.prompt(row).is_none() && !view.prompt_ids(row).is_empty() {
            return Err(Violation::new("prompt", "null", "the text of `prompt_ids`"));
        }
        self.check_origin(&columns.origins, row)?;
        Ok(view.num_tokens(row))
    }
}
