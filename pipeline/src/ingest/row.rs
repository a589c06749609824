//! Rows as bytes, between the stage that orders them and the stage that writes shards.
//!
//! Private to one run: the bytes never outlive it. Numbers are little-endian; a text or a list starts with its length (u32).
//! The parts that several rows share (passage, question, candidates) are encoded once, by the workers, and only copied after that.

use glm_schemas::builder::{ChoiceRow, ClozeRow, EntityRow};
use glm_schemas::cloze::{CharSpan, TokenSpan};
use glm_schemas::encoding::Question;
use glm_schemas::vocab::TokenId;

/// Appends a number.
pub(super) fn put_u32(bytes: &mut Vec<u8>, number: usize) {
    // Lines are shorter than 2^32 bytes, so counts of what is in them fit.
    bytes.extend_from_slice(&(number as u32).to_le_bytes());
}

/// Appends a passage or question index.
pub(super) fn put_i64(bytes: &mut Vec<u8>, number: i64) {
    bytes.extend_from_slice(&number.to_le_bytes());
}

/// Appends a text.
pub(super) fn put_text(bytes: &mut Vec<u8>, text: &str) {
    put_u32(bytes, text.len());
    bytes.extend_from_slice(text.as_bytes());
}

/// Appends token ids.
pub(super) fn put_ids(bytes: &mut Vec<u8>, ids: &[TokenId]) {
    put_u32(bytes, ids.len());
    for id in ids {
        bytes.extend_from_slice(&id.to_le_bytes());
    }
}

/// Appends a mention.
pub(super) fn put_entity(bytes: &mut Vec<u8>, entity: &EntityRow<'_>) {
    put_text(bytes, entity.text);
    put_u32(bytes, entity.chars.start);
    put_u32(bytes, entity.chars.end);
    let (start, end) = entity.tokens.map_or((u32::MAX as usize, 0), |span| (span.start, span.end));
    put_u32(bytes, start);
    put_u32(bytes, end);
}

/// The parts of a row, each encoded.
pub(super) struct RowParts<'a> {
    pub(super) example_id: &'a str,
    pub(super) passage_id: i64,
    pub(super) question_id: i64,
    /// `source`, `passage`, `passage_ids`, `entities`.
    pub(super) passage: &'a [u8],
    /// `query`, `query_left_ids`, `query_right_ids`.
    pub(super) question: &'a [u8],
    /// `text`, `ids` of each candidate that is a choice, and whether it is right.
    pub(super) choices: &'a [(&'a [u8], bool)],
}

impl RowParts<'_> {
    /// Appends the row, its length first.
    pub(super) fn put(&self, bytes: &mut Vec<u8>) {
        let start = bytes.len();
        put_u32(bytes, 0);
        put_text(bytes, self.example_id);
        put_i64(bytes, self.passage_id);
        put_i64(bytes, self.question_id);
        bytes.extend_from_slice(self.passage);
        bytes.extend_from_slice(self.question);
        put_u32(bytes, self.choices.len());
        for &(candidate, correct) in self.choices {
            bytes.push(u8::from(correct));
            bytes.extend_from_slice(candidate);
        }
        let length = (bytes.len() - start - 4) as u32;
        bytes[start..start + 4].copy_from_slice(&length.to_le_bytes());
    }
}

/// Reads the numbers and texts of a row. Every method returns `None` where the bytes end too early.
pub(super) struct Fields<'a> {
    pub(super) bytes: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(length)?;
        self.bytes = rest;
        Some(taken)
    }

    pub(super) fn u32(&mut self) -> Option<usize> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?) as usize)
    }

    pub(super) fn i64(&mut self) -> Option<i64> {
        Some(i64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    pub(super) fn text(&mut self) -> Option<&'a str> {
        let length = self.u32()?;
        std::str::from_utf8(self.take(length)?).ok()
    }

    /// Appends the ids to `arena`; returns where they are in it.
    pub(super) fn ids(&mut self, arena: &mut Vec<TokenId>) -> Option<std::ops::Range<usize>> {
        let length = self.u32()?;
        let start = arena.len();
        let (ids, _) = self.take(length.checked_mul(4)?)?.as_chunks::<4>();
        arena.extend(ids.iter().map(|id| TokenId::from_le_bytes(*id)));
        Some(start..arena.len())
    }
}

/// Splits the first row off `bytes`: its content and what follows.
pub(super) fn split_first(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut fields = Fields { bytes };
    let length = fields.u32()?;
    let row = fields.take(length)?;
    Some((row, fields.bytes))
}

/// Decodes the content of a row and hands it to `consume`. `arena` is room for ids, used again for every row.
/// `None` where the bytes are no row.
pub(super) fn decode<T>(
    row: &[u8],
    labelled: bool,
    arena: &mut Vec<TokenId>,
    consume: impl FnOnce(&ClozeRow<'_>) -> T,
) -> Option<T> {
    arena.clear();
    let mut fields = Fields { bytes: row };
    let example_id = fields.text()?;
    let passage_id = fields.i64()?;
    let question_id = fields.i64()?;
    let source = fields.text()?;
    let passage = fields.text()?;
    let passage_ids = fields.ids(arena)?;
    let mut entities = Vec::new();
    for _ in 0..fields.u32()? {
        let text = fields.text()?;
        let chars = CharSpan { start: fields.u32()?, end: fields.u32()? };
        let (start, end) = (fields.u32()?, fields.u32()?);
        let tokens = (start < end).then_some(TokenSpan { start, end });
        entities.push(EntityRow { text, chars, tokens });
    }
    let query = fields.text()?;
    let query_left = fields.ids(arena)?;
    let query_right = fields.ids(arena)?;
    let mut choices = Vec::new();
    for _ in 0..fields.u32()? {
        let correct = fields.take(1)? == [1];
        choices.push((fields.text()?, fields.ids(arena)?, correct));
    }
    let choices: Vec<_> =
        choices.into_iter().map(|(text, ids, correct)| ChoiceRow { text, ids: &arena[ids], correct }).collect();
    let tokens = Question { passage: &arena[passage_ids], query_left: &arena[query_left], query_right: &arena[query_right] };
    let row = ClozeRow {
        example_id,
        passage_id,
        question_id,
        source,
        passage,
        query,
        tokens,
        entities: &entities,
        choices: &choices,
        labelled,
    };
    Some(consume(&row))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded() -> Vec<u8> {
        let mut passage = Vec::new();
        put_text(&mut passage, "own");
        put_text(&mut passage, "Éa met Bo");
        put_ids(&mut passage, &[5, 6, 7]);
        put_u32(&mut passage, 2);
        let chars = CharSpan { start: 0, end: 2 };
        put_entity(&mut passage, &EntityRow { text: "Éa", chars, tokens: Some(TokenSpan { start: 0, end: 1 }) });
        put_entity(&mut passage, &EntityRow { text: " ", chars, tokens: None });
        let mut question = Vec::new();
        put_text(&mut question, "@placeholder");
        put_ids(&mut question, &[]);
        put_ids(&mut question, &[8]);
        let mut candidate = Vec::new();
        put_text(&mut candidate, "Bo");
        put_ids(&mut candidate, &[7]);
        let mut bytes = Vec::new();
        let choices = [(candidate.as_slice(), false), (candidate.as_slice(), true)];
        RowParts {
            example_id: "dev-p-3-q9",
            passage_id: -3,
            question_id: 9,
            passage: &passage,
            question: &question,
            choices: &choices,
        }
        .put(&mut bytes);
        bytes
    }

    #[test]
    fn a_row_comes_back_as_it_was() {
        let mut bytes = encoded();
        bytes.extend(encoded());
        let (row, rest) = split_first(&bytes).expect("a row");
        assert_eq!(split_first(rest).expect("another").0, row);
        let mut arena = vec![1, 2];
        decode(row, true, &mut arena, |row| {
            assert_eq!((row.example_id, row.passage_id, row.question_id), ("dev-p-3-q9", -3, 9));
            assert_eq!((row.source, row.passage, row.query, row.labelled), ("own", "Éa met Bo", "@placeholder", true));
            assert_eq!(
                (row.tokens.passage, row.tokens.query_left, row.tokens.query_right),
                (&[5, 6, 7][..], &[][..], &[8][..])
            );
            assert_eq!(row.entities[0].tokens, Some(TokenSpan { start: 0, end: 1 }));
            assert_eq!((row.entities[1].text, row.entities[1].tokens), (" ", None));
            assert_eq!(row.choices[1], ChoiceRow { text: "Bo", ids: &[7], correct: true });
        })
        .expect("decoded");
    }

    #[test]
    fn bytes_that_end_early_are_no_row() {
        let bytes = encoded();
        let (row, _) = split_first(&bytes).expect("a row");
        for end in 0..row.len() {
            assert!(decode(&row[..end], true, &mut Vec::new(), |_| ()).is_none(), "{end}");
            assert!(split_first(&bytes[..end]).is_none());
        }
    }
}
