//! Documents as rows of Parquet, as in data sets of Hugging Face.

use super::json_lines::parse;
use crate::source::document::Document;
use crate::source::error::RecordError;
use crate::source::format::{Content, DocumentFormat, Format, Framing};
use crate::source::head::Head;

/// Parquet with a column of text. A row is read as an object with the fields of JSON lines.
#[derive(Debug, Clone, Copy, Default)]
pub struct Parquet;

impl Format for Parquet {
    fn name(&self) -> &'static str {
        "parquet"
    }

    fn about(&self) -> &'static str {
        "Documents: one per row of a Parquet file, see --column"
    }

    fn signs(&self) -> &'static str {
        "the first bytes of Parquet"
    }

    fn framing(&self) -> Framing {
        Framing::Parquet
    }

    fn detect(&self, head: &Head<'_>) -> bool {
        matches!(head, Head::Parquet)
    }

    fn content(&self) -> Content<'_> {
        Content::Documents(self)
    }
}

impl DocumentFormat for Parquet {
    fn documents(&self, record: &str) -> Result<Vec<Option<Document>>, RecordError> {
        Ok(vec![Some(parse(self.name(), record)?)])
    }
}
