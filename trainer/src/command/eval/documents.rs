//! Texts to be evaluated: a text file, JSON lines, or the documents of a data set.

use std::io;
use std::path::{Path, PathBuf};

use glm_schemas::manifest::{Manifest, Split, TaskName, Tokenizer, hex};
use serde_json::Value;
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::command::setup::{SetupError, open_data};
use crate::data::DataError;

/// Extensions of files with one JSON object per line.
const JSON_LINES: [&str; 3] = ["jsonl", "ndjson", "json"];

/// A text to be evaluated.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Document {
    /// Id of the document, the number of its line, or the name of its file.
    pub(super) id: Value,
    /// The text.
    pub(super) text: String,
}

/// Texts and their origin.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Documents {
    /// The texts, in order.
    pub(super) documents: Vec<Document>,
    /// The file, or the folder of the data set.
    pub(super) path: PathBuf,
    /// Split of the data set.
    pub(super) split: Option<Split>,
    /// Fingerprint of the data set, or the sha256 of the file.
    pub(super) fingerprint: String,
}

/// Error of reading texts.
#[derive(Debug, Error)]
pub enum DocumentError {
    /// The data set cannot be opened.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The data set cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The file is not text.
    #[error("{}, line {line}: not UTF-8 text; convert the file to UTF-8, or decompress it", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
        /// Line of the first byte that is not UTF-8.
        line: usize,
    },
    /// A line is not an object with a text.
    #[error("{}, line {line}: {reason}; expected {{\"text\": \"…\"}}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
        /// Description of the fault.
        reason: String,
    },
    /// The data set has another table.
    #[error(
        "the data set in {} has the table `{}`, but a language model is evaluated on documents; ingest them with \
         `glm-prep ingest DIR --task text`, or give a file of text as --data",
        path.display(), found.name()
    )]
    Table {
        /// The data set.
        path: PathBuf,
        /// Table of the data set.
        found: TaskName,
    },
    /// The data set was made with another vocabulary.
    #[error(
        "the data set in {} was made with the vocabulary {theirs}, but this is {ours}; give the same file as --tokenizer",
        path.display()
    )]
    Vocabulary {
        /// The data set.
        path: PathBuf,
        /// Name of its vocabulary.
        theirs: String,
        /// Name of the vocabulary in use.
        ours: String,
    },
}

/// Reads the texts in `path`: a data set, whose documents are those of `split`; a file of JSON lines, known by its extension; or a text
/// file, which is one text or, with `lines`, one per line. Empty lines of JSON lines are skipped, those of text are empty texts.
///
/// # Errors
/// [`DocumentError`] with the file and the line.
pub(super) fn read(path: &Path, split: Split, lines: bool, tokenizer: &Tokenizer) -> Result<Documents, DocumentError> {
    if !path.is_file() {
        return data_set(path, split, tokenizer);
    }
    let bytes = std::fs::read(path).map_err(|source| DocumentError::Read { path: path.to_owned(), source })?;
    let fingerprint = hex(&Sha256::digest(&bytes));
    let text = String::from_utf8(bytes).map_err(|error| {
        let sound = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + sound.iter().filter(|byte| **byte == b'\n').count();
        DocumentError::NotText { path: path.to_owned(), line }
    })?;
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let documents = if JSON_LINES.iter().any(|known| extension.eq_ignore_ascii_case(known)) {
        json_lines(path, &text)?
    } else if lines {
        (1..).zip(text.lines()).map(|(line, text)| Document { id: Value::from(line), text: text.to_owned() }).collect()
    } else {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        vec![Document { id: Value::from(name), text }]
    };
    Ok(Documents { documents, path: path.to_owned(), split: None, fingerprint })
}

fn json_lines(path: &Path, text: &str) -> Result<Vec<Document>, DocumentError> {
    let numbered = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    numbered
        .map(|(line, json)| document(line, json).map_err(|reason| DocumentError::Line { path: path.to_owned(), line, reason }))
        .collect()
}

fn document(line: usize, json: &str) -> Result<Document, String> {
    let value: Value = serde_json::from_str(json).map_err(|error| format!("invalid JSON: {error}"))?;
    let object = value.as_object().ok_or("not a JSON object")?;
    let text = object.get("text").ok_or("no `text`")?.as_str().ok_or("`text` is not a string")?;
    let id = object.get("id").filter(|id| !id.is_null()).cloned().unwrap_or_else(|| Value::from(line));
    Ok(Document { id, text: text.to_owned() })
}

fn data_set(path: &Path, split: Split, tokenizer: &Tokenizer) -> Result<Documents, DocumentError> {
    let data = open_data(path)?;
    let folder = data.place();
    let Manifest { task, tokenizer: theirs, fingerprint, .. } = data.manifest();
    if *task != TaskName::Text {
        return Err(DocumentError::Table { path: folder, found: *task });
    }
    if theirs.sha256 != tokenizer.sha256 {
        let (theirs, ours) = (theirs.name.clone(), tokenizer.name.clone());
        return Err(DocumentError::Vocabulary { path: folder, theirs, ours });
    }
    let rows = data.split(split)?;
    let mut documents = Vec::with_capacity(rows.rows());
    for group in 0..rows.group_rows().len() {
        let [ids, texts] = rows.texts(group, ["example_id", "text"])?;
        documents.extend(
            ids.iter()
                .zip(texts.iter())
                .map(|(id, text)| Document { id: id.into(), text: text.unwrap_or_default().to_owned() }),
        );
    }
    Ok(Documents { documents, path: folder, split: Some(split), fingerprint: fingerprint.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokenizer() -> Tokenizer {
        Tokenizer { name: "v".to_owned(), sha256: "0".to_owned(), vocab_size: 9 }
    }

    fn read_file(name: &str, content: &[u8], lines: bool) -> Result<Vec<(Value, String)>, String> {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join(name);
        std::fs::write(&path, content).expect("write");
        let read = read(&path, Split::Val, lines, &tokenizer()).map_err(|error| error.to_string())?;
        Ok(read.documents.into_iter().map(|document| (document.id, document.text)).collect())
    }

    #[test]
    fn a_text_file_is_one_text_or_one_per_line() {
        let content = b"One.\n\nTwo.\r\n";
        assert_eq!(read_file("a.txt", content, false), Ok(vec![("a.txt".into(), "One.\n\nTwo.\r\n".to_owned())]));
        let lines = [(1, "One."), (2, ""), (3, "Two.")].map(|(line, text)| (line.into(), text.to_owned()));
        assert_eq!(read_file("a.txt", content, true), Ok(lines.to_vec()));
    }

    #[test]
    fn json_lines_have_a_text_and_perhaps_an_id() {
        let content = b"{\"text\": \"One.\", \"id\": \"x\"}\n\n{\"text\": \"Two.\", \"id\": null, \"domain\": 1}\n";
        let expected = vec![("x".into(), "One.".to_owned()), (3.into(), "Two.".to_owned())];
        assert_eq!(read_file("a.JSONL", content, false), Ok(expected));
        for (line, reason) in [
            ("{", "invalid JSON: EOF while parsing an object at line 1 column 1"),
            ("[]", "not a JSON object"),
            ("{\"texts\": 1}", "no `text`"),
            ("{\"text\": 1}", "`text` is not a string"),
        ] {
            let error = read_file("a.jsonl", format!("\n{line}").as_bytes(), false).expect_err(line);
            assert!(error.ends_with(&format!("a.jsonl, line 2: {reason}; expected {{\"text\": \"…\"}}")), "{error}");
        }
    }

    #[test]
    fn other_encodings_are_errors_with_the_line() {
        let error = read_file("a.txt", b"One.\nTw\xff", false).expect_err("not UTF-8");
        assert!(error.ends_with("a.txt, line 2: not UTF-8 text; convert the file to UTF-8, or decompress it"), "{error}");
    }
}
