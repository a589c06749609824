//! The data contract between `glm-prep`, which writes cloze data sets, and `glm-trainer`, which reads them.
//!
//! A data set is a folder of Parquet shards and a `manifest.json`. One row of a shard is one question of multi-token
//! cloze: a passage, a query with one blank, and the candidate answers, as text and as token ids.
//!
//! - [`cloze`]: the columns of a shard, and [`cloze::ClozeView`], typed access to a record batch without copying.
//! - [`builder`]: record batches out of [`builder::ClozeRow`]s.
//! - [`text`]: [`text::TextView`], typed access to the columns that hold text for people.
//! - [`encoding`]: how one choice of a question becomes model input, exactly as the published recipe does it.
//! - [`manifest`]: what `manifest.json` says, and the fingerprint of a data set.
//! - [`vocab`]: the special tokens and their ids.
//!
//! The crate does no I/O and knows neither tensors nor threads.
//!
//! ```
//! use glm_schemas::encoding::{ChoiceEncoder, Question};
//! use glm_schemas::vocab::SpecialIds;
//!
//! let question = Question { passage: &[7, 8, 9], query_left: &[5], query_right: &[6] };
//! let encoder = ChoiceEncoder::new(SpecialIds::BERT_UNCASED, 512);
//! let input = encoder.encode(&question, &[11, 12])?;
//! assert_eq!(input.ids, [101, 7, 8, 9, 5, 103, 6, 0, 30522, 11, 12]);
//! assert_eq!(input.sep, 8);
//! # Ok::<(), glm_schemas::encoding::EncodingError>(())
//! ```

pub mod builder;
pub mod cloze;
pub mod encoding;
pub mod manifest;
pub mod text;
pub mod vocab;

/// Version of the contract. A reader refuses a data set with another major contract version.
pub const SCHEMA_VERSION: u32 = 1;
