//! Builds record batches from pairs.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_array::builder::{Int32Builder, ListBuilder, StringBuilder, StringDictionaryBuilder};
use arrow_array::types::Int32Type;
use arrow_schema::{ArrowError, DataType};

use super::encoding::Pair;
use super::schema::schema;
use crate::column::{id_lists, item_field, push_ids};
use crate::origin::{Origin, OriginBuilder};

/// Pair to be stored in a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PairRow<'a> {
    /// Name of the row, for example `train-12`.
    pub example_id: &'a str,
    /// Place in the raw data.
    pub origin: Origin<'a>,
    /// Id of the question that several rows ask of different windows of a text.
    pub group_id: Option<&'a str>,
    /// Text of the source.
    pub source: &'a str,
    /// Question or answer that is part of the context besides the source.
    pub prompt: Option<&'a str>,
    /// Text of the target; `None` if it is unknown.
    pub target: Option<&'a str>,
    /// Texts that predictions are compared with.
    pub references: &'a [String],
    /// Tokens.
    pub tokens: Pair<'a>,
}

/// Builder of record batches with the schema of [`seq2seq::schema`](super::schema()).
pub struct PairBatchBuilder {
    rows: usize,
    origin: OriginBuilder,
    example_id: StringBuilder,
    group_id: StringBuilder,
    source: StringBuilder,
    prompt: StringBuilder,
    target: StringBuilder,
    references: ListBuilder<StringBuilder>,
    ids: [ListBuilder<Int32Builder>; 4],
    keep: StringDictionaryBuilder<Int32Type>,
    focus: Int32Builder,
    context_tokens: Int32Builder,
    target_tokens: Int32Builder,
}

impl Default for PairBatchBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl PairBatchBuilder {
    /// Creates a builder without rows.
    pub fn new() -> Self {
        Self {
            rows: 0,
            origin: OriginBuilder::default(),
            example_id: StringBuilder::new(),
            group_id: StringBuilder::new(),
            source: StringBuilder::new(),
            prompt: StringBuilder::new(),
            target: StringBuilder::new(),
            references: ListBuilder::new(StringBuilder::new()).with_field(item_field(DataType::Utf8)),
            ids: std::array::from_fn(|_| id_lists()),
            keep: StringDictionaryBuilder::new(),
            focus: Int32Builder::new(),
            context_tokens: Int32Builder::new(),
            target_tokens: Int32Builder::new(),
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
    /// An [`ArrowError`] if there are more distinct files than a dictionary can hold.
    pub fn append(&mut self, row: &PairRow<'_>) -> Result<(), ArrowError> {
        let Pair { prefix, source, suffix, keep, focus, target } = row.tokens;
        self.origin.append(&row.origin)?;
        self.keep.append(keep.name())?;
        self.example_id.append_value(row.example_id);
        self.group_id.append_option(row.group_id);
        self.source.append_value(row.source);
        self.prompt.append_option(row.prompt);
        self.target.append_option(row.target);
        row.references.iter().for_each(|text| self.references.values().append_value(text));
        self.references.append(true);
        for (builder, ids) in self.ids.iter_mut().zip([prefix, source, suffix, target]) {
            push_ids(builder, ids);
        }
        self.focus.append_option(focus.map(|focus| focus as i32));
        self.context_tokens.append_value(row.tokens.context_tokens() as i32);
        self.target_tokens.append_value(target.len() as i32);
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
        let [prefix, source, suffix, target] = self.ids.each_mut().map(|ids| Arc::new(ids.finish()));
        RecordBatch::try_new(
            schema(),
            vec![
                Arc::new(self.example_id.finish()),
                split,
                source_id,
                Arc::new(self.group_id.finish()),
                raw_file,
                raw_line,
                Arc::new(self.source.finish()),
                Arc::new(self.prompt.finish()),
                Arc::new(self.target.finish()),
                Arc::new(self.references.finish()),
                prefix,
                source,
                suffix,
                target,
                Arc::new(self.keep.finish()),
                Arc::new(self.focus.finish()),
                Arc::new(self.context_tokens.finish()),
                Arc::new(self.target_tokens.finish()),
                extra,
            ],
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Split;
    use crate::origin::OriginView;
    use crate::seq2seq::encoding::Keep;
    use crate::seq2seq::{PairView, TOKEN_COLUMNS};

    #[test]
    fn a_view_returns_the_appended_rows() {
        let origin =
            Origin { split: Split::Val, source_id: Some("7"), raw_file: "val.source", raw_line: Some(12), extra: None };
        let references = ["a b".to_owned(), "c".to_owned()];
        let tokens =
            Pair { prefix: &[5, 6], source: &[7, 8, 9], suffix: &[103], keep: Keep::Around, focus: Some(2), target: &[1] };
        let row = PairRow {
            example_id: "val-0",
            origin,
            group_id: Some("q1"),
            source: "x y z",
            prompt: Some("who?"),
            target: Some("a b"),
            references: &references,
            tokens,
        };
        let bare = PairRow {
            example_id: "test-1",
            origin: Origin::NONE,
            group_id: None,
            prompt: None,
            target: None,
            references: &[],
            tokens: Pair { prefix: &[], keep: Keep::End, focus: None, target: &[], ..tokens },
            ..row
        };
        let mut builder = PairBatchBuilder::new();
        builder.append(&row).expect("append");
        builder.append(&bare).expect("append");
        assert_eq!(builder.len(), 2);
        let batch = builder.finish().expect("finish");
        assert!(builder.is_empty());
        assert_eq!(batch.schema(), schema());

        let view = PairView::try_new(&batch).expect("view");
        assert_eq!((view.len(), view.example_id(1)), (2, "test-1"));
        assert_eq!((view.pair(0), view.pair(1)), (Ok(row.tokens), Ok(bare.tokens)));
        assert_eq!((view.group_id(0), view.group_id(1), view.source_id(0)), (Some("q1"), None, Some("7")));
        assert_eq!(view.references(0).collect::<Vec<_>>(), ["a b", "c"]);
        assert_eq!(view.references(1).count(), 0);
        assert_eq!((view.source(0), view.prompt(1), view.target(0), view.target(1)), (Some("x y z"), None, Some("a b"), None));
        assert_eq!((view.context_tokens(0), view.target_tokens(0)), (7, 1));
        let origins = OriginView::try_new(&batch).expect("view");
        assert_eq!((origins.get(0), origins.get(1)), (Ok(origin), Ok(Origin::NONE)));
        assert_eq!(view.check_values(110), Ok(()));

        let columns = TOKEN_COLUMNS.map(|name| batch.schema().index_of(name).expect("column"));
        let tokens = batch.project(&columns).expect("columns");
        let view = PairView::try_new(&tokens).expect("other texts are optional");
        assert_eq!((view.pair(0), view.source(0), view.target(0)), (Ok(row.tokens), Some("x y z"), None));
    }
}
