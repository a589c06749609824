//! Turns raw data, cloze questions or documents, into tokenized Parquet shards.
//!
//! Data flows in one direction:
//!
//! ```text
//! raw record -> source::Passage or source::Document -> tokens and spans -> rows in published order -> shards + manifest
//! ```
//!
//! - [`source`]: discovery and parsing of raw files, with one module per format.
//! - [`glm_text`]: text standardisation and tokenization, identical to the published tokenizer.
//! - [`annotate`]: mapping of entity mentions to token spans.
//! - [`choices`]: choices of training questions.
//! - [`ingest`]: the pipeline of `glm-prep ingest`.
//! - [`pattern`]: cloze tasks as data: fields of records, texts around a blank, words to fill it.
//! - [`shard`]: Parquet shards, checksums and atomic publication.
//! - [`inspect`]: display of shards and questions.
//! - [`verify`]: verification of every byte and every row of a data set.
//! - [`stats`]: statistics of lengths, choices, unknown tokens and shared passages.
//! - [`report`]: an HTML report of a data set.
//! - [`fetch`]: download of raw data.
//! - [`sample`]: sample corpus.
//! - [`cli`]: command line of `glm-prep`.
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
pub mod pattern;
pub mod report;
pub mod sample;
pub mod shard;
pub mod source;
pub mod stats;
pub mod verify;
