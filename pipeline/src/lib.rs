//! Turns raw cloze data into tokenized, span-annotated Parquet shards.
//!
//! Data flows one way:
//!
//! ```text
//! raw line -> source::Passage -> tokens and spans -> rows in published order -> shards + manifest
//! ```
//!
//! - [`source`]: finds the raw files and parses them; one file a format.
//! - [`glm_text`]: raw text in standard form, and text to token ids, equal to the published tokenizer.
//! - [`annotate`]: spans of code points to spans of tokens.
//! - [`choices`]: which candidates a training question is given.
//! - [`ingest`]: the stages of `glm-prep ingest` and the queues between them.
//! - [`shard`]: Parquet files, checksums, and publication that is all or nothing.
//! - [`inspect`]: looks into shards.
//! - [`verify`]: checks every byte and every row of a data set.
//! - [`stats`]: counts lengths, choices, unknown tokens, shared passages.
//! - [`report`]: a page of all that.
//! - [`fetch`]: downloads raw data.
//! - [`sample`]: writes a sample corpus.
//! - [`cli`]: what was typed.
//!
//! ```
//! use glm_prep::ingest::{self, IngestOptions, Silent};
//!
//! # let folder = tempfile::tempdir()?;
//! # let dir = folder.path();
//! let record = r#"{"context": "Ada keeps a dog. The [BLANK] barked.", "choices": ["cat", "dog"], "answer": 1}"#;
//! std::fs::write(dir.join("train.jsonl"), record)?;
//! ingest::run(&IngestOptions::new(dir), &Silent)?;
//! assert!(dir.join("shards/manifest.json").is_file());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod annotate;
pub mod choices;
pub mod cli;
pub mod fetch;
pub mod ingest;
pub mod inspect;
pub mod report;
pub mod sample;
pub mod shard;
pub mod source;
pub mod stats;
pub mod verify;
