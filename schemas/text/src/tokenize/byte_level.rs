//! Byte-level BPE: the vocabularies of GPT-2 and RoBERTa.
//!
//! A token is a string of characters that each stand for one byte. The files are a `vocab.json` (token to id) and a `merges.txt`
//! (pairs of tokens in the order in which they are joined).

use std::collections::BTreeMap;
use std::sync::OnceLock;

use glm_schemas::vocab::{SpecialIds, TokenId};
use tokenizers::Tokenizer as Pipeline;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

/// Merges of GPT-2, see `assets/README.md`.
pub(super) const GPT2_MERGES: &[u8] = include_bytes!("../../assets/gpt2-merges.txt");
/// The only special token of GPT-2.
const END_OF_TEXT: &str = "<|endoftext|>";

/// Returns the character that stands for a byte: itself if it is visible and not white space, else one from U+0100 on.
fn character(byte: u8) -> char {
    match byte {
        b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => char::from(byte),
        0..=b' ' => shifted(u32::from(byte)),
        0x7f..=0xa0 => shifted(u32::from(byte) - 0x7f + 33),
        0xad => shifted(67),
    }
}

/// The character for the byte with this number among the invisible ones.
fn shifted(number: u32) -> char {
    char::from_u32(0x100 + number).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// Returns the byte that a character of a token stands for.
pub(super) fn byte(c: char) -> Option<u8> {
    static BYTES: OnceLock<BTreeMap<char, u8>> = OnceLock::new();
    BYTES.get_or_init(|| (0..=u8::MAX).map(|byte| (character(byte), byte)).collect()).get(&c).copied()
}

/// Returns GPT-2's `vocab.json`, which follows from its merges: the bytes, visible ones first, the joined tokens, the end of the text.
pub(super) fn gpt2_vocabulary(merges: &str) -> Result<String, serde_json::Error> {
    let (visible, other): (Vec<u8>, Vec<u8>) = (0..=u8::MAX).partition(|&byte| character(byte) == char::from(byte));
    let bytes = visible.into_iter().chain(other).map(|byte| character(byte).to_string());
    let joined = pairs(merges).map(|(left, right)| format!("{left}{right}"));
    let mut json = String::from("{");
    for (id, token) in bytes.chain(joined).chain([END_OF_TEXT.to_owned()]).enumerate() {
        if id > 0 {
            json.push_str(", ");
        }
        // The published file is ASCII.
        for c in serde_json::to_string(&token)?.chars() {
            match c.is_ascii() && c != '\u{7f}' {
                true => json.push(c),
                false => json.push_str(&format!("\\u{:04x}", u32::from(c))),
            }
        }
        json.push_str(&format!(": {id}"));
    }
    json.push('}');
    Ok(json)
}

/// The pairs of a `merges.txt`.
fn pairs(merges: &str) -> impl Iterator<Item = (&str, &str)> {
    let lines = merges.lines().filter(|line| !line.starts_with("#version") && !line.trim().is_empty());
    lines.filter_map(|line| line.trim_end().split_once(' '))
}

/// Returns the ids of GLM's special tokens in a vocabulary, or what it lacks. GPT-2's are appended in the published order; RoBERTa has
/// tokens of its own for all but the two of pieces. `size` is the number of tokens.
pub(super) fn special_ids(id_of: impl Fn(&str) -> Option<TokenId>, size: TokenId) -> Result<SpecialIds, &'static str> {
    let named = ["<s>", "</s>", "<unk>", "<mask>"].map(&id_of);
    if let [Some(cls), Some(eos), Some(unk), Some(mask)] = named {
        return Ok(SpecialIds { pad: eos, unk, cls, sep: eos, mask, sop: size, eop: size + 1 });
    }
    match id_of(END_OF_TEXT) {
        Some(pad) => {
            Ok(SpecialIds { pad, sop: size, eop: size + 1, cls: size + 2, mask: size + 3, sep: size + 4, unk: size + 5 })
        }
        None => Err("<|endoftext|> (as in GPT-2), or <s>, </s>, <unk> and <mask> (as in RoBERTa)"),
    }
}

/// Builds the pipeline of a vocabulary.
///
/// # Errors
/// A message, if a merge joins or gives tokens that the vocabulary lacks.
pub(super) fn pipeline(vocabulary: &BTreeMap<String, u32>, merges: &str) -> Result<Pipeline, String> {
    let mut ids = Vocab::default();
    ids.extend(vocabulary.iter().map(|(token, id)| (token.clone(), *id)));
    if let Some(byte) = (0..=u8::MAX).find(|&byte| !ids.contains_key(&character(byte).to_string())) {
        return Err(format!("it has no token for the byte {byte:#04x}, so it is not a byte-level vocabulary"));
    }
    let merges = pairs(merges).map(|(left, right)| (left.to_owned(), right.to_owned())).collect();
    let model = BPE::builder().vocab_and_merges(ids, merges).build().map_err(|error| error.to_string())?;
    let mut pipeline = Pipeline::new(model);
    pipeline.with_pre_tokenizer(Some(ByteLevel::new(false, false, true)));
    Ok(pipeline)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_its_own_character() {
        for b in 0..=u8::MAX {
            assert_eq!(byte(character(b)), Some(b));
        }
        assert_eq!((character(b' '), character(b'\n'), character(0x7f), character(0xad)), ('Ġ', 'Ċ', 'ġ', 'Ń'));
        assert_eq!(byte('中'), None);
    }

    #[test]
    fn pairs_are_lines_after_the_version() {
        assert_eq!(pairs("#version: 0.2\na b\n\n# #\n").collect::<Vec<_>>(), [("a", "b"), ("#", "#")]);
    }
}
