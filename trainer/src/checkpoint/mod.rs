//! Weights and runs on disk.
//!
//! [`locate`] finds the file of weights that a path means; [`weights`] reads it, whether safetensors or the published
//! PyTorch pickle (through [`pickle`], which never runs code from a file). A run's checkpoints: [`snapshot`] copies what there is
//! to be kept, [`background`] writes it into a [`run_folder`] while training goes on, and [`seal`] tells whether it is whole.

pub mod background;
pub mod locate;
pub mod pickle;
pub mod run_folder;
pub mod seal;
pub mod snapshot;
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
    /// The file holds no weights of a GLM.
    #[error("{}: {reason}", path.display())]
    NotAGlm {
        /// The file.
        path: PathBuf,
        /// What is missing or wrong.
        reason: String,
    },
    /// A parameter has another shape than the model.
    #[error("{}: `{name}` has shape {found:?}, the model needs {expected:?}", path.display())]
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
    /// Nothing says how many heads the model has.
    #[error("{}: weights of width {hidden} do not tell their number of heads; say it with --set model.heads=N", path.display())]
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
