//! Mapping of entity mentions to token spans.

use std::ops::Range;

use glm_schemas::cloze::TokenSpan;

/// Returns the tokens that overlap a mention.
///
/// At word boundaries these are the mention's own tokens. If the mention begins or ends inside a word, they include the whole word
/// pieces that it overlaps. Returns `None` if no token overlaps the mention, because the tokenizer drops all of it: white space,
/// control characters, lone accents.
///
/// `tokens` are the byte spans of [`glm_text::tokenize::Tokens`]; `mention` is the byte range of the mention.
pub fn token_span(tokens: &[Range<usize>], mention: Range<usize>) -> Option<TokenSpan> {
    // Starts and ends of tokens are both ascending, which allows binary search.
    let start = tokens.partition_point(|token| token.end <= mention.start);
    let end = tokens.partition_point(|token| token.start < mention.end);
    (start < end).then_some(TokenSpan { start, end })
}

#[cfg(test)]
mod tests {
    use glm_text::tokenize::Tokenizer;
    use proptest::prelude::*;

    use super::*;

    fn tokenizer() -> &'static Tokenizer {
        static TOKENIZER: std::sync::OnceLock<Tokenizer> = std::sync::OnceLock::new();
        TOKENIZER.get_or_init(|| Tokenizer::bert_uncased().expect("built in"))
    }

    fn covered(text: &str, mention: &str) -> Option<Vec<String>> {
        let tokens = tokenizer().session().encode(text).expect("encode");
        let at = text.find(mention).expect("in the text");
        let span = token_span(&tokens.spans, at..at + mention.len())?;
        Some(tokens.ids[span.start..span.end].iter().map(|&id| tokenizer().token(id).expect("token")).collect())
    }

    #[test]
    fn mentions_map_to_their_tokens() {
        let text = "Dr. Amélie Rousselot's team, 中文 [MASK]\u{200b} Brenwick";
        assert_eq!(covered(text, "Amélie Rousselot").expect("covered"), ["amelie", "ro", "##uss", "##elo", "##t"]);
        assert_eq!(covered(text, "文").expect("covered"), ["文"]);
        assert_eq!(covered(text, "[MASK]").expect("covered"), ["[MASK]"]);
        assert_eq!(covered(text, "\u{200b}"), None);
        assert_eq!(covered(text, " Brenwick").expect("covered"), ["br", "##en", "##wick"]);
        // A mention inside a word gets the word pieces that it overlaps.
        assert_eq!(covered(text, "enw").expect("covered"), ["##en", "##wick"]);
        assert_eq!(covered("", ""), None);
    }

    /// Returns the normalized text of a sequence of tokens.
    fn decoded(ids: &[i32]) -> String {
        ids.iter()
            .map(|&id| tokenizer().token(id).expect("token"))
            .map(|token| token.strip_prefix("##").unwrap_or(&token).to_owned())
            .collect()
    }

    fn words() -> impl Strategy<Value = String> {
        // Random Unicode with many difficult cases: combining and composed accents, CJK, Hangul, control characters, sigmas.
        "([a-zA-Z]|[éÅñüİßﬁ]|\u{301}|[中文]|[한글]|[Σας]|\u{200b}|[\u{1}-\u{8}]|[-.,'$]|\\PC|\\[MASK\\]|  ?){1,16}"
    }

    proptest! {
        #[test]
        fn the_tokens_of_a_mention_between_spaces_decode_to_the_mention(before in words(), mention in words(), after in words()) {
            let text = format!("{before} {mention} {after}");
            let start = before.len() + 1;
            let mut session = tokenizer().session();
            let tokens = session.encode(&text).expect("encode");
            let own = session.encode(&mention).expect("encode").ids;
            let ids = match token_span(&tokens.spans, start..start + mention.len()) {
                Some(span) => tokens.ids[span.start..span.end].to_vec(),
                None => Vec::new(),
            };
            prop_assert_eq!(decoded(&ids), decoded(&own));
            prop_assert_eq!(ids, own);
        }

        #[test]
        fn the_tokens_of_plain_words_spell_the_mention(before in "([a-z]{1,9} ){0,5}", mention in "[a-z]{1,9}( [a-z]{1,9}){0,3}", after in "([ .,][a-z]{1,9}){0,5}") {
            let text = format!("{before}{mention}{after}");
            prop_assume!(after.is_empty() || !after.as_bytes()[0].is_ascii_alphanumeric());
            let tokens = tokenizer().session().encode(&text).expect("encode");
            let span = token_span(&tokens.spans, before.len()..before.len() + mention.len()).expect("covered");
            prop_assert_eq!(decoded(&tokens.ids[span.start..span.end]), mention.replace(' ', ""));
        }

        #[test]
        fn any_span_gets_exactly_the_tokens_that_overlap_it(text in words(), a in 0_usize..40, b in 0_usize..40) {
            let tokens = tokenizer().session().encode(&text).expect("encode");
            let bytes = a.min(b)..a.max(b) + 1;
            let overlapping: Vec<_> = (0..tokens.spans.len())
                .filter(|&i| tokens.spans[i].start < bytes.end && bytes.start < tokens.spans[i].end).collect();
            let span = token_span(&tokens.spans, bytes).map_or(Vec::new(), |span| (span.start..span.end).collect());
            prop_assert_eq!(span, overlapping);
        }
    }
}
