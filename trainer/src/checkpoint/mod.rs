//! Weights and checkpoints on disk.
//!
//! Reading weights:
//! - [`locate`] finds the file of weights for a path; [`archive`] unpacks published archives.
//! - [`weights`] reads weights by name from one file or several shards. [`safetensors_file`] and [`pickle`] open the two containers
//!   as [`stored::TensorFile`]; the pickle reader never executes code from a file.
//! - [`model_parallel`] joins the parts of published weights of large models.
//! - [`layout`] lists the parameters of a GLM; [`sizes`] compares weights with the requested model.
//! - [`numbers`] decodes elements and converts them to another format.
//!
//! Writing weights: [`safetensors_file`], [`published`] and [`hugging_face`] write the two containers, [`tensors`] writes libtorch's tensors.
//!
//! Checkpoints of a run: [`snapshot`] copies weights and optimizer state, from a GPU by [`device_copy`]. [`background`] writes the
//! copy into a [`run_folder`] while training continues, and [`copy`] uploads it to an object store. Ranks that divide the state among
//! themselves write a checkpoint together: [`averages`] and [`parts`]. [`seal`] detects damage. [`run_state`] is the state of a run beside
//! its tensors.

pub mod archive;
#[cfg(test)]
mod archive_tests;
pub mod averages;
pub mod background;
pub mod copy;
pub mod device_copy;
mod error;
pub mod hugging_face;
pub mod layout;
pub mod locate;
pub mod model_parallel;
pub mod numbers;
pub mod parts;
pub mod pickle;
pub mod published;
pub mod run_folder;
pub mod run_state;
pub mod safetensors_file;
pub mod seal;
pub mod sizes;
pub mod snapshot;
pub mod stored;
pub mod tensors;
pub mod weights;
#[cfg(test)]
mod weights_tests;

pub use error::{CheckpointError, SizeMismatch};
