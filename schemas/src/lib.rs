//! Data contract between `glm-prep`, which writes data sets, and `glm-trainer`, which reads them.
//!
//! A data set is a folder with a `manifest.json` and a folder `data` of Parquet shards. The manifest names the [kind of rows](manifest::TaskName) of the data set,
//! and each kind has a table with one module here. A row of the table [`cloze`] is one cloze question: a context
//! with one blank, and the choices that may fill it, as text and as token ids. A row of the table [`document`] is one document,
//! a row of [`seq2seq`] a pair of a source and a target.
//!
//! - [`cloze`]: columns of the table, and [`cloze::ClozeView`], zero-copy access to the token ids of a record batch.
//!   - [`cloze::builder`]: building of record batches from [`cloze::builder::ClozeRow`]s.
//!   - [`cloze::text`]: [`cloze::text::TextView`], zero-copy access to the text columns.
//!   - [`cloze::encoding`]: encoding of one choice of a question as model input, as in the published recipe.
//! - [`document`]: the same for documents: columns, [`document::DocumentView`], [`document::DocumentBatchBuilder`].
//! - [`seq2seq`]: the same for pairs, and [`seq2seq::encoding`], their encoding as model input.
//! - [`origin`]: [`origin::OriginView`], zero-copy access to the columns that lead back to the raw data.
//! - [`column`](mod@column): typed access to single columns, for all tables.
//! - [`manifest`]: content of `manifest.json` and fingerprint of a data set.
//! - [`vocab`]: special tokens and their ids.
//!
//! The crate does no I/O and depends neither on tensors nor on threads.
//!
//! ```
//! use glm_schemas::cloze::encoding::{ChoiceEncoder, Question};
//! use glm_schemas::vocab::SpecialIds;
//!
//! let question = Question::about(&[7, 8, 9], &[5], &[6]);
//! let encoder = ChoiceEncoder::new(SpecialIds::BERT_UNCASED, 512);
//! let input = encoder.encode(&question, &[11, 12])?;
//! assert_eq!(input.ids, [101, 7, 8, 9, 5, 103, 6, 0, 30522, 11, 12]);
//! assert_eq!(input.sep, 8);
//! # Ok::<(), glm_schemas::cloze::encoding::EncodingError>(())
//! ```

pub mod cloze;
pub mod column;
pub mod document;
pub mod manifest;
pub mod origin;
pub mod seq2seq;
mod split;
pub mod vocab;

/// Version of the contract. Readers reject data sets of other versions.
pub const SCHEMA_VERSION: u32 = 3;
