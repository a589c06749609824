//! Self-contained HTML pages with charts drawn as SVG, for both programs' `report`.
//!
//! A page is one file with embedded style and script; its content security policy forbids all requests. The script only shows
//! the values under the pointer, so pages also work without it. All parts return markup of the crate `maud`, which escapes
//! text.
//!
//! - [`document`]: the page itself.
//! - [`number`]: number formatting.
//! - [`scale`]: axes and their ticks.
//! - [`series`]: smoothing and thinning of series.
//! - [`line_chart`], [`histogram`]: charts, in a common `figure`.
//! - [`table`]: tables, bar tables, and tiles.
//! - [`card`]: cards that fold.
//! - [`spans`], [`question`]: text with marked spans, and cloze questions.

pub mod card;
pub mod document;
mod figure;
pub mod histogram;
pub mod line_chart;
pub mod number;
pub mod question;
pub mod scale;
pub mod series;
pub mod spans;
pub mod table;
