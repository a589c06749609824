//! A text whose blanks are filled token by token.

use glm_schemas::vocab::TokenId;
use glm_text::tokenize::{Decoder, Tokenizer};

/// A part of a filled text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// Text.
    pub(super) text: String,
    /// True if it was generated.
    pub(super) is_generated: bool,
}

/// A text with its blanks, which receives the tokens of pieces in order and returns what each adds.
#[derive(Clone)]
pub(super) struct Filled<'a> {
    tokenizer: &'a Tokenizer,
    /// Text before, between and after the blanks.
    parts: &'a [String],
    /// Number of parts that were returned.
    returned: usize,
    /// Decoder of the current piece.
    piece: Decoder<'a>,
    /// True if the current piece has no text yet.
    is_start: bool,
}

impl<'a> Filled<'a> {
    /// Starts a text from its parts before, between and after the blanks.
    pub(super) fn new(tokenizer: &'a Tokenizer, parts: &'a [String]) -> Self {
        Self { tokenizer, parts, returned: 0, piece: tokenizer.piece_decoder(), is_start: true }
    }

    /// Adds a token of the piece for a blank; returns the text before it that was not returned, and its own.
    pub(super) fn token(&mut self, blank: usize, token: TokenId) -> Vec<Part> {
        let mut added = self.up_to(blank + 1);
        let text = self.piece.push(token);
        added.push(self.generated(&text));
        added
    }

    /// Returns the rest of the text.
    pub(super) fn end(&mut self) -> Vec<Part> {
        let mut rest = self.up_to(self.parts.len());
        let incomplete = self.piece.finish();
        if !incomplete.is_empty() {
            rest.push(self.generated(&incomplete));
        }
        rest
    }

    /// Text that a piece adds. A space at its start is left out if the text before has one.
    fn generated(&mut self, text: &str) -> Part {
        let before = self.returned.checked_sub(1).and_then(|last| self.parts.get(last)).map_or("", String::as_str);
        let has_space = before.is_empty() || before.ends_with(char::is_whitespace);
        let text = if self.is_start && has_space { text.strip_prefix(' ').unwrap_or(text) } else { text };
        self.is_start &= text.is_empty();
        Part { text: text.to_owned(), is_generated: true }
    }

    fn up_to(&mut self, count: usize) -> Vec<Part> {
        let count = count.clamp(self.returned, self.parts.len());
        let mut added = Vec::new();
        if count > self.returned {
            let incomplete = self.piece.finish();
            if !incomplete.is_empty() {
                added.push(self.generated(&incomplete));
            }
            self.piece = self.tokenizer.piece_decoder();
            self.is_start = true;
        }
        let parts = &self.parts[self.returned..count];
        self.returned = count;
        added.extend(parts.iter().map(|text| Part { text: text.clone(), is_generated: false }));
        added
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_joined_as_they_come() {
        let tokenizer = Tokenizer::bert_uncased().expect("built in");
        let ids = tokenizer.session().encode("unbelievably so.").expect("ids").ids;
        assert_eq!(tokenizer.decode(&ids), "unbelievably so .");
        assert_eq!(tokenizer.decode(&[30591, 0, 30522]), "[PAD] <|startofpiece|>");
        assert!(tokenizer.decode(&ids[1..]).starts_with("##"), "a piece may start within a word");

        let parts = ["It was ", ", ", "!"].map(str::to_owned);
        let mut filled = Filled::new(&tokenizer, &parts);
        let mut text = String::new();
        let mut generated = String::new();
        for (blank, token) in ids.iter().map(|&id| (0, id)).chain([(1, 2061), (1, 2061)]) {
            for part in filled.token(blank, token) {
                text += &part.text;
                if part.is_generated {
                    generated += &part.text;
                }
            }
        }
        filled.end().iter().for_each(|part| text += &part.text);
        assert_eq!((text.as_str(), generated.as_str()), ("It was unbelievably so ., so so!", "unbelievably so .so so"));
        assert!(filled.end().is_empty());
        // A blank with an empty piece.
        let mut filled = Filled::new(&tokenizer, &parts);
        let text: String = filled.token(1, 2061).into_iter().chain(filled.end()).map(|part| part.text).collect();
        assert_eq!(text, "It was , so!");
    }
    #[test]
    fn byte_level_pieces_have_their_spaces() {
        let tokenizer = Tokenizer::gpt2().expect("built in");
        let ids = |text: &str| tokenizer.session().encode(text).expect("ids").ids;
        let fill = |parts: [&str; 2], piece: &[TokenId]| {
            let parts = parts.map(str::to_owned);
            let mut filled = Filled::new(&tokenizer, &parts);
            let added: Vec<_> = piece.iter().flat_map(|&id| filled.token(0, id)).collect();
            added.into_iter().chain(filled.end()).map(|part| part.text).collect::<String>()
        };
        assert_eq!(fill(["It was ", "."], &ids(" Ann")), "It was Ann.");
        assert_eq!(fill(["It was", "."], &ids(" Ann")), "It was Ann.");
        assert_eq!(fill(["", "."], &ids(" 渡船")), "渡船.");
        assert_eq!(fill(["a", "."], &ids("渡")[..1]), "a\u{fffd}.");
    }
}
