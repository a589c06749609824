//! Zero-copy access to the text columns of a record batch.

use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use arrow_array::{Int32Array, RecordBatch, StringArray};
use arrow_buffer::OffsetBuffer;

use super::schema::CharSpan;
use crate::column::{ViewError, column, dictionary, strings};

/// Mention of an entity in a passage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mention<'a> {
    /// Name of the entity.
    pub text: &'a str,
    /// Position in the passage.
    pub chars: CharSpan,
}

/// Typed access to the text of the rows of a record batch. Nothing is copied.
///
/// The batch needs the columns `source`, `passage`, `query` and `entities`.
pub struct TextView<'a> {
    blank: &'a str,
    passage: &'a StringArray,
    query: &'a StringArray,
    source_keys: Vec<usize>,
    source_names: &'a StringArray,
    mention_offsets: &'a OffsetBuffer<i32>,
    mention_text: &'a StringArray,
    char_start: &'a Int32Array,
    char_end: &'a Int32Array,
}

impl<'a> TextView<'a> {
    /// Borrows the columns of a batch after checking their types. `blank` is the marker of the blank, as in
    /// [`Manifest::blank`](crate::manifest::Manifest::blank).
    ///
    /// # Errors
    /// [`ViewError`] for the first column that is missing, has the wrong type, or has a null.
    pub fn try_new(batch: &'a RecordBatch, blank: &'a str) -> Result<Self, ViewError> {
        const EXPECTED: &str = "list<struct{text, char_start, char_end, token_start, token_end}>";
        let entities = column(batch, "entities")?;
        let wrong = || ViewError::Type { column: "entities", found: entities.data_type().to_string(), expected: EXPECTED };
        let lists = entities.as_list_opt::<i32>().ok_or_else(wrong)?;
        let fields = lists.values().as_struct_opt().ok_or_else(wrong)?;
        let number = |name| fields.column_by_name(name)?.as_primitive_opt::<Int32Type>();
        let text = fields.column_by_name("text").ok_or(ViewError::Missing("entities.text"))?;
        let source = dictionary("source", column(batch, "source")?)?;
        let keys: Option<Vec<usize>> = source.keys_iter().collect();
        Ok(Self {
            blank,
            passage: strings("passage", column(batch, "passage")?)?,
            query: strings("query", column(batch, "query")?)?,
            source_keys: keys.ok_or(ViewError::Null("source"))?,
            source_names: strings("source", source.values().as_ref())?,
            mention_offsets: lists.offsets(),
            mention_text: strings("entities.text", text)?,
            char_start: number("char_start").ok_or_else(wrong)?,
            char_end: number("char_end").ok_or_else(wrong)?,
        })
    }

    /// Passage of the row.
    pub fn passage(&self, row: usize) -> &'a str {
        self.passage.value(row)
    }

    /// Query of the row, including the marker of the blank.
    pub fn query(&self, row: usize) -> &'a str {
        self.query.value(row)
    }

    /// Position of the blank in the query; `None` if the query does not contain the marker as a separate word.
    pub fn blank(&self, row: usize) -> Option<CharSpan> {
        find_word(self.query(row), self.blank)
    }

    /// Origin of the passage.
    pub fn source(&self, row: usize) -> &'a str {
        self.source_names.value(self.source_keys[row])
    }

    /// Mentions of the row, in order.
    pub fn mentions(&self, row: usize) -> impl ExactSizeIterator<Item = Mention<'a>> + '_ {
        let range = self.mention_offsets[row] as usize..self.mention_offsets[row + 1] as usize;
        let offset = |number: i32| usize::try_from(number).unwrap_or(0);
        range.map(move |i| Mention {
            text: self.mention_text.value(i),
            chars: CharSpan { start: offset(self.char_start.value(i)), end: offset(self.char_end.value(i)) },
        })
    }
}

/// Finds the first occurrence of `word` that is not adjacent to letters or digits.
fn find_word(text: &str, word: &str) -> Option<CharSpan> {
    let alone = |&(at, _): &(usize, &str)| {
        let sides = [text[..at].chars().next_back(), text[at + word.len()..].chars().next()];
        !sides.into_iter().flatten().any(char::is_alphanumeric)
    };
    let (at, _) = text.match_indices(word).find(alone)?;
    let start = text[..at].chars().count();
    Some(CharSpan { start, end: start + word.chars().count() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloze::builder::{ClozeBatchBuilder, ClozeRow, EntityRow};
    use crate::cloze::encoding::Question;
    use crate::origin::Origin;

    #[test]
    fn rows_are_returned_as_text() {
        let mention = |text, start, end| EntityRow { text, chars: CharSpan { start, end }, tokens: None };
        let mut builder = ClozeBatchBuilder::new();
        for (source, query) in [("news", "Élan @placeholder"), ("fairy tales", "no blank")] {
            builder
                .append(&ClozeRow {
                    example_id: "q",
                    origin: Origin::NONE,
                    passage_id: 0,
                    question_id: 0,
                    group_id: None,
                    idx: None,
                    source,
                    passage: "Ann in Rome",
                    query,
                    tokens: &Question::about(&[], &[], &[]),
                    entities: &[mention("Ann", 0, 3), mention("Rome", 7, 11)],
                    choices: &[],
                    labelled: false,
                    label_name: None,
                    end_of_piece: true,
                })
                .expect("row");
        }
        let batch = builder.finish().expect("batch");
        let view = TextView::try_new(&batch, "@placeholder").expect("view");
        assert_eq!((view.passage(1), view.query(1), view.source(1)), ("Ann in Rome", "no blank", "fairy tales"));
        assert_eq!(view.blank(0), Some(CharSpan { start: 5, end: 17 }));
        assert_eq!(view.blank(1), None);
        assert_eq!(find_word("a_b _ c", "_"), Some(CharSpan { start: 4, end: 5 }));
        let mentions: Vec<_> = view.mentions(1).map(|mention| (mention.text, mention.chars.start)).collect();
        assert_eq!(mentions, [("Ann", 0), ("Rome", 7)]);
        let columns = ["source", "passage", "query"].map(|name| batch.schema().index_of(name).expect("column"));
        assert_eq!(
            TextView::try_new(&batch.project(&columns).expect("columns"), "").err(),
            Some(ViewError::Missing("entities"))
        );
    }
}
