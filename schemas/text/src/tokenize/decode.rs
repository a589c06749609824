//! Token ids to text.

use glm_schemas::vocab::TokenId;

use super::Tokenizer;

/// Start of a token that continues a word.
const CONTINUATION: &str = "##";

impl Tokenizer {
    /// Returns the text of tokens: their strings joined with spaces, where a string that continues a word is joined to the one before
    /// it. Special tokens appear as they are written; ids without a string are left out.
    ///
    /// ```
    /// use glm_text::tokenize::Tokenizer;
    ///
    /// let tokenizer = Tokenizer::bert_uncased()?;
    /// let ids = tokenizer.session().encode("Orrel isn't here[MASK]")?.ids;
    /// assert_eq!(tokenizer.decode(&ids), "orrel isn ' t here [MASK]");
    /// # Ok::<(), glm_text::tokenize::TokenizerError>(())
    /// ```
    pub fn decode(&self, ids: &[TokenId]) -> String {
        let mut text = String::with_capacity(4 * ids.len());
        for token in ids.iter().filter_map(|&id| self.token(id)) {
            if text.is_empty() {
                text.push_str(&token);
                continue;
            }
            match token.strip_prefix(CONTINUATION) {
                Some(rest) => text.push_str(rest),
                None => {
                    text.push(' ');
                    text.push_str(&token);
                }
            }
        }
        text
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
}
