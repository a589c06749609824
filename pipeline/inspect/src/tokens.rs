//! Token texts and token tables.

use std::fs::File;
use std::path::Path;

use glm_schemas::cloze::METADATA_TOKENIZER_SHA256;
use glm_schemas::vocab::TokenId;
use parquet::file::metadata::ParquetMetaDataReader;

use super::error::InspectError;
use super::source::Source;
use glm_support::command::paint::{Glyph, HARD_SPACE, Kind, Style, glyphs, text_columns};
use glm_text::tokenize::Tokenizer;

/// Width that token texts are padded to.
const TOKEN_COLUMNS: usize = 14;
const ADVICE: &str = "--tokenizer PATH shows the texts of tokens.";

/// Texts of tokens, if the vocabulary is available.
pub(super) struct Vocabulary {
    tokenizer: Option<Tokenizer>,
    /// Explanation if there is no vocabulary.
    pub(super) note: Option<String>,
}

impl Vocabulary {
    /// Loads the given vocabulary, or the built-in one if the shards were made with it.
    pub(super) fn find(source: &Source, given: Option<&Path>) -> Result<Self, InspectError> {
        let expected = tokenizer_sha256(source);
        if let Some(path) = given {
            let tokenizer = Tokenizer::load(Some(path))?;
            let found = &tokenizer.identity().sha256;
            return match expected {
                Some(expected) if expected != *found => Err(InspectError::OtherTokenizer {
                    path: source.path.clone(),
                    tokenizer: path.to_owned(),
                    expected,
                    found: found.clone(),
                }),
                _ => Ok(Self { tokenizer: Some(tokenizer), note: None }),
            };
        }
        match expected {
            Some(expected) => {
                if let Some(tokenizer) = Tokenizer::built_in(&expected)? {
                    return Ok(Self { tokenizer: Some(tokenizer), note: None });
                }
                let start: String = expected.chars().take(12).collect();
                let note = format!("The vocabulary (sha256 {start}…) is not the built-in BERT's or GPT-2's; {ADVICE}");
                Ok(Self { tokenizer: None, note: Some(note) })
            }
            None => Ok(Self { tokenizer: None, note: Some(format!("The vocabulary of this file is unknown; {ADVICE}")) }),
        }
    }

    /// Returns the text of a token, `?` for an unknown id; `None` without a vocabulary.
    fn text(&self, id: TokenId) -> Option<String> {
        self.tokenizer.as_ref().map(|tokenizer| tokenizer.token(id).unwrap_or_else(|| "?".to_owned()))
    }

    /// Formats ids with their texts; lines may break between tokens.
    pub(super) fn list(&self, ids: &[TokenId]) -> String {
        let one = |&id: &TokenId| match self.text(id) {
            Some(text) => format!("{id}{HARD_SPACE}{text}"),
            None => id.to_string(),
        };
        ids.iter().map(one).collect::<Vec<_>>().join("  ")
    }

    /// Formats the heading of a token table.
    pub(super) fn heading(&self, last: &str) -> String {
        let token = if self.tokenizer.is_some() { format!("  {:<TOKEN_COLUMNS$}", "token") } else { String::new() };
        format!("{:>7} {:>7}{token}  {last}", "index", "id").trim_end().to_owned()
    }

    /// Formats a line of a token table.
    pub(super) fn line(&self, index: usize, id: TokenId, kind: Kind, last: &str) -> Vec<Glyph> {
        let mut line: Vec<Glyph> = glyphs(&format!("{index:>7} {id:>7}"), Style::default()).collect();
        if let Some(text) = self.text(id) {
            line.extend(glyphs("  ", Style::default()));
            line.extend(glyphs(&text, Style::of(kind)));
            let padding = TOKEN_COLUMNS.saturating_sub(text_columns(&text));
            line.extend(glyphs(&" ".repeat(padding), Style::default()));
        }
        line.extend(glyphs("  ", Style::default()));
        line.extend(glyphs(last, Style::of(kind)));
        while line.last().is_some_and(|&(c, _)| c == ' ') {
            line.pop();
        }
        line
    }
}

/// Returns the sha256 of the vocabulary from the manifest or from the metadata of the shard.
fn tokenizer_sha256(source: &Source) -> Option<String> {
    if let Some(manifest) = &source.manifest {
        return Some(manifest.tokenizer.sha256.clone());
    }
    let file = File::open(&source.parts.first()?.path).ok()?;
    let metadata = ParquetMetaDataReader::new().parse_and_finish(&file).ok()?;
    let pairs = metadata.file_metadata().key_value_metadata()?;
    pairs.iter().find(|pair| pair.key == METADATA_TOKENIZER_SHA256)?.value.clone()
}
