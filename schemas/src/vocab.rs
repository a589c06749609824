//! Special tokens and their ids.

use serde::{Deserialize, Serialize};

/// Index of a token in the vocabulary; `int32` on disk, so that lists can be borrowed from a shard.
pub type TokenId = i32;

/// sha256 of `vocab.txt` of BERT-large-uncased, the vocabulary of the published GLM weights.
pub const BERT_UNCASED_SHA256: &str = "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3";

/// Start of a piece to be generated; GLM appends this token to the BERT vocabulary.
pub const START_OF_PIECE: &str = "<|startofpiece|>";

/// End of a generated piece; GLM appends this token to the BERT vocabulary.
pub const END_OF_PIECE: &str = "<|endofpiece|>";

/// The embedding table is padded to a multiple of this number of rows, as in Megatron.
pub const EMBEDDING_ROW_MULTIPLE: usize = 128;

/// Ids of the special tokens of the recipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpecialIds {
    /// `[PAD]`, which is also the end of the context ("eos").
    pub pad: TokenId,
    /// `[UNK]`.
    pub unk: TokenId,
    /// `[CLS]`, the first token of every context.
    pub cls: TokenId,
    /// `[SEP]`.
    pub sep: TokenId,
    /// `[MASK]`, in place of the blank.
    pub mask: TokenId,
    /// `<|startofpiece|>`.
    pub sop: TokenId,
    /// `<|endofpiece|>`.
    pub eop: TokenId,
}

/// Ids of the mask tokens of GLM's pretraining, which follow the special tokens of the vocabulary. They are not text, so no shard of documents holds
/// them, but the embedding table has rows for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaskIds {
    /// `[gMASK]`, in place of a long blank, at the end of the text or within it.
    pub document: TokenId,
    /// `[sMASK]`, in place of a sentence.
    pub sentence: TokenId,
    /// `[dBLOCK]`, in place of a token of a piece that is hidden from the rest of its piece.
    pub block: TokenId,
}

impl SpecialIds {
    /// Ids of the published GLM weights: BERT-large-uncased and two appended tokens.
    pub const BERT_UNCASED: Self = Self { pad: 0, unk: 100, cls: 101, sep: 102, mask: 103, sop: 30522, eop: 30523 };

    /// Ids of GLM's vocabulary of Chinese, with its mask tokens apart from the end of piece.
    const CHINESE: Self = Self { pad: 50000, unk: 50004, cls: 50002, sep: 50001, mask: 50003, sop: 50006, eop: 50007 };

    /// Returns the ids of the mask tokens of pretraining: those after the last special token, as in the published weights.
    ///
    /// ```
    /// use glm_schemas::vocab::SpecialIds;
    ///
    /// let masks = SpecialIds::BERT_UNCASED.masks();
    /// assert_eq!((masks.document, masks.sentence, masks.block), (30524, 30525, 30526));
    /// ```
    pub fn masks(&self) -> MaskIds {
        let last = self.named().into_iter().map(|(_, id)| id).filter(|id| *id >= self.sop).fold(self.eop, TokenId::max);
        match *self == Self::CHINESE {
            true => MaskIds { document: last + 2, sentence: last + 1, block: last + 3 },
            false => MaskIds { document: last + 1, sentence: last + 2, block: last + 3 },
        }
    }

    /// Returns the ids with their tokens.
    pub fn named(&self) -> [(&'static str, TokenId); 7] {
        [
            ("[PAD]", self.pad),
            ("[UNK]", self.unk),
            ("[CLS]", self.cls),
            ("[SEP]", self.sep),
            ("[MASK]", self.mask),
            (START_OF_PIECE, self.sop),
            (END_OF_PIECE, self.eop),
        ]
    }
}

/// Returns the number of rows of the embedding table for a vocabulary of `vocab_size` tokens, including GLM's two.
///
/// ```
/// assert_eq!(glm_schemas::vocab::embedding_rows(30524), 30592);
/// ```
pub fn embedding_rows(vocab_size: usize) -> usize {
    vocab_size.next_multiple_of(EMBEDDING_ROW_MULTIPLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_ids_are_distinct() {
        let named = SpecialIds::BERT_UNCASED.named();
        for (i, a) in named.iter().enumerate() {
            assert!(named[i + 1..].iter().all(|b| a.1 != b.1), "{} shares its id", a.0);
        }
    }
}
