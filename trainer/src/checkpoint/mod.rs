//! Weights and runs on disk.
//!
//! - [`locate`] finds the file of weights that a path means; [`archive`] unpacks it if it is packed.
//! - [`weights`] reads weights by name, whether safetensors ([`safetensors_file`]) or PyTorch's pickle (through [`pickle`], which
//!   never runs code from a file), in one file or in Hugging Face's shards. [`layout`] says which parameters a GLM has.
//! - [`sizes`] compares them with the model that was asked for.
//! - [`numbers`] reads elements and rounds them to another format.
//! - [`published`] writes weights as published files have them; [`tensors`] writes libtorch's tensors.
//! - A run's checkpoints: [`snapshot`] copies what there is to be kept, [`background`] writes it into a [`run_folder`] while
//!   training goes on, and [`seal`] tells whether it is whole.

pub mod archive;
pub mod background;
mod hugging_face;
pub mod layout;
pub mod locate;
pub mod numbers;
pub mod pickle;
pub mod published;
pub mod run_folder;
pub mod safetensors_file;
pub mod seal;
pub mod sizes;
pub mod snapshot;
pub mod tensors;
pub mod weights;

use std::path::PathBuf;

use thiserror::Error;

/// Why weights or a checkpoint cannot be read or written.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// There are no weights at a path.
    #[error("no weights in {}: {reason}", path.display())]
    NotFound {
        /// Where they were looked for.
        path: PathBuf,
        /// What was expected there.
        reason: String,
    },
    /// A file cannot be read or written.
    #[error("{doing} {}: {source}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// The file is no safetensors file.
    #[error("{}: {source}", path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: safetensors::SafeTensorError,
    },
    /// The file is no PyTorch checkpoint, or a damaged one.
    #[error(transparent)]
    Pickle(#[from] pickle::PickleError),
    /// An archive of weights cannot be unpacked.
    #[error("{} {reason}", path.display())]
    Archive {
        /// The archive.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A list of shards is none, or does not fit the files beside it.
    #[error("{}: {reason}", path.display())]
    Index {
        /// The list.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file holds no weights of a GLM.
    #[error("{}: {reason}", path.display())]
    NotAGlm {
        /// The file.
        path: PathBuf,
        /// What is missing or wrong.
        reason: String,
    },
    /// A parameter has another shape than the model.
    #[error("{}: `{name}` has shape {found:?}, the model needs {expected:?}; `glm-trainer inspect` shows what is in the file", path.display())]
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
    /// The weights are those of another model than was asked for.
    #[error(transparent)]
    Sizes(#[from] sizes::SizeMismatch),
    /// A number that the format to be written cannot hold.
    #[error("{}: `{name}` holds {number}, which fp16 cannot: it ends at 65504; write --dtype fp32", path.display())]
    OutOfRange {
        /// The file.
        path: PathBuf,
        /// The parameter.
        name: String,
        /// The number.
        number: f64,
    },
    /// Nothing says how many heads the model has.
    #[error("{}: weights of width {hidden} do not tell their number of heads; say it with --set model.heads=N, to `convert` with --heads N", path.display())]
    Heads {
        /// The file.
        path: PathBuf,
        /// The width.
        hidden: usize,
    },
    /// The state of a run is unreadable.
    #[error("{}: not the state of a run: {source}", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: serde_json::Error,
    },
    /// Another process has the folder.
    #[error("another process trains in {}: wait for its end, or say another --out", folder.display())]
    InUse {
        /// The run's folder.
        folder: PathBuf,
    },
    /// No checkpoint of a run is whole.
    #[error("no checkpoint in {} is whole, the newest because {damage}; begin again with another --out", folder.display())]
    AllDamaged {
        /// Where they are.
        folder: PathBuf,
        /// What is wrong with the newest.
        damage: seal::Damage,
    },
    /// The thread that writes checkpoints.
    #[error("the thread that writes a checkpoint: {reason}")]
    Thread {
        /// What is wrong with it.
        reason: String,
    },
    /// libtorch refused.
    #[error("cannot copy weights: {0}")]
    Torch(#[from] tch::TchError),
}
