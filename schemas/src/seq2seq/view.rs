//! Zero-copy access to the pairs of a record batch.

use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use arrow_array::{Array, DictionaryArray, Int32Array, ListArray, RecordBatch, StringArray};

use super::encoding::{Keep, Pair};
use crate::column::{IdLists, ViewError, column, dictionary, int32, list, no_nulls, nullable_strings, strings, wrong_type};

/// Typed access to the rows of a record batch. Ids are slices of the batch's buffers; nothing is copied.
///
/// The batch needs the columns [`TOKEN_COLUMNS`](super::TOKEN_COLUMNS); the other text columns are optional.
pub struct PairView<'a> {
    example_id: &'a StringArray,
    source_id: &'a StringArray,
    group_id: &'a StringArray,
    references: &'a ListArray,
    reference_texts: &'a StringArray,
    pub(super) prefix_ids: IdLists<'a>,
    pub(super) source_ids: IdLists<'a>,
    pub(super) suffix_ids: IdLists<'a>,
    pub(super) target_ids: IdLists<'a>,
    keep: &'a DictionaryArray<Int32Type>,
    keep_names: &'a StringArray,
    focus: &'a Int32Array,
    context_tokens: &'a Int32Array,
    target_tokens: &'a Int32Array,
    source: Option<&'a StringArray>,
    prompt: Option<&'a StringArray>,
    target: Option<&'a StringArray>,
    rows: usize,
}

impl<'a> PairView<'a> {
    /// Borrows the columns of a batch after checking their types.
    ///
    /// # Errors
    /// [`ViewError`] for the first column that is missing, has the wrong type, or has a null.
    pub fn try_new(batch: &'a RecordBatch) -> Result<Self, ViewError> {
        let ids = |name| IdLists::try_new(name, column(batch, name)?);
        let count = |name| {
            let values = int32(name, column(batch, name)?)?;
            no_nulls(name, values).map(|()| values)
        };
        let optional = |name| column(batch, name).ok().map(|text| nullable_strings(name, text)).transpose();
        let references = list("references", column(batch, "references")?)?;
        let reference_texts = references.values().as_string_opt::<i32>();
        let reference_texts = reference_texts.ok_or_else(|| wrong_type("references", references, "list<utf8>"))?;
        no_nulls("references", reference_texts)?;
        let keep = dictionary("keep", column(batch, "keep")?)?;
        Ok(Self {
            example_id: strings("example_id", column(batch, "example_id")?)?,
            source_id: nullable_strings("source_id", column(batch, "source_id")?)?,
            group_id: nullable_strings("group_id", column(batch, "group_id")?)?,
            references,
            reference_texts,
            prefix_ids: ids("prefix_ids")?,
            source_ids: ids("source_ids")?,
            suffix_ids: ids("suffix_ids")?,
            target_ids: ids("target_ids")?,
            keep,
            keep_names: strings("keep", keep.values().as_ref())?,
            focus: int32("focus", column(batch, "focus")?)?,
            context_tokens: count("context_tokens")?,
            target_tokens: count("target_tokens")?,
            source: optional("source")?,
            prompt: optional("prompt")?,
            target: optional("target")?,
            rows: batch.num_rows(),
        })
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Returns true if there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Value of `example_id` in the row.
    pub fn example_id(&self, row: usize) -> &'a str {
        self.example_id.value(row)
    }

    /// Value of `source_id` in the row: the id in the raw data, if there is one.
    pub fn source_id(&self, row: usize) -> Option<&'a str> {
        valid(self.source_id, row)
    }

    /// Value of `group_id` in the row: the id of the question, if several rows ask it.
    pub fn group_id(&self, row: usize) -> Option<&'a str> {
        valid(self.group_id, row)
    }

    /// Texts that predictions of the row are compared with.
    pub fn references(&self, row: usize) -> impl ExactSizeIterator<Item = &'a str> + use<'a> {
        let (texts, offsets) = (self.reference_texts, self.references.offsets());
        (offsets[row] as usize..offsets[row + 1] as usize).map(|at| texts.value(at))
    }

    /// Tokens of the row.
    ///
    /// # Errors
    /// [`ViewError`] if `keep` is null or unknown, or `focus` is negative.
    pub fn pair(&self, row: usize) -> Result<Pair<'a>, ViewError> {
        let keep = self.keep.key(row).map(|key| self.keep_names.value(key)).ok_or(ViewError::Null("keep"))?;
        let wrong_keep = || ViewError::Value { column: "keep", found: keep.to_owned(), expected: "start, end or around" };
        let focus = self.focus.is_valid(row).then(|| self.focus.value(row));
        let wrong_focus = |focus: i32| ViewError::Value { column: "focus", found: focus.to_string(), expected: "at least 0" };
        Ok(Pair {
            prefix: self.prefix_ids.get(row),
            source: self.source_ids.get(row),
            suffix: self.suffix_ids.get(row),
            keep: Keep::named(keep).ok_or_else(wrong_keep)?,
            focus: focus.map(|focus| usize::try_from(focus).map_err(|_| wrong_focus(focus))).transpose()?,
            target: self.target_ids.get(row),
        })
    }

    /// Value of `context_tokens` in the row: length of the context without truncation.
    pub fn context_tokens(&self, row: usize) -> usize {
        self.context_tokens.value(row) as usize
    }

    /// Value of `target_tokens` in the row: length of the target without end of piece.
    pub fn target_tokens(&self, row: usize) -> usize {
        self.target_tokens.value(row) as usize
    }

    /// Text of the row's source, if the column was read.
    pub fn source(&self, row: usize) -> Option<&'a str> {
        self.source.and_then(|column| valid(column, row))
    }

    /// Question or answer of the row, if it has one and the column was read.
    pub fn prompt(&self, row: usize) -> Option<&'a str> {
        self.prompt.and_then(|column| valid(column, row))
    }

    /// Text of the row's target, if it is known and the column was read.
    pub fn target(&self, row: usize) -> Option<&'a str> {
        self.target.and_then(|column| valid(column, row))
    }
}

fn valid(column: &StringArray, row: usize) -> Option<&str> {
    column.is_valid(row).then(|| column.value(row))
}
