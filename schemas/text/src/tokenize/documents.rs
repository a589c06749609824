//! Tokens of documents: their text has no commands, and their sentences end at marks.

use glm_schemas::vocab::TokenId;
use tokenizers::AddedToken;

use super::commands::Command;
use super::{Tokenizer, TokenizerError, invalid};

/// Written mask of a long text.
const DOCUMENT_MASK: &str = "[gMASK]";
/// Written mask of a sentence.
const SENTENCE_MASK: &str = "[sMASK]";

/// Characters that end a sentence, wherever they stand in a token.
const MARKS: [char; 11] = ['.', '?', '!', ';', ':', '\n', '。', '？', '！', '；', '…'];

/// Returns true if a token of the vocabulary ends a sentence, by the published rule for masking sentences.
///
/// ```
/// assert!(["##.", "3.5", "？"].into_iter().all(glm_text::tokenize::ends_sentence));
/// assert!(!glm_text::tokenize::ends_sentence(","));
/// ```
pub fn ends_sentence(token: &str) -> bool {
    token.contains(MARKS)
}

impl Tokenizer {
    /// Encodes special tokens that are written in a text, such as `[MASK]`, as any other text.
    pub fn without_commands(mut self) -> Self {
        if let Some(pipeline) = &mut self.pipeline {
            pipeline.set_encode_special_tokens(true);
        }
        self.has_commands = false;
        self
    }

    /// Makes `[gMASK]` and `[sMASK]` special tokens as well, as in the vocabulary of the published models that were trained with them.
    ///
    /// # Errors
    /// [`TokenizerError::NoTaskMasks`] if the vocabulary has other tokens in their places.
    pub fn with_task_masks(mut self) -> Result<Self, TokenizerError> {
        let masks = self.special.masks();
        let mut tokens = [(DOCUMENT_MASK, masks.document), (SENTENCE_MASK, masks.sentence)];
        tokens.sort_by_key(|(_, id)| *id);
        let name = self.identity.name.clone();
        for (token, id) in tokens {
            let pipeline = self.pipeline.as_mut().filter(|_| self.commands.is_empty());
            let has_room = match pipeline {
                Some(pipeline) => {
                    let added = [AddedToken::from(token, true).normalized(false)];
                    pipeline.add_special_tokens(added).map_err(|error| invalid(&name, error))?;
                    pipeline.token_to_id(token) == u32::try_from(id).ok()
                }
                None => {
                    let is_free = self.token(id).is_none();
                    self.commands.push(Command::mask(token, id));
                    is_free
                }
            };
            if !has_room {
                return Err(TokenizerError::NoTaskMasks { name, token, id });
            }
            self.identity.vocab_size = self.identity.vocab_size.max(id as usize + 1);
        }
        Ok(self)
    }

    /// Returns the exclusive ends of the sentences among some tokens, ascending: i + 1 for each token i that [ends a
    /// sentence](ends_sentence). Special tokens never do.
    pub fn sentence_ends(&self, ids: &[TokenId]) -> Vec<i32> {
        let ends = self.sentence_ends.get_or_init(|| self.mark_ends());
        let is_end = |id: &TokenId| usize::try_from(*id).is_ok_and(|id| ends.get(id) == Some(&true));
        ids.iter().zip(1..).filter(|(id, _)| is_end(id)).map(|(_, end)| end).collect()
    }

    fn mark_ends(&self) -> Vec<bool> {
        let special = self.special.named().map(|(_, id)| id);
        let is_end = |id: TokenId| !special.contains(&id) && self.token(id).is_some_and(|token| ends_sentence(&token));
        (0..self.identity.vocab_size as TokenId).map(is_end).collect()
    }

    /// Returns the id of a token of a text. The vocabulary of a `tokenizer.json` can have a command as a word; in a text without
    /// commands it is an unknown one.
    pub(super) fn of_text(&self, id: TokenId) -> TokenId {
        let is_command = !self.has_commands && self.special.named().iter().any(|&(_, command)| command == id);
        if is_command { self.special.unk } else { id }
    }
}

#[cfg(test)]
mod tests {
    use glm_schemas::vocab::SpecialIds;
    use serde_json::Value;

    use super::*;

    #[test]
    fn task_masks_are_tokens_on_request() {
        let plain = Tokenizer::bert_uncased().expect("built in");
        let text = "a [sMASK]b[gMASK] [MASK]";
        assert!(plain.session().encode(text).expect("encode").ids.len() > 8);
        let masks = Tokenizer::bert_uncased().expect("built in").with_task_masks().expect("masks");
        assert_eq!(masks.session().encode(text).expect("encode").ids, [1037, 30525, 1038, 30524, 103]);
        assert_eq!((masks.identity().vocab_size, masks.decode(&[30524])), (30526, "[gMASK]".to_owned()));
        assert_eq!(masks.identity().sha256, plain.identity().sha256);
        let gpt2 = Tokenizer::gpt2().expect("built in").with_task_masks().expect("masks");
        let ids = gpt2.session().encode("a [sMASK]b[gMASK] [MASK]").expect("encode").ids;
        assert_eq!((ids, gpt2.identity().vocab_size), (vec![64, 50264, 65, 50263, 50260], 50265));
        assert_eq!(gpt2.decode(&[50263]), "[gMASK]");
        let vocabulary = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n<|startofpiece|>\n<|endofpiece|>\na\n";
        let other = Tokenizer::from_vocabulary("v.txt", vocabulary.as_bytes()).expect("vocabulary");
        let error = other.with_task_masks().expect_err("the word a follows the end of piece").to_string();
        assert!(error.starts_with("the vocabulary v.txt has no room for [gMASK] as token 7"), "{error}");
    }

    #[test]
    fn the_ends_of_the_published_vocabulary_are_the_recorded_ones() {
        let tokenizer = Tokenizer::bert_uncased().expect("built in");
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/golden/tokenizer/sentence_ends.json");
        let recorded: Value = serde_json::from_str(&std::fs::read_to_string(path).expect("read")).expect("json");
        let ids = |rule: &str| recorded[rule].as_array().expect("ids").iter().map(|id| id.as_i64().expect("an id") as i32 + 1);
        let mut expected: Vec<_> = ids("sampling").chain(ids("masking_only")).collect();
        expected.sort_unstable();
        let all: Vec<TokenId> = (0..tokenizer.identity().vocab_size as TokenId).collect();
        assert_eq!(tokenizer.sentence_ends(&all), expected);
    }

    #[test]
    fn text_never_yields_commands() {
        let commands = SpecialIds::BERT_UNCASED.named();
        let plain = Tokenizer::bert_uncased().expect("built in").without_commands();
        let json = plain.pipeline.as_ref().expect("pipeline").to_string(false).expect("json");
        let text: String = commands.iter().map(|(name, _)| format!("a {name}{name}. ")).collect();
        let json = Tokenizer::from_json("t.json", json.as_bytes()).expect("json").without_commands();
        for tokenizer in [plain, json] {
            let ids = tokenizer.session().encode(&text).expect("encode").ids;
            assert!(ids.len() > 30, "{ids:?}");
            assert!(ids.iter().all(|id| commands.iter().all(|(_, command)| id != command)), "{ids:?}");
        }
        let commands = Tokenizer::bert_uncased().expect("built in").session().encode(&text).expect("encode").ids;
        assert!(commands.contains(&103), "questions keep them");
    }
}
