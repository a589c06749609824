//! Raw formats, one module each.
//!
//! To add a format, write a module that implements [`Format`], declare it here and list it in [`FORMATS`]: detection, `--format`,
//! its help text and the manifest follow from the table.

mod automaton;
pub mod cbt;
pub mod cloth;
mod given;
pub mod lambada;
mod members;
pub(super) mod near_miss;
pub mod original_record;
pub mod pairs;
pub mod pattern;
pub mod plain;
pub mod record;
pub mod text;
mod words;

use super::format::Format;
use pairs::lines::Corpus;
use pairs::squad::Purpose;

/// All formats, in the order in which those of a task are tried on a file. The first is the default.
pub const FORMATS: &[&dyn Format] = &[
    &record::Record,
    &original_record::OriginalRecord,
    &cloth::Cloth,
    &lambada::Lambada,
    &cbt::Cbt,
    &plain::Plain,
    &pattern::PatternLines,
    &text::parquet::Parquet,
    &text::published::CcNews,
    &text::published::Pile,
    &text::published::Zhihu,
    &text::published::Zhidao,
    &text::published::Baike,
    &text::published::Wudao,
    &text::json_lines::JsonLines,
    &text::json_lines::OpenWebText,
    &text::plain_text::TextLines,
    &text::plain_text::WholeFile,
    &text::plain_text::Paragraphs,
    &pairs::Pairs,
    &pairs::PairLines(Corpus::Lines),
    &pairs::PairLines(Corpus::CnnDm),
    &pairs::PairLines(Corpus::CnnDmOriginal),
    &pairs::PairLines(Corpus::Gigaword),
    &pairs::PairLines(Corpus::Extraction),
    &pairs::Xsum,
    &pairs::Squad(Purpose::Answer),
    &pairs::Squad(Purpose::AnswerAlways),
    &pairs::Squad(Purpose::Question),
    &pairs::Squad(Purpose::ChineseAnswer),
];
