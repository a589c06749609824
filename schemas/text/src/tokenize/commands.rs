//! Special tokens that are written in a text, for vocabularies whose pipeline does not know them.

use std::ops::Range;

use glm_schemas::vocab::{END_OF_PIECE, START_OF_PIECE, SpecialIds, TokenId};

/// Written form of the end of the text in vocabularies without `[PAD]`.
const END_OF_TEXT: &str = "<|endoftext|>";

/// A special token and its written form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Command {
    /// Written form.
    pub(super) written: &'static str,
    /// Id of the token.
    pub(super) id: TokenId,
    /// True if white space before it is not part of the text, as published for masks.
    strips_left: bool,
}

/// A part of a text, as a byte range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// Text without special tokens.
    Text(Range<usize>),
    /// A special token.
    Command(TokenId, Range<usize>),
}

impl Command {
    /// Returns the published written forms of the special tokens of a vocabulary. Of several with one id, the first names it.
    pub(super) fn of(special: &SpecialIds) -> Vec<Self> {
        let forms = [
            ("[SEP]", special.sep),
            (END_OF_TEXT, special.pad),
            ("[UNK]", special.unk),
            ("[CLS]", special.cls),
            ("[MASK]", special.mask),
            (START_OF_PIECE, special.sop),
            (END_OF_PIECE, special.eop),
        ];
        forms.map(|(written, id)| Self { written, id, strips_left: written == "[MASK]" }).to_vec()
    }

    /// Returns a mask token, which stands for the white space before it too.
    pub(super) fn mask(written: &'static str, id: TokenId) -> Self {
        Self { written, id, strips_left: true }
    }
}

/// Splits a text at the special tokens that are written in it.
pub(super) fn split(commands: &[Command], text: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut start = 0;
    if !commands.is_empty() {
        for (at, _) in text.match_indices(['[', '<']) {
            let found = commands.iter().find(|command| at >= start && text[at..].starts_with(command.written));
            let Some(command) = found else { continue };
            let before = &text[start..at];
            let kept = if command.strips_left { before.trim_end().len() } else { before.len() };
            if kept > 0 {
                parts.push(Part::Text(start..start + kept));
            }
            let end = at + command.written.len();
            parts.push(Part::Command(command.id, at..end));
            start = end;
        }
    }
    if start < text.len() {
        parts.push(Part::Text(start..text.len()));
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_split_at_written_tokens() {
        let commands = Command::of(&SpecialIds::GPT2);
        let show = |text: &str| -> Vec<String> {
            let parts = split(&commands, text);
            let shown = parts.iter().map(|part| match part {
                Part::Text(range) => text[range.clone()].to_owned(),
                Part::Command(id, range) => format!("{id}={}", &text[range.clone()]),
            });
            shown.collect()
        };
        assert_eq!(show("a [MASK] b [CLS]"), ["a", "50260=[MASK]", " b ", "50259=[CLS]"]);
        assert_eq!(show("[[MASK]<|endoftext|>|>"), ["[", "50260=[MASK]", "50256=<|endoftext|>", "|>"]);
        assert_eq!(show("[gMASK] <x>"), ["[gMASK] <x>"]);
        assert_eq!(show(""), [""; 0]);
        assert_eq!(split(&[], "[MASK]"), [Part::Text(0..6)]);
    }
}
