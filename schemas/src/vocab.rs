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

impl SpecialIds {
    /// Ids of the published GLM weights: BERT-large-uncased and two appended tokens.
    pub const BERT_UNCASED: Self = Self { pad: 0, unk: 100, cls: 101, sep: 102, mask: 103, sop: 30522, eop: 30523 };

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
