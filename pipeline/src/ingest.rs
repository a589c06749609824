//! `glm-prep ingest`: a pipeline of stages connected by bounded queues.
//!
//! ```text
//! reader ──record batches──▶ workers ──prepared batches──▶ ordered stage ──rows──▶ spool ──▶ shard writers
//!   ▲         (bounded)      parse, tokenize   (bounded)   ids, counts, rejects    sorted    one per shard
//!   └──────── permits ───────────────────────────────────                          on disk
//! ```
//!
//! The reader takes a permit for every batch and the ordered stage returns it. The number of batches in flight is therefore
//! fixed, and memory is bounded for input of any size. Everything that depends on file order happens in the ordered stage, so the
//! output bytes do not depend on the number of threads. Only `pipeline` and `write` start threads.
//!
//! The pipeline is the same for all tasks. A task supplies a kind of rows, one module of `rows`: how a record becomes items, how items
//! become numbered rows, and how a shard takes a row. The top of `kind` says how to add one. Items and rows are serde types, which part
//! files and the spool store in postcard's format.
//!
//! With `--partition`, a run stops after the workers and stores its batches in a part file (`part`). [`merge`] passes the batches
//! of all parts, in order, through the remaining stages.

mod dataset;
mod error;
mod frame;
mod holdout;
mod kind;
mod merge;
mod options;
mod order;
mod outcome;
mod parquet;
mod part;
mod pipeline;
mod prepare;
mod reasons;
mod records;
mod reject_limit;
mod rejects;
mod report;
mod reuse;
mod rows;
mod run;
mod spool;
mod stages;
mod stop;
mod table;
mod write;

pub use self::error::IngestError;
pub use self::merge::{MergeOptions, merge};
pub use self::options::{DEFAULT_ROWS_PER_SHARD, DEFAULT_VAL_SEED, Dedup, Fraction, IngestOptions, Partition};
pub use self::outcome::{Outcome, PartSummary};
pub use self::reasons::{RejectReason, kind as reject_kind};
pub use self::records::MAX_RECORD_BYTES;
pub use self::reject_limit::RejectLimit;
pub use self::report::{RowRate, SplitSummary, Summary};
pub use self::run::run;
pub use self::stages::StageSeconds;
pub use self::stop::{Stop, Stopped};
pub use glm_support::files::progress::{Progress, Silent, Unit};
