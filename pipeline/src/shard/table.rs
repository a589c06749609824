//! Tables of shards: how rows become record batches.

use arrow_array::RecordBatch;
use arrow_schema::ArrowError;
use glm_schemas::cloze::builder::{ChoiceRow, ClozeBatchBuilder, ClozeRow};
use glm_schemas::document::{DocumentBatchBuilder, DocumentRow};
use glm_schemas::manifest::TaskName;
use glm_schemas::origin::Origin;
use glm_schemas::seq2seq::{PairBatchBuilder, PairRow};
use glm_schemas::vocab::TokenId;

/// Size of the offset of a text or a list.
const OFFSET: usize = size_of::<i32>();

/// Builder of the record batches of a table.
pub trait Table: Default {
    /// Row to append.
    type Row<'a>;
    /// Kind of rows, which has the schema.
    const TASK: TaskName;
    /// Column by which the rows of a split are sorted.
    const SORTED_BY: Option<&'static str>;
    /// Size of the rows at which a row group is closed even if it has few; `None` for rows that are known to be short.
    const GROUP_BYTES: Option<usize>;

    /// Returns the size of a row's texts, token ids and numbers in Arrow's buffers.
    fn row_bytes(row: &Self::Row<'_>) -> usize;

    /// Number of rows appended since the last [`Self::finish_batch`].
    fn rows(&self) -> usize;

    /// Appends one row.
    ///
    /// # Errors
    /// An [`ArrowError`] if there are more distinct names than a dictionary can hold.
    fn append_row(&mut self, row: &Self::Row<'_>) -> Result<(), ArrowError>;

    /// Returns the appended rows as a record batch and clears the builder.
    ///
    /// # Errors
    /// An [`ArrowError`] if the batch is too large for 32-bit offsets.
    fn finish_batch(&mut self) -> Result<RecordBatch, ArrowError>;
}

fn text(text: &str) -> usize {
    OFFSET + text.len()
}

fn ids(ids: &[TokenId]) -> usize {
    OFFSET + size_of_val(ids)
}

/// Size of the columns of an origin; names are dictionary keys.
fn origin(origin: &Origin<'_>) -> usize {
    let optional = |value: Option<&str>| text(value.unwrap_or_default());
    optional(origin.source_id) + optional(origin.extra) + 2 * OFFSET + size_of::<i64>()
}

impl Table for ClozeBatchBuilder {
    type Row<'a> = ClozeRow<'a>;
    const TASK: TaskName = TaskName::Cloze;
    const SORTED_BY: Option<&'static str> = Some("num_choices");
    const GROUP_BYTES: Option<usize> = None;

    fn row_bytes(row: &ClozeRow<'_>) -> usize {
        let texts = [row.example_id, row.source, row.passage, row.query].map(text);
        let optional = [row.group_id, row.idx, row.label_name].map(|value| text(value.unwrap_or_default()));
        let segments = row.tokens.segments.iter().map(|segment| ids(segment.ids) + size_of::<bool>());
        let entities: usize = row.entities.iter().map(|entity| text(entity.text) + 4 * size_of::<i32>()).sum();
        let choice = |choice: &ChoiceRow<'_>| {
            text(choice.text) + ids(choice.ids) + size_of::<bool>() + size_of::<i32>() + text(choice.name.unwrap_or_default())
        };
        let choices: usize = row.choices.iter().map(choice).sum();
        let numbers = size_of_val(&row.passage_id) + size_of_val(&row.question_id) + 2 * size_of::<i32>();
        let lists = texts.iter().chain(&optional).copied().chain(segments).sum::<usize>() + 3 * OFFSET;
        numbers + lists + entities + choices + origin(&row.origin)
    }

    fn rows(&self) -> usize {
        self.len()
    }

    fn append_row(&mut self, row: &ClozeRow<'_>) -> Result<(), ArrowError> {
        self.append(row)
    }

    fn finish_batch(&mut self) -> Result<RecordBatch, ArrowError> {
        self.finish()
    }
}

impl Table for PairBatchBuilder {
    type Row<'a> = PairRow<'a>;
    const TASK: TaskName = TaskName::Seq2seq;
    const SORTED_BY: Option<&'static str> = None;
    // A source can be a whole book; a reader decodes whole row groups.
    const GROUP_BYTES: Option<usize> = Some(16 << 20);

    fn row_bytes(row: &PairRow<'_>) -> usize {
        let optional = [row.group_id, row.prompt, row.target].map(|value| text(value.unwrap_or_default()));
        let texts = [row.example_id, row.source].map(text);
        let references: usize = row.references.iter().map(|reference| text(reference)).sum();
        let tokens = [row.tokens.prefix, row.tokens.source, row.tokens.suffix, row.tokens.target].map(ids);
        // The list of references, `keep`, `focus` and two lengths.
        let fixed = 5 * OFFSET;
        texts.iter().chain(&optional).chain(&tokens).sum::<usize>() + references + fixed + origin(&row.origin)
    }

    fn rows(&self) -> usize {
        self.len()
    }

    fn append_row(&mut self, row: &PairRow<'_>) -> Result<(), ArrowError> {
        self.append(row)
    }

    fn finish_batch(&mut self) -> Result<RecordBatch, ArrowError> {
        self.finish()
    }
}

impl Table for DocumentBatchBuilder {
    type Row<'a> = DocumentRow<'a>;
    const TASK: TaskName = TaskName::Text;
    const SORTED_BY: Option<&'static str> = None;
    // A document can be a whole book; a reader decodes whole row groups.
    const GROUP_BYTES: Option<usize> = Some(16 << 20);

    fn row_bytes(row: &DocumentRow<'_>) -> usize {
        let texts = [row.example_id, row.source, row.text, row.prompt.unwrap_or_default()].map(text);
        let tokens = [row.prompt_ids, row.ids, row.sentence_ends].map(ids);
        texts.iter().chain(&tokens).sum::<usize>() + size_of::<i32>() + origin(&row.origin)
    }

    fn rows(&self) -> usize {
        self.len()
    }

    fn append_row(&mut self, row: &DocumentRow<'_>) -> Result<(), ArrowError> {
        self.append(row)
    }

    fn finish_batch(&mut self) -> Result<RecordBatch, ArrowError> {
        self.finish()
    }
}
