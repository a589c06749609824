//! GLM, from ids to scores. Read [`glm`] first, then [`embeddings`], [`block`], [`attention`] and [`cloze`].

pub mod attention;
pub mod block;
pub mod cloze;
pub mod config;
pub mod embeddings;
pub mod glm;
pub mod layers;
pub mod parameters;

pub use config::{ModelConfig, Preset};
pub use glm::Glm;
