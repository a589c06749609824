//! Builds record batches from documents.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_array::builder::{Int32Builder, ListBuilder, StringBuilder, StringDictionaryBuilder};
use arrow_array::types::Int32Type;
use arrow_schema::ArrowError;

use super::schema::schema;
use crate::column::{id_lists, push_ids};
use crate::origin::{Origin, OriginBuilder};
use crate::vocab::TokenId;

/// Document to be stored in a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DocumentRow<'a> {
    /// Name of the row, for example `train-d12`.
    pub example_id: &'a str,
    /// Place in the raw data.
    pub origin: Origin<'a>,
    /// Name of the corpus.
    pub source: &'a str,
    /// Text before the document, which is context only.
    pub prompt: Option<&'a str>,
    /// Text of the document in standard form.
    pub text: &'a str,
    /// Tokens of the prompt; empty without one.
    pub prompt_ids: &'a [TokenId],
    /// Tokens of the text, without `[CLS]` and end of text.
    pub ids: &'a [TokenId],
    /// Exclusive ends of the sentences in `ids`, ascending.
    pub sentence_ends: &'a [i32],
}

impl DocumentRow<'_> {
    /// Number of tokens of prompt and text.
    pub fn num_tokens(&self) -> usize {
        self.prompt_ids.len() + self.ids.len()
    }
}

/// Builder of record batches with the schema of [`document::schema`](super::schema()).
pub struct DocumentBatchBuilder {
    rows: usize,
    origin: OriginBuilder,
    example_id: StringBuilder,
    source: StringDictionaryBuilder<Int32Type>,
    prompt: StringBuilder,
    text: StringBuilder,
    prompt_ids: ListBuilder<Int32Builder>,
    ids: ListBuilder<Int32Builder>,
    sentence_ends: ListBuilder<Int32Builder>,
    num_tokens: Int32Builder,
}

impl Default for DocumentBatchBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl DocumentBatchBuilder {
    /// Creates a builder without rows.
    pub fn new() -> Self {
        Self {
            rows: 0,
            origin: OriginBuilder::default(),
            example_id: StringBuilder::new(),
            source: StringDictionaryBuilder::new(),
            prompt: StringBuilder::new(),
            text: StringBuilder::new(),
            prompt_ids: id_lists(),
            ids: id_lists(),
            sentence_ends: id_lists(),
            num_tokens: Int32Builder::new(),
        }
    }

    /// Number of rows appended since the last [`Self::finish`].
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Returns true if there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Appends one row.
    ///
    /// # Errors
    /// An [`ArrowError`] if there are more distinct sources or files than a dictionary can hold.
    pub fn append(&mut self, row: &DocumentRow<'_>) -> Result<(), ArrowError> {
        self.source.append(row.source)?;
        self.origin.append(&row.origin)?;
        self.example_id.append_value(row.example_id);
        self.prompt.append_option(row.prompt);
        self.text.append_value(row.text);
        push_ids(&mut self.prompt_ids, row.prompt_ids);
        push_ids(&mut self.ids, row.ids);
        push_ids(&mut self.sentence_ends, row.sentence_ends);
        self.num_tokens.append_value(row.num_tokens() as i32);
        self.rows += 1;
        Ok(())
    }

    /// Returns the appended rows as a record batch and clears the builder.
    ///
    /// # Errors
    /// An [`ArrowError`] if the batch is too large for 32-bit offsets.
    pub fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        self.rows = 0;
        let [split, source_id, raw_file, raw_line, extra] = self.origin.finish();
        RecordBatch::try_new(
            schema(),
            vec![
                Arc::new(self.example_id.finish()),
                split,
                source_id,
                Arc::new(self.source.finish()),
                raw_file,
                raw_line,
                Arc::new(self.prompt.finish()),
                Arc::new(self.text.finish()),
                Arc::new(self.prompt_ids.finish()),
                Arc::new(self.ids.finish()),
                Arc::new(self.sentence_ends.finish()),
                Arc::new(self.num_tokens.finish()),
                extra,
            ],
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{DocumentView, TOKEN_COLUMNS};
    use crate::manifest::Split;
    use crate::origin::OriginView;

    #[test]
    fn a_view_returns_the_appended_rows() {
        let origin = Origin {
            split: Split::Val,
            source_id: Some("7"),
            raw_file: "val.jsonl",
            raw_line: Some(12),
            extra: Some("{\"topic\":\"dogs\"}"),
        };
        let row = DocumentRow {
            example_id: "val-d0",
            origin,
            source: "wikipedia",
            prompt: Some("Q?"),
            text: "A. b.",
            prompt_ids: &[5, 6],
            ids: &[7, 4, 8, 4],
            sentence_ends: &[2, 4],
        };
        let bare = DocumentRow { example_id: "val-d1", prompt: None, prompt_ids: &[], sentence_ends: &[], ..row };
        let mut builder = DocumentBatchBuilder::new();
        builder.append(&row).expect("append");
        builder.append(&DocumentRow { origin: Origin::NONE, ..bare }).expect("append");
        assert_eq!(builder.len(), 2);
        let batch = builder.finish().expect("finish");
        assert!(builder.is_empty());
        assert_eq!(batch.schema(), schema());

        let view = DocumentView::try_new(&batch).expect("view");
        assert_eq!((view.len(), view.example_id(1)), (2, "val-d1"));
        assert_eq!((view.prompt_ids(0), view.ids(0), view.sentence_ends(0)), (row.prompt_ids, row.ids, row.sentence_ends));
        assert_eq!((view.prompt_ids(1), view.ids(1), view.sentence_ends(1)), (&[][..], row.ids, &[][..]));
        assert_eq!((view.num_tokens(0), view.num_tokens(1)), (6, 4));
        assert_eq!((view.source_id(0), view.source_id(1)), (Some("7"), None));
        assert_eq!((view.prompt(0), view.prompt(1)), (Some("Q?"), None));
        assert_eq!((view.text(1), view.source(1)), (Some("A. b."), Some("wikipedia")));
        assert_eq!(view.ids(1).as_ptr(), view.ids(0)[4..].as_ptr_range().start, "ids are not copied");
        let origins = OriginView::try_new(&batch).expect("view");
        assert_eq!((origins.get(0), origins.get(1)), (Ok(origin), Ok(Origin::NONE)));

        let columns = TOKEN_COLUMNS.map(|name| batch.schema().index_of(name).expect("column"));
        let tokens = batch.project(&columns).expect("columns");
        let view = DocumentView::try_new(&tokens).expect("texts are optional");
        assert_eq!((view.ids(0), view.text(0), view.prompt(0), view.source_id(0)), (row.ids, None, None, None));
        assert_eq!(view.source(0), None);
    }
}
