//! Token ids to text.

use glm_schemas::vocab::TokenId;

use super::byte_level::byte;
use super::sentencepiece::{Decoded, SPACE};
use super::{Family, Tokenizer};

/// Start of a token that continues a word.
const CONTINUATION: &str = "##";

impl Tokenizer {
    /// Returns the text of tokens. Special tokens appear as they are written; ids without a string are left out.
    ///
    /// The strings of a WordPiece vocabulary are joined with spaces, except those that continue a word. Byte-level vocabularies and
    /// SentencePiece give the text back as it was encoded (SentencePiece: normalized); bytes that are not UTF-8 become U+FFFD.
    ///
    /// ```
    /// use glm_text::tokenize::Tokenizer;
    ///
    /// let tokenizer = Tokenizer::bert_uncased()?;
    /// let ids = tokenizer.session().encode("Orrel isn't here[MASK]")?.ids;
    /// assert_eq!(tokenizer.decode(&ids), "orrel isn ' t here [MASK]");
    ///
    /// let tokenizer = Tokenizer::gpt2()?;
    /// let ids = tokenizer.session().encode("Orrel isn't here[MASK]")?.ids;
    /// assert_eq!(tokenizer.decode(&ids), "Orrel isn't here[MASK]");
    /// # Ok::<(), glm_text::tokenize::TokenizerError>(())
    /// ```
    pub fn decode(&self, ids: &[TokenId]) -> String {
        let mut text = String::with_capacity(4 * ids.len());
        let mut decoder = self.decoder();
        ids.iter().for_each(|&id| text.push_str(&decoder.push(id)));
        text.push_str(&decoder.finish());
        text
    }

    /// Creates a decoder of one text.
    pub fn decoder(&self) -> Decoder<'_> {
        Decoder { tokenizer: self, is_start: true, strips_space: true, bytes: Vec::new() }
    }

    /// Creates a decoder of a piece within a text, which keeps the space before its first word, if the vocabulary has spaces.
    pub fn piece_decoder(&self) -> Decoder<'_> {
        Decoder { strips_space: false, ..self.decoder() }
    }
}

/// Decodes the tokens of one text as they come.
#[derive(Debug, Clone)]
pub struct Decoder<'a> {
    tokenizer: &'a Tokenizer,
    /// True if the text has no token yet.
    is_start: bool,
    /// True if the space before the first word is not part of the text.
    strips_space: bool,
    /// Start of a character of which bytes are still to come.
    bytes: Vec<u8>,
}

impl Decoder<'_> {
    /// Adds a token; returns the text that is complete with it, which can be empty.
    pub fn push(&mut self, id: TokenId) -> String {
        let tokenizer = self.tokenizer;
        if let Some(written) = tokenizer.written(id) {
            return self.text(written);
        }
        match &tokenizer.family {
            Family::WordPiece => {
                let Some(token) = tokenizer.token(id) else { return String::new() };
                match (self.is_start, token.strip_prefix(CONTINUATION)) {
                    (true, _) => self.text(&token),
                    (false, Some(rest)) => rest.to_owned(),
                    (false, None) => format!(" {token}"),
                }
            }
            Family::ByteLevel => {
                let Some(token) = tokenizer.token(id) else { return String::new() };
                match token.chars().map(byte).collect::<Option<Vec<u8>>>() {
                    Some(bytes) => self.bytes(&bytes),
                    // A token that was added to a vocabulary is text.
                    None => self.text(&token),
                }
            }
            Family::SentencePiece(model) => match model.decoded(id) {
                Decoded::Nothing => String::new(),
                Decoded::Unknown(text) => self.text(text),
                Decoded::Byte(byte) => self.bytes(&[byte]),
                Decoded::Text(piece) => {
                    let is_first = self.is_start && self.strips_space && model.strips_prefix();
                    let piece = if is_first { piece.strip_prefix(SPACE).unwrap_or(piece) } else { piece };
                    self.text(&piece.replace(SPACE, " "))
                }
            },
        }
    }

    /// Ends the text; returns U+FFFD if a character is incomplete, else nothing.
    pub fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.bytes)).into_owned()
    }

    fn text(&mut self, text: &str) -> String {
        self.is_start = false;
        let mut complete = self.finish();
        complete.push_str(text);
        complete
    }

    fn bytes(&mut self, bytes: &[u8]) -> String {
        self.is_start = false;
        self.bytes.extend_from_slice(bytes);
        let mut text = String::new();
        loop {
            let (valid, invalid) = match std::str::from_utf8(&self.bytes) {
                Ok(_) => (self.bytes.len(), Some(0)),
                Err(error) => (error.valid_up_to(), error.error_len()),
            };
            text.push_str(&String::from_utf8_lossy(&self.bytes[..valid]));
            match invalid {
                Some(0) => {
                    self.bytes.clear();
                    return text;
                }
                Some(length) => {
                    text.push(char::REPLACEMENT_CHARACTER);
                    self.bytes.drain(..valid + length);
                }
                None => {
                    self.bytes.drain(..valid);
                    return text;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_without_a_string_are_left_out() {
        let tokenizer = Tokenizer::bert_uncased().expect("built in");
        assert_eq!(tokenizer.decode(&[30526, 1037, 30591, -1, 0, 30522]), "a [PAD] <|startofpiece|>");
        let ids = tokenizer.session().encode("unbelievably").expect("tokens").ids;
        assert!(ids.len() > 1);
        assert_eq!(tokenizer.decode(&ids), "unbelievably");
        assert!(tokenizer.decode(&ids[1..]).starts_with("##"));
    }

    #[test]
    fn characters_come_when_their_last_byte_does() {
        let tokenizer = Tokenizer::gpt2().expect("built in");
        let ids = tokenizer.session().encode("a渡🙂").expect("tokens").ids;
        let mut decoder = tokenizer.decoder();
        let parts: Vec<_> = ids.iter().map(|&id| decoder.push(id)).collect();
        assert_eq!(parts, ["a", "", "", "渡", "", "🙂"]);
        assert_eq!(decoder.finish(), "");
        // An incomplete character, at a special token and at the end.
        assert_eq!(tokenizer.decode(&[ids[1], 50256, ids[1], ids[0], ids[2]]), "\u{fffd}<|endoftext|>\u{fffd}a\u{fffd}");
        assert_eq!(tokenizer.decode(&[50263, -1, 60000]), "");
    }
}
