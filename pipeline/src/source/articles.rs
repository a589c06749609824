//! Articles in a file each, listed by split in one JSON file, as XSum is distributed.
//!
//! The articles of a split become lines of JSON, `{"id": "…", "text": "…"}`, so that everything after the reader handles them like any
//! other records. An article whose file is missing has no `text`.

use std::fs;
use std::io::{self, Read};
use std::path::PathBuf;

/// Extension of the articles.
const EXTENSION: &str = "summary";

/// Reader of articles as JSON lines.
pub(super) struct Articles<'a> {
    folder: PathBuf,
    ids: std::slice::Iter<'a, String>,
    /// JSON that has not been read yet.
    ready: Vec<u8>,
    at: usize,
}

impl<'a> Articles<'a> {
    /// Reads the articles with these ids in a folder.
    pub(super) fn new(folder: PathBuf, ids: &'a [String]) -> Self {
        Self { folder, ids: ids.iter(), ready: Vec::new(), at: 0 }
    }

    /// Makes the JSON of the next article; returns false at the end.
    fn advance(&mut self) -> io::Result<bool> {
        let Some(id) = self.ids.next() else { return Ok(false) };
        let line = match fs::read(self.folder.join(id).with_extension(EXTENSION)) {
            Ok(text) => serde_json::json!({ "id": id, "text": String::from_utf8_lossy(&text) }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => serde_json::json!({ "id": id }),
            Err(error) => return Err(error),
        };
        self.ready = format!("{line}\n").into_bytes();
        self.at = 0;
        Ok(true)
    }
}

impl Read for Articles<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.ready.len() && !self.advance()? {
            return Ok(0);
        }
        let length = buffer.len().min(self.ready.len() - self.at);
        buffer[..length].copy_from_slice(&self.ready[self.at..self.at + length]);
        self.at += length;
        Ok(length)
    }
}
