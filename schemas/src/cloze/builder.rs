//! Builds record batches from rows.

use std::sync::Arc;

use arrow_array::builder::{BooleanBuilder, Int32Builder, Int64Builder, ListBuilder, StringBuilder, StringDictionaryBuilder};
use arrow_array::types::Int32Type;
use arrow_array::{ArrayRef, ListArray, RecordBatch, StructArray};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{ArrowError, DataType};

use super::encoding::Question;
use super::schema::{self, CharSpan, TokenSpan};
use crate::column::{id_lists, item_field, push_ids};
use crate::origin::{Origin, OriginBuilder};
use crate::vocab::TokenId;

/// Mention of an entity in a passage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntityRow<'a> {
    /// Text of the mention in the passage.
    pub text: &'a str,
    /// Position in the text of the passage.
    pub chars: CharSpan,
    /// Tokens that cover it; `None` (stored as -1, -1) if no token does.
    pub tokens: Option<TokenSpan>,
}

/// Candidate answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChoiceRow<'a> {
    /// Text of the answer.
    pub text: &'a str,
    /// Tokens, without end of piece.
    pub ids: &'a [TokenId],
    /// True for a correct answer.
    pub correct: bool,
    /// Index in the list of choices of the raw record.
    pub index: usize,
    /// Label that it stands for, as the raw data have it; `None` if choices have no names.
    pub name: Option<&'a str>,
}

/// Question to be stored in a shard.
#[derive(Debug, Clone, Copy)]
pub struct ClozeRow<'a> {
    /// Name of the row, for example `train-p12-q34-a0`.
    pub example_id: &'a str,
    /// Place in the raw data.
    pub origin: Origin<'a>,
    /// Index of the passage in the raw data.
    pub passage_id: i64,
    /// Index of the question in the raw data.
    pub question_id: i64,
    /// Name of the questions that are scored together.
    pub group_id: Option<&'a str>,
    /// Index of the raw record, in JSON.
    pub idx: Option<&'a str>,
    /// Origin of the passage.
    pub source: &'a str,
    /// Passage in standard form.
    pub passage: &'a str,
    /// Query in standard form, including the marker of the blank.
    pub query: &'a str,
    /// Tokens of the context.
    pub tokens: &'a Question<'a>,
    /// Mentions of entities in the passage.
    pub entities: &'a [EntityRow<'a>],
    /// Candidate answers.
    pub choices: &'a [ChoiceRow<'a>],
    /// True if the correct answer is known; false in the test split.
    pub labelled: bool,
    /// Right label as the raw data have it; `None` if it is unknown or choices have no names.
    pub label_name: Option<&'a str>,
    /// True if an end of piece is predicted after the tokens of a choice.
    pub end_of_piece: bool,
}

/// Builder of record batches with the schema of [`cloze::schema`](super::schema()).
pub struct ClozeBatchBuilder {
    example_id: StringBuilder,
    origin: OriginBuilder,
    passage_id: Int64Builder,
    question_id: Int64Builder,
    group_id: StringBuilder,
    idx: StringBuilder,
    source: StringDictionaryBuilder<Int32Type>,
    passage: StringBuilder,
    query: StringBuilder,
    segment_offsets: Vec<i32>,
    segment_ids: ListBuilder<Int32Builder>,
    segment_truncatable: BooleanBuilder,
    blank: Int32Builder,
    group_b: Int32Builder,
    entity_offsets: Vec<i32>,
    entity_text: StringBuilder,
    entity_spans: [Int32Builder; 4],
    choice_offsets: Vec<i32>,
    choice_text: StringBuilder,
    choice_ids: ListBuilder<Int32Builder>,
    choice_correct: BooleanBuilder,
    choice_index: Int32Builder,
    choice_name: StringBuilder,
    label: Int32Builder,
    label_name: StringBuilder,
    context_tokens: Int32Builder,
    choice_tokens: Int32Builder,
    num_choices: Int32Builder,
}

impl Default for ClozeBatchBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl ClozeBatchBuilder {
    /// Creates a builder without rows.
    pub fn new() -> Self {
        Self {
            example_id: StringBuilder::new(),
            origin: OriginBuilder::default(),
            passage_id: Int64Builder::new(),
            question_id: Int64Builder::new(),
            group_id: StringBuilder::new(),
            idx: StringBuilder::new(),
            source: StringDictionaryBuilder::new(),
            passage: StringBuilder::new(),
            query: StringBuilder::new(),
            segment_offsets: vec![0],
            segment_ids: id_lists(),
            segment_truncatable: BooleanBuilder::new(),
            blank: Int32Builder::new(),
            group_b: Int32Builder::new(),
            entity_offsets: vec![0],
            entity_text: StringBuilder::new(),
            entity_spans: std::array::from_fn(|_| Int32Builder::new()),
            choice_offsets: vec![0],
            choice_text: StringBuilder::new(),
            choice_ids: id_lists(),
            choice_correct: BooleanBuilder::new(),
            choice_index: Int32Builder::new(),
            choice_name: StringBuilder::new(),
            label: Int32Builder::new(),
            label_name: StringBuilder::new(),
            context_tokens: Int32Builder::new(),
            choice_tokens: Int32Builder::new(),
            num_choices: Int32Builder::new(),
        }
    }

    /// Number of rows appended since the last [`Self::finish`].
    pub fn len(&self) -> usize {
        self.entity_offsets.len() - 1
    }

    /// Returns true if there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends one row.
    ///
    /// # Errors
    /// An [`ArrowError`] if there are more distinct sources or files than a dictionary can hold.
    pub fn append(&mut self, row: &ClozeRow<'_>) -> Result<(), ArrowError> {
        self.source.append(row.source)?;
        self.origin.append(&row.origin)?;
        self.example_id.append_value(row.example_id);
        self.passage_id.append_value(row.passage_id);
        self.question_id.append_value(row.question_id);
        self.passage.append_value(row.passage);
        self.query.append_value(row.query);
        self.group_id.append_option(row.group_id);
        self.idx.append_option(row.idx);
        for segment in &row.tokens.segments {
            push_ids(&mut self.segment_ids, segment.ids);
            self.segment_truncatable.append_value(segment.truncatable);
        }
        push_offset(&mut self.segment_offsets, row.tokens.segments.len());
        self.blank.append_value(row.tokens.blank as i32);
        self.group_b.append_value(row.tokens.group_b as i32);

        for entity in row.entities {
            let tokens = entity.tokens.map_or([-1, -1], |span| [span.start as i32, span.end as i32]);
            let span = [entity.chars.start as i32, entity.chars.end as i32, tokens[0], tokens[1]];
            self.entity_text.append_value(entity.text);
            for (builder, value) in self.entity_spans.iter_mut().zip(span) {
                builder.append_value(value);
            }
        }
        push_offset(&mut self.entity_offsets, row.entities.len());

        for choice in row.choices {
            self.choice_text.append_value(choice.text);
            push_ids(&mut self.choice_ids, choice.ids);
            self.choice_correct.append_value(choice.correct);
            self.choice_index.append_value(choice.index as i32);
            self.choice_name.append_option(choice.name);
        }
        push_offset(&mut self.choice_offsets, row.choices.len());

        let label = row.choices.iter().position(|choice| choice.correct).filter(|_| row.labelled);
        self.label.append_option(label.map(|label| label as i32));
        self.label_name.append_option(row.label_name);
        self.context_tokens.append_value(row.tokens.context_tokens() as i32);
        self.choice_tokens
            .append_value(row.choices.iter().map(|choice| choice.ids.len() as i32 + i32::from(row.end_of_piece)).sum());
        self.num_choices.append_value(row.choices.len() as i32);
        Ok(())
    }

    /// Returns the appended rows as a record batch and clears the builder.
    ///
    /// # Errors
    /// An [`ArrowError`] if the batch is too large for 32-bit offsets.
    pub fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        let mut entity_columns: Vec<ArrayRef> = vec![Arc::new(self.entity_text.finish())];
        entity_columns.extend(self.entity_spans.iter_mut().map(|span| Arc::new(span.finish()) as ArrayRef));
        let entities = structs(schema::entity_fields(), entity_columns, &mut self.entity_offsets)?;
        let segment_columns: Vec<ArrayRef> =
            vec![Arc::new(self.segment_ids.finish()), Arc::new(self.segment_truncatable.finish())];
        let segments = structs(schema::segment_fields(), segment_columns, &mut self.segment_offsets)?;
        let choice_columns: Vec<ArrayRef> = vec![
            Arc::new(self.choice_text.finish()),
            Arc::new(self.choice_ids.finish()),
            Arc::new(self.choice_correct.finish()),
            Arc::new(self.choice_index.finish()),
            Arc::new(self.choice_name.finish()),
        ];
        let choices = structs(schema::choice_fields(), choice_columns, &mut self.choice_offsets)?;
        let [split, source_id, raw_file, raw_line, extra] = self.origin.finish();
        RecordBatch::try_new(
            schema::schema(),
            vec![
                Arc::new(self.example_id.finish()),
                split,
                source_id,
                Arc::new(self.passage_id.finish()),
                Arc::new(self.question_id.finish()),
                Arc::new(self.group_id.finish()),
                Arc::new(self.idx.finish()),
                Arc::new(self.source.finish()),
                raw_file,
                raw_line,
                Arc::new(self.passage.finish()),
                Arc::new(self.query.finish()),
                Arc::new(segments),
                Arc::new(self.blank.finish()),
                Arc::new(self.group_b.finish()),
                Arc::new(entities),
                Arc::new(choices),
                Arc::new(self.label.finish()),
                Arc::new(self.label_name.finish()),
                Arc::new(self.context_tokens.finish()),
                Arc::new(self.choice_tokens.finish()),
                Arc::new(self.num_choices.finish()),
                extra,
            ],
        )
    }
}

fn push_offset(offsets: &mut Vec<i32>, items: usize) {
    let last = offsets.last().copied().unwrap_or(0);
    offsets.push(last + items as i32);
}

/// Builds a list<struct> column and resets `offsets`.
fn structs(fields: arrow_schema::Fields, columns: Vec<ArrayRef>, offsets: &mut Vec<i32>) -> Result<ListArray, ArrowError> {
    let offsets = OffsetBuffer::new(std::mem::replace(offsets, vec![0]).into());
    let values = StructArray::try_new(fields.clone(), columns, None)?;
    ListArray::try_new(Arc::new(item_field(DataType::Struct(fields))), offsets, Arc::new(values), None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloze::{ClozeView, ViewError};
    use crate::manifest::Split;
    use crate::origin::OriginView;

    #[test]
    fn a_view_returns_the_appended_rows() {
        let mut builder = ClozeBatchBuilder::new();
        let entities = [EntityRow { text: "Ada", chars: CharSpan { start: 0, end: 3 }, tokens: None }];
        let choices = [
            ChoiceRow { text: "Bo", ids: &[21, 22], correct: false, index: 4, name: None },
            ChoiceRow { text: "Ada", ids: &[20], correct: true, index: 0, name: Some("yes") },
        ];
        let origin = Origin {
            split: Split::Val,
            source_id: Some("mine-7"),
            raw_file: "val.jsonl",
            raw_line: Some(12),
            extra: Some("{\"topic\":\"dogs\"}"),
        };
        let row = ClozeRow {
            example_id: "dev-p1-q2",
            origin,
            passage_id: 1,
            question_id: 2,
            group_id: Some("1"),
            idx: None,
            source: "ours",
            passage: "Ada met Bo.",
            query: "@placeholder met Bo",
            tokens: &Question::about(&[20, 4, 21, 22], &[], &[4, 21, 22]),
            entities: &entities,
            choices: &choices,
            labelled: true,
            label_name: Some("yes"),
            end_of_piece: true,
        };
        builder.append(&row).expect("append");
        builder
            .append(&ClozeRow { labelled: false, label_name: None, idx: Some("7"), origin: Origin::NONE, ..row })
            .expect("append");
        assert_eq!(builder.len(), 2);
        let batch = builder.finish().expect("finish");
        assert!(builder.is_empty());
        assert_eq!(batch.schema(), schema::schema());

        let view = ClozeView::try_new(&batch).expect("view");
        assert_eq!(view.len(), 2);
        assert_eq!(view.question(0), *row.tokens);
        assert_eq!((view.label(0), view.label(1)), (Some(1), None));
        assert_eq!(view.context_tokens(1), 10);
        let read: Vec<_> = view.choices(1).collect();
        assert_eq!(read[0].ids, [21, 22]);
        assert_eq!((read[1].text, read[1].correct), (Some("Ada"), true));
        assert_eq!((read[0].index, read[1].index), (Some(4), Some(0)));
        assert_eq!((view.source_id(0), view.source_id(1), view.question_id(1)), (Some("mine-7"), None, Some(2)));
        assert_eq!((view.label_name(0), view.label_name(1), view.group_id(1)), (Some("yes"), None, Some("1")));
        assert_eq!((view.idx(0), view.idx(1), read[0].name, read[1].name), (None, Some("7"), None, Some("yes")));
        let origins = OriginView::try_new(&batch).expect("view");
        assert_eq!((origins.get(0), origins.get(1)), (Ok(origin), Ok(Origin::NONE)));
    }

    #[test]
    fn a_missing_column_is_an_error() {
        let mut builder = ClozeBatchBuilder::new();
        let batch = builder.finish().expect("finish");
        let position = batch.schema().index_of("label").expect("column");
        let without = batch.project(&(0..batch.num_columns()).filter(|&i| i != position).collect::<Vec<_>>()).expect("project");
        assert_eq!(ClozeView::try_new(&without).err(), Some(ViewError::Missing("label")));
    }
}
