//! Errors of reading and writing weights and checkpoints.

use std::fmt;
use std::path::PathBuf;

use glm_remote::RemoteError;
use glm_schemas::manifest::Tokenizer;
use thiserror::Error;

use super::pickle::PickleError;
use super::seal::Damage;
use super::stored::ReadError;

/// Errors of reading and writing weights and checkpoints.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// A path does not lead to weights.
    #[error("no weights in {}: {reason}", path.display())]
    NotFound {
        /// The path.
        path: PathBuf,
        /// Reason, with the files that were expected.
        reason: String,
    },
    /// Weights in an object store cannot be read.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// A file cannot be read or written.
    #[error("{doing} {}: {source}", path.display())]
    Io {
        /// Failed operation.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Error of the system.
        source: std::io::Error,
    },
    /// The file is not a valid safetensors file.
    #[error("{}: {why}", path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// Reason and what to do.
        why: String,
    },
    /// The file is not a valid PyTorch checkpoint.
    #[error(transparent)]
    Pickle(#[from] PickleError),
    /// A tensor cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// An archive of weights cannot be unpacked.
    #[error("{} {reason}", path.display())]
    Archive {
        /// The archive.
        path: PathBuf,
        /// Reason and what to do.
        reason: String,
    },
    /// An index of shards is invalid or does not match the files next to it.
    #[error("{}: {reason}", path.display())]
    Index {
        /// The index.
        path: PathBuf,
        /// Reason.
        reason: String,
    },
    /// Model-parallel parts do not make up a model.
    #[error("{}: {reason}", path.display())]
    Parts {
        /// A part.
        path: PathBuf,
        /// Reason and remedy.
        reason: String,
    },
    /// The file does not contain the weights of a GLM.
    #[error("{}: {reason}", path.display())]
    NotAGlm {
        /// The file.
        path: PathBuf,
        /// Reason.
        reason: String,
    },
    /// A parameter does not have the shape that the model needs.
    #[error("{}: `{name}` has shape {found:?}, the model needs {expected:?}; list the content of the file with `glm-trainer inspect`", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// The parameter.
        name: String,
        /// Shape in the file.
        found: Vec<i64>,
        /// Shape in the model.
        expected: Vec<i64>,
    },
    /// Ranks that write a checkpoint together have not completed it.
    #[error("the checkpoint of all ranks is incomplete: {reason}")]
    Ranks {
        /// Reason, with the rank.
        reason: String,
    },
    /// The weights do not have the requested sizes.
    #[error(transparent)]
    Sizes(#[from] SizeMismatch),
    /// The output format cannot represent a number.
    #[error("{}: `{name}` has the value {number}, beyond the largest fp16 number, 65504; write --dtype fp32", path.display())]
    OutOfRange {
        /// The file.
        path: PathBuf,
        /// The parameter.
        name: String,
        /// The number.
        number: f64,
    },
    /// The number of heads is unknown.
    #[error("{}: cannot derive the number of attention heads from weights with {layers} layers of width {hidden}; use --set model.heads=N, or --heads N with `convert`", path.display())]
    Heads {
        /// The file.
        path: PathBuf,
        /// Number of layers.
        layers: usize,
        /// Width.
        hidden: usize,
    },
    /// The weights do not match their checksums.
    #[error("{0}; copy the checkpoint again, or use another one (--checkpoint latest or a step, for a run)")]
    Damaged(Damage),
    /// The weights belong to another vocabulary.
    #[error(
        "the weights in {} were trained with the vocabulary {}, these tokens are of the vocabulary {}; use the vocabulary of the weights \
         with --tokenizer FILE in `glm-prep ingest`, `score`, `generate` or `eval --task lm`, or use other weights",
        path.display(), vocabulary(own), vocabulary(given)
    )]
    Vocabulary {
        /// The weights.
        path: PathBuf,
        /// Vocabulary of the weights.
        own: Box<Tokenizer>,
        /// Vocabulary of the data set or of the questions.
        given: Box<Tokenizer>,
    },
    /// The sizes are those of published weights with another vocabulary.
    #[error(
        "the weights in {} have the sizes of published ones with the vocabulary {own}, these tokens are of the vocabulary {}; use the \
         vocabulary of the weights with --tokenizer in `glm-prep ingest`, `score`, `generate` or `eval --task lm` (`glm-trainer presets` lists them), or use other weights",
        path.display(), vocabulary(given)
    )]
    PublishedVocabulary {
        /// The weights.
        path: PathBuf,
        /// Vocabulary of the weights.
        own: String,
        /// Vocabulary of the data set or of the questions.
        given: Box<Tokenizer>,
    },
    /// The state of a run cannot be read or written.
    #[error("{}: not the state of a run: {source}", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// Reason.
        source: serde_json::Error,
    },
    /// Another process uses the folder.
    #[error("another process trains in {}; wait until it ends, or use another --out", folder.display())]
    InUse {
        /// Folder of the run.
        folder: PathBuf,
    },
    /// All checkpoints of a run are damaged.
    #[error("all checkpoints in {} are damaged, the latest because {damage}; start again with another --out", folder.display())]
    AllDamaged {
        /// Folder of the checkpoints.
        folder: PathBuf,
        /// Damage of the latest checkpoint.
        damage: Damage,
    },
    /// The thread that writes checkpoints failed.
    #[error("the thread that writes a checkpoint failed: {reason}")]
    Thread {
        /// Reason.
        reason: String,
    },
    /// libtorch reported an error.
    #[error("cannot copy weights: {0}")]
    Torch(#[from] tch::TchError),
}

/// Formats name and checksum of a vocabulary.
fn vocabulary(tokenizer: &Tokenizer) -> String {
    format!("{} (sha256 {})", tokenizer.name, tokenizer.sha256)
}

/// Weights that do not have the requested sizes. Displayed as a table.
#[derive(Debug, Error)]
pub struct SizeMismatch {
    pub(super) path: PathBuf,
    pub(super) rows: Vec<SizeRow>,
}

/// Requested and actual value of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SizeRow {
    pub(super) name: &'static str,
    /// `None` if any value is accepted.
    pub(super) requested: Option<usize>,
    /// `None` if the weights do not specify it.
    pub(super) found: Option<usize>,
    /// True if a model with another value is another model.
    pub(super) must_match: bool,
}

impl SizeRow {
    pub(super) fn is_mismatch(&self) -> bool {
        self.must_match && self.requested.zip(self.found).is_some_and(|(requested, found)| requested != found)
    }
}

impl fmt::Display for SizeMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |size: Option<usize>| size.map_or("-".to_owned(), |size| size.to_string());
        writeln!(f, "the weights in {} do not have the requested sizes:", self.path.display())?;
        writeln!(f, "  {:<10} {:>9} {:>9}", "", "requested", "weights")?;
        for row in &self.rows {
            let mark = if row.is_mismatch() { "   differs" } else { "" };
            writeln!(f, "  {:<10} {:>9} {:>9}{mark}", row.name, number(row.requested), number(row.found))?;
        }
        write!(f, "omit --preset and --set model.* to use the sizes of the weights, or use other weights with --init")
    }
}
