//! Vocabulary of the sample corpus, for models that are trained from random weights.

use std::collections::BTreeMap;

use glm_schemas::vocab::TokenId;
use glm_text::tokenize::{Session, Tokenizer, TokenizerError};
use serde_json::Value;

/// Special tokens, which a vocabulary must have.
const SPECIAL: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

/// Returns the lines of a `vocab.txt`: those tokens of BERT's vocabulary that occur in phrases, in its order, and all letters and
/// digits, so that other words have tokens as well. A word has the same tokens as with the whole vocabulary.
///
/// # Errors
/// [`TokenizerError`] of the built-in tokenizer.
pub(super) fn vocabulary(phrases: &Value) -> Result<String, TokenizerError> {
    let tokenizer = Tokenizer::bert_uncased()?;
    let mut tokens = BTreeMap::new();
    let mut session = tokenizer.session();
    collect(phrases, &tokenizer, &mut session, &mut tokens)?;
    let alphanumeric: String = ('a'..='z').chain('0'..='9').flat_map(|letter| [letter, ' ']).collect();
    add(&alphanumeric, &tokenizer, &mut session, &mut tokens)?;
    let continued = ('a'..='z').chain('0'..='9').map(|letter| format!("##{letter}"));
    let known: Vec<String> = tokens.into_values().collect();
    let continued: Vec<String> = continued.filter(|piece| !known.contains(piece)).collect();
    let all = SPECIAL.iter().copied().chain(known.iter().chain(&continued).map(String::as_str));
    Ok(all.fold(String::new(), |text, token| text + token + "\n"))
}

/// Adds the tokens of all strings in a JSON value.
fn collect(
    value: &Value,
    tokenizer: &Tokenizer,
    session: &mut Session<'_>,
    tokens: &mut BTreeMap<TokenId, String>,
) -> Result<(), TokenizerError> {
    match value {
        Value::String(text) => add(text, tokenizer, session, tokens),
        Value::Array(items) => items.iter().try_for_each(|item| collect(item, tokenizer, session, tokens)),
        Value::Object(fields) => fields.values().try_for_each(|field| collect(field, tokenizer, session, tokens)),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}

fn add(
    text: &str,
    tokenizer: &Tokenizer,
    session: &mut Session<'_>,
    tokens: &mut BTreeMap<TokenId, String>,
) -> Result<(), TokenizerError> {
    for id in session.encode(text)?.ids {
        if let Some(token) = tokenizer.token(id).filter(|token| !SPECIAL.contains(&token.as_str())) {
            tokens.insert(id, token);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::phrases;
    use super::*;

    #[test]
    fn texts_have_the_tokens_of_the_whole_vocabulary() {
        let phrases = phrases::json().expect("phrases");
        let text = vocabulary(&phrases).expect("vocabulary");
        let count = text.lines().count();
        assert!((1000..2500).contains(&count), "{count}");
        let own = Tokenizer::from_vocabulary("own", text.as_bytes()).expect("valid");
        let whole = Tokenizer::bert_uncased().expect("built in");
        let words = |tokenizer: &Tokenizer, text: &str| -> Vec<String> {
            let tokens = tokenizer.session().encode(text).expect("short");
            tokens.ids.iter().filter_map(|id| tokenizer.token(*id)).collect()
        };
        for text in
            ["The mayor Amélie Brooks – “it was a fair debate” – voted against the bridge.", "Work on the road to Auckland"]
        {
            assert_eq!(words(&own, text), words(&whole, text));
        }
        // Words outside of the corpus are spelled.
        assert_eq!(words(&own, "zyx9"), ["z", "##y", "##x", "##9"]);
    }
}
