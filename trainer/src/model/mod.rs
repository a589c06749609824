//! GLM, from ids to scores. Read [`glm`] first, then [`embeddings`], [`block`], [`attention`] and [`cloze`].
//!
//! Everything is there twice: by libtorch's own operations, which any device has, and by the [`fused`] ones, which CPUs take.
//! [`pass`] says which of them a forward pass goes through; tests hold the two against each other and both against golden
//! outputs.

pub mod attention;
pub mod block;
pub mod cloze;
pub mod config;
pub mod embeddings;
pub mod glm;
pub mod layers;
pub mod ops;
pub mod parameters;
pub mod pass;

pub use config::{ModelConfig, Preset};
pub use glm::Glm;
pub use pass::{Kernels, Pass};
