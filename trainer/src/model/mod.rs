//! GLM, from token ids to log probabilities. Start with [`glm`], then [`embeddings`] and [`block`].
//!
//! The model is written once, on top of the operations in [`ops`], of which there is one implementation per kind of device.

pub mod backend;
pub mod block;
pub mod cache;
pub mod config;
mod copies;
pub mod divided;
pub mod embeddings;
pub mod flops;
pub mod glm;
pub mod incremental;
pub mod layers;
pub mod memory;
pub mod ops;
mod parameter;
pub mod parameters;
#[cfg(test)]
mod parameters_tests;
pub mod pass;
pub mod preset;
pub mod product;
mod recompute;

pub use backend::Backend;
pub use cache::KeyValueCache;
pub use config::ModelConfig;
pub use divided::Division;
pub use glm::Glm;
pub use incremental::NewToken;
pub use pass::{Kernels, Pass};
pub use preset::Preset;
pub use product::matmul_flops;
