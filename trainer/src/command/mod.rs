//! The commands of `glm-trainer`, one module each.

mod answer_line;
pub mod bench;
pub mod convert;
pub mod eval;
pub mod fetch;
pub mod generate;
pub mod inspect;
mod json_objects;
pub mod predict;
pub mod presets;
pub mod report;
pub mod run;
pub mod score;
pub mod scorer;
pub mod setup;
pub mod weights;
