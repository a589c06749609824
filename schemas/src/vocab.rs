//! Special tokens and their ids.

use serde::{Deserialize, Serialize};

/// Index of a token in the vocabulary; `int32` on disk, so that lists can be borrowed from a shard.
pub type TokenId = i32;

/// sha256 of `vocab.txt` of BERT-large-uncased, the vocabulary of the published GLM weights.
pub const BERT_UNCASED_SHA256: &str = "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3";

/// Start of a piece to be generated; GLM appends this token to the BERT vocabulary.
pub const START_OF_PIECE: &str = "<|startofpiece|>";

/// sha256 of `vocab.json` of GPT-2, the vocabulary of the published 2B and 10B weights.
pub const GPT2_VOCABULARY_SHA256: &str = "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783";

/// sha256 of `vocab.json` of RoBERTa.
pub const ROBERTA_VOCABULARY_SHA256: &str = "9e7f63c2d15d666b52e21d250d2e513b87c9b713cfa6987a82ed89e5e6e50655";

/// sha256 of `cog-pretrain.model`, the SentencePiece vocabulary of the published Chinese weights.
pub const CHINESE_SHA256: &str = "6ea6f4164152bc58d23e24e48f7bf4187aad72a32e97ec4b3acc832fe183cbc2";

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

    /// Ids of the published weights with the byte-level vocabulary of GPT-2: 2B and 10B.
    pub const GPT2: Self = Self { pad: 50256, unk: 50262, cls: 50259, sep: 50261, mask: 50260, sop: 50257, eop: 50258 };

    /// Ids of the published weights with the byte-level vocabulary of RoBERTa, whose end of text is also its separator.
    pub const ROBERTA: Self = Self { pad: 2, unk: 3, cls: 0, sep: 2, mask: 50264, sop: 50265, eop: 50266 };

    /// Ids of the published weights with the SentencePiece vocabulary of Chinese, with the mask tokens apart from the end of piece.
    pub const CHINESE: Self = Self::after_pieces(50000);

    /// Ids for a SentencePiece vocabulary with this number of pieces, which they follow; one id in between is not used.
    pub const fn after_pieces(pieces: TokenId) -> Self {
        // Saturating, since a damaged manifest can have any id.
        Self {
            pad: pieces,
            sep: pieces.saturating_add(1),
            cls: pieces.saturating_add(2),
            mask: pieces.saturating_add(3),
            unk: pieces.saturating_add(4),
            sop: pieces.saturating_add(6),
            eop: pieces.saturating_add(7),
        }
    }

    /// Returns the ids of the mask tokens of pretraining: those after the last special token, as in the published weights.
    ///
    /// ```
    /// use glm_schemas::vocab::SpecialIds;
    ///
    /// let masks = SpecialIds::BERT_UNCASED.masks();
    /// assert_eq!((masks.document, masks.sentence, masks.block), (30524, 30525, 30526));
    /// let masks = SpecialIds::CHINESE.masks();
    /// assert_eq!((masks.document, masks.sentence, masks.block), (50009, 50008, 50010));
    /// ```
    pub fn masks(&self) -> MaskIds {
        let last = self.named().into_iter().map(|(_, id)| id).filter(|id| *id >= self.sop).fold(self.eop, TokenId::max);
        match *self == Self::after_pieces(self.pad) {
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
        for ids in [SpecialIds::BERT_UNCASED, SpecialIds::GPT2, SpecialIds::ROBERTA, SpecialIds::CHINESE] {
            let masks = ids.masks();
            let all = [ids.pad, ids.unk, ids.cls, ids.mask, ids.sop, ids.eop, masks.document, masks.sentence, masks.block];
            for (i, a) in all.iter().enumerate() {
                assert!(!all[i + 1..].contains(a), "{ids:?} has {a} twice");
            }
        }
    }

    #[test]
    fn ids_of_masks_are_published() {
        for (ids, expected) in [
            (SpecialIds::GPT2, [50263, 50264, 50265]),
            (SpecialIds::ROBERTA, [50267, 50268, 50269]),
            (SpecialIds::CHINESE, [50009, 50008, 50010]),
        ] {
            let MaskIds { document, sentence, block } = ids.masks();
            assert_eq!([document, sentence, block], expected);
        }
    }
}
