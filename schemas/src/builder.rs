//! Record batches out of rows.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanBuilder, Int32Builder, Int64Builder, ListArray, ListBuilder, RecordBatch, StringBuilder,
    StringDictionaryBuilder, StructArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Int32Type};
use arrow::error::ArrowError;

use crate::cloze::{self, CharSpan, TokenSpan};
use crate::encoding::Question;
use crate::vocab::TokenId;

/// One mention of an entity in a passage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntityRow<'a> {
    /// The mention as it stands in the passage.
    pub text: &'a str,
    /// Where it stands in the passage's text.
    pub chars: CharSpan,
    /// Which tokens cover it; `None` where no token does (written as -1, -1).
    pub tokens: Option<TokenSpan>,
}

/// One candidate answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChoiceRow<'a> {
    /// The answer's text.
    pub text: &'a str,
    /// Its tokens, without end of piece.
    pub ids: &'a [TokenId],
    /// Whether it is a right answer.
    pub correct: bool,
}

/// One question, as it goes into a shard.
#[derive(Debug, Clone, Copy)]
pub struct ClozeRow<'a> {
    /// The published guid, for example `train-p12-q34-a0`.
    pub example_id: &'a str,
    /// Index of the passage in the raw data.
    pub passage_id: i64,
    /// Index of the question in the raw data.
    pub question_id: i64,
    /// Where the passage comes from.
    pub source: &'a str,
    /// Standardised text of the passage.
    pub passage: &'a str,
    /// Standardised text of the query, blank included.
    pub query: &'a str,
    /// The tokens.
    pub tokens: Question<'a>,
    /// Every mention.
    pub entities: &'a [EntityRow<'a>],
    /// The candidates.
    pub choices: &'a [ChoiceRow<'a>],
    /// Whether the right answer is known: false in the test split.
    pub labelled: bool,
}

/// Collects rows into record batches with the schema of [`cloze::schema`].
pub struct ClozeBatchBuilder {
    example_id: StringBuilder,
    passage_id: Int64Builder,
    question_id: Int64Builder,
    source: StringDictionaryBuilder<Int32Type>,
    passage: StringBuilder,
    query: StringBuilder,
    passage_ids: ListBuilder<Int32Builder>,
    query_left_ids: ListBuilder<Int32Builder>,
    query_right_ids: ListBuilder<Int32Builder>,
    entity_offsets: Vec<i32>,
    entity_text: StringBuilder,
    entity_spans: [Int32Builder; 4],
    choice_offsets: Vec<i32>,
    choice_text: StringBuilder,
    choice_ids: ListBuilder<Int32Builder>,
    choice_correct: BooleanBuilder,
    label: Int32Builder,
    context_tokens: Int32Builder,
    choice_tokens: Int32Builder,
    num_choices: Int32Builder,
}

impl Default for ClozeBatchBuilder {
    fn default() -> Self {
        Self::new()
    }
}

fn id_lists() -> ListBuilder<Int32Builder> {
    ListBuilder::new(Int32Builder::new()).with_field(cloze::item_field(DataType::Int32))
}

impl ClozeBatchBuilder {
    /// A builder without rows.
    pub fn new() -> Self {
        Self {
            example_id: StringBuilder::new(),
            passage_id: Int64Builder::new(),
            question_id: Int64Builder::new(),
            source: StringDictionaryBuilder::new(),
            passage: StringBuilder::new(),
            query: StringBuilder::new(),
            passage_ids: id_lists(),
            query_left_ids: id_lists(),
            query_right_ids: id_lists(),
            entity_offsets: vec![0],
            entity_text: StringBuilder::new(),
            entity_spans: std::array::from_fn(|_| Int32Builder::new()),
            choice_offsets: vec![0],
            choice_text: StringBuilder::new(),
            choice_ids: id_lists(),
            choice_correct: BooleanBuilder::new(),
            label: Int32Builder::new(),
            context_tokens: Int32Builder::new(),
            choice_tokens: Int32Builder::new(),
            num_choices: Int32Builder::new(),
        }
    }

    /// Rows appended since the last [`Self::finish`].
    pub fn len(&self) -> usize {
        self.entity_offsets.len() - 1
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends one row.
    ///
    /// # Errors
    /// An [`ArrowError`] where there are more distinct sources than a dictionary can hold.
    pub fn append(&mut self, row: &ClozeRow<'_>) -> Result<(), ArrowError> {
        self.source.append(row.source)?;
        self.example_id.append_value(row.example_id);
        self.passage_id.append_value(row.passage_id);
        self.question_id.append_value(row.question_id);
        self.passage.append_value(row.passage);
        self.query.append_value(row.query);
        push_ids(&mut self.passage_ids, row.tokens.passage);
        push_ids(&mut self.query_left_ids, row.tokens.query_left);
        push_ids(&mut self.query_right_ids, row.tokens.query_right);

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
        }
        push_offset(&mut self.choice_offsets, row.choices.len());

        let label = row.choices.iter().position(|choice| choice.correct).filter(|_| row.labelled);
        self.label.append_option(label.map(|label| label as i32));
        self.context_tokens.append_value(row.tokens.context_tokens() as i32);
        self.choice_tokens.append_value(row.choices.iter().map(|choice| choice.ids.len() as i32 + 1).sum());
        self.num_choices.append_value(row.choices.len() as i32);
        Ok(())
    }

    /// The rows appended so far as a record batch; the builder is empty afterwards.
    ///
    /// # Errors
    /// An [`ArrowError`] where a batch has become too large for 32-bit offsets.
    pub fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        let mut entity_columns: Vec<ArrayRef> = vec![Arc::new(self.entity_text.finish())];
        entity_columns.extend(self.entity_spans.iter_mut().map(|span| Arc::new(span.finish()) as ArrayRef));
        let entities = structs(cloze::entity_fields(), entity_columns, &mut self.entity_offsets)?;
        let choice_columns: Vec<ArrayRef> = vec![
            Arc::new(self.choice_text.finish()),
            Arc::new(self.choice_ids.finish()),
            Arc::new(self.choice_correct.finish()),
        ];
        let choices = structs(cloze::choice_fields(), choice_columns, &mut self.choice_offsets)?;
        RecordBatch::try_new(
            cloze::schema(),
            vec![
                Arc::new(self.example_id.finish()),
                Arc::new(self.passage_id.finish()),
                Arc::new(self.question_id.finish()),
                Arc::new(self.source.finish()),
                Arc::new(self.passage.finish()),
                Arc::new(self.query.finish()),
                Arc::new(self.passage_ids.finish()),
                Arc::new(self.query_left_ids.finish()),
                Arc::new(self.query_right_ids.finish()),
                Arc::new(entities),
                Arc::new(choices),
                Arc::new(self.label.finish()),
                Arc::new(self.context_tokens.finish()),
                Arc::new(self.choice_tokens.finish()),
                Arc::new(self.num_choices.finish()),
            ],
        )
    }
}

fn push_ids(builder: &mut ListBuilder<Int32Builder>, ids: &[TokenId]) {
    builder.values().append_slice(ids);
    builder.append(true);
}

fn push_offset(offsets: &mut Vec<i32>, items: usize) {
    let last = offsets.last().copied().unwrap_or(0);
    offsets.push(last + items as i32);
}

/// A list<struct> column; `offsets` starts anew.
fn structs(fields: arrow::datatypes::Fields, columns: Vec<ArrayRef>, offsets: &mut Vec<i32>) -> Result<ListArray, ArrowError> {
    let offsets = OffsetBuffer::new(std::mem::replace(offsets, vec![0]).into());
    let values = StructArray::try_new(fields.clone(), columns, None)?;
    ListArray::try_new(Arc::new(cloze::item_field(DataType::Struct(fields))), offsets, Arc::new(values), None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloze::ClozeView;

    #[test]
    fn a_view_gives_back_what_was_appended() {
        let mut builder = ClozeBatchBuilder::new();
        let entities = [EntityRow { text: "Ada", chars: CharSpan { start: 0, end: 3 }, tokens: None }];
        let choices =
            [ChoiceRow { text: "Bo", ids: &[21, 22], correct: false }, ChoiceRow { text: "Ada", ids: &[20], correct: true }];
        let row = ClozeRow {
            example_id: "dev-p1-q2",
            passage_id: 1,
            question_id: 2,
            source: "ours",
            passage: "Ada met Bo.",
            query: "@placeholder met Bo",
            tokens: Question { passage: &[20, 4, 21, 22], query_left: &[], query_right: &[4, 21, 22] },
            entities: &entities,
            choices: &choices,
            labelled: true,
        };
        builder.append(&row).expect("append");
        builder.append(&ClozeRow { labelled: false, ..row }).expect("append");
        assert_eq!(builder.len(), 2);
        let batch = builder.finish().expect("finish");
        assert!(builder.is_empty());
        assert_eq!(batch.schema(), cloze::schema());

        let view = ClozeView::try_new(&batch).expect("view");
        assert_eq!(view.len(), 2);
        assert_eq!(view.question(0), row.tokens);
        assert_eq!((view.label(0), view.label(1)), (Some(1), None));
        assert_eq!(view.context_tokens(1), 10);
        let read: Vec<_> = view.choices(1).collect();
        assert_eq!(read[0].ids, [21, 22]);
        assert_eq!((read[1].text, read[1].correct), (Some("Ada"), true));
    }

    #[test]
    fn a_batch_with_another_type_is_refused_by_column_name() {
        let mut builder = ClozeBatchBuilder::new();
        let batch = builder.finish().expect("finish");
        let position = batch.schema().index_of("label").expect("there");
        let without = batch.project(&(0..batch.num_columns()).filter(|&i| i != position).collect::<Vec<_>>()).expect("project");
        assert_eq!(ClozeView::try_new(&without).err(), Some(crate::cloze::ViewError::Missing("label")));
    }
}
