//! Self-contained HTML pages with charts drawn as SVG, for both programs' `report`.
//!
//! A page is one file: its style and its few lines of script are inside, and its content security policy forbids every request.
//! It is complete without the script, which only shows the values under the pointer. All parts here return markup of the crate
//! `maud`, which escapes text.
//!
//! - [`document`]: the page around the parts, and writing it.
//! - [`number`]: numbers as people write them.
//! - [`scale`]: from values to places on an axis, and the ticks of the axis.
//! - [`series`]: what a line chart shows of many points: a smoothed line, and a raw one without those that nobody can see.
//! - [`line_chart`], [`histogram`]: the charts.
//! - [`table`]: tables, tables with bars, and tiles.
//! - [`spans`], [`question`]: a text with its spans marked, and a cloze question.

pub mod document;
pub mod histogram;
pub mod line_chart;
pub mod number;
pub mod question;
pub mod scale;
pub mod series;
pub mod spans;
pub mod table;
