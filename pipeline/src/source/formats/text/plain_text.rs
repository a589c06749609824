//! Documents as plain text: a document per line, per block of lines, or per file.

use super::not_blank;
use crate::source::document::Document;
use crate::source::error::RecordError;
use crate::source::format::{Content, DocumentFormat, Format, Framing};
use crate::source::head::Head;

/// Minimum length of lines that are documents, in characters. Text whose lines are wrapped has shorter ones.
const MIN_LINE_CHARS: usize = 100;

/// A document per line, as the published `wikibook` and `bert-base`.
#[derive(Debug, Clone, Copy, Default)]
pub struct TextLines;

/// A document per block of lines; blank lines separate them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Paragraphs;

/// A document per file.
#[derive(Debug, Clone, Copy, Default)]
pub struct WholeFile;

fn document(record: &str) -> Result<Vec<Option<Document>>, RecordError> {
    Ok(vec![Some(not_blank(Document { text: record.trim_end().to_owned(), ..Document::default() })?)])
}

impl Format for TextLines {
    fn name(&self) -> &'static str {
        "lines"
    }

    fn about(&self) -> &'static str {
        "Documents: plain text, one per line"
    }

    fn signs(&self) -> &'static str {
        "long lines of text"
    }

    fn detect(&self, head: &Head<'_>) -> bool {
        let Head::Lines(lines) = head else { return false };
        let long = lines.iter().filter(|line| super::is_longer(line, MIN_LINE_CHARS)).count();
        2 * long > lines.len()
    }

    fn content(&self) -> Content<'_> {
        Content::Documents(self)
    }
}

impl DocumentFormat for TextLines {
    fn documents(&self, record: &str) -> Result<Vec<Option<Document>>, RecordError> {
        document(record)
    }
}

impl Format for WholeFile {
    fn name(&self) -> &'static str {
        "document"
    }

    fn about(&self) -> &'static str {
        "Documents: plain text, one per file"
    }

    fn signs(&self) -> &'static str {
        "text in short lines"
    }

    fn framing(&self) -> Framing {
        Framing::Document
    }

    fn detect(&self, head: &Head<'_>) -> bool {
        matches!(head, Head::Lines(_))
    }

    fn content(&self) -> Content<'_> {
        Content::Documents(self)
    }
}

impl DocumentFormat for WholeFile {
    fn documents(&self, record: &str) -> Result<Vec<Option<Document>>, RecordError> {
        document(record)
    }
}

impl Format for Paragraphs {
    fn name(&self) -> &'static str {
        "paragraphs"
    }

    fn about(&self) -> &'static str {
        "Documents: plain text, one per block of lines; blank lines separate them"
    }

    fn signs(&self) -> &'static str {
        "nothing; it must be named"
    }

    fn framing(&self) -> Framing {
        Framing::Blocks
    }

    fn detect(&self, _: &Head<'_>) -> bool {
        false
    }

    fn content(&self) -> Content<'_> {
        Content::Documents(self)
    }
}

impl DocumentFormat for Paragraphs {
    fn documents(&self, record: &str) -> Result<Vec<Option<Document>>, RecordError> {
        document(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_kept_without_its_last_line_end() {
        for format in [&TextLines as &dyn DocumentFormat, &Paragraphs, &WholeFile] {
            let found = format.documents(" a [MASK]\n\nb \r\n").expect("a document");
            assert_eq!(found, [Some(Document { text: " a [MASK]\n\nb".into(), ..Document::default() })]);
            assert_eq!(format.documents(" \n"), Err(RecordError::EmptyText));
        }
    }

    #[test]
    fn long_lines_are_documents() {
        let long = "a ".repeat(60);
        assert!(TextLines.detect(&Head::Lines(vec![&long, "short", &long])));
        assert!(!TextLines.detect(&Head::Lines(vec![&long, "short"])));
    }
}
