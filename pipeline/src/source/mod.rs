//! Raw data: finds the files ([`input`]), detects their format ([`recognise`]) and parses their records ([`formats`]).
//!
//! All formats of cloze data produce the same type, a [`Passage`] with its questions in standard form, and all formats of text
//! produce [`Document`]s; those of pairs produce [`RawPair`]s. A [`RecordError`] rejects a whole record, a [`QuestionError`] only one question of a passage.

mod archive;
mod articles;
mod discover;
mod document;
mod error;
mod format;
pub mod formats;
pub mod head;
pub mod input;
mod pair;
mod paired;
mod passage;
pub mod recognise;
pub mod table;
pub mod unpack;

pub use document::Document;
pub use error::{EncodingErrorText, QuestionError, RecordError, RejectedQuestion};
pub use format::{ClozeFormat, Content, DocumentFormat, Format, Framing, PairFormat};
pub use pair::{RawPair, References, Windows};
pub(crate) use paired::push_string;
pub use passage::{Passage, Question};
