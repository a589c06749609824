//! Trains GLM from memory-mapped Parquet shards.
//!
//! ```text
//! shard -> mapped row group -> sample -> packed batch -> log probabilities -> loss -> gradients -> weights -> checkpoint
//! ```
//!
//! Modules, from the bottom up:
//!
//! - [`batch`]: the packed batch, on the host and on a device. Data loading and the model share it.
//! - [`model`]: GLM, written once on top of the operations in [`model::ops`].
//! - [`text_metrics`]: ROUGE, BLEU, exact match and F1 of generated texts.
//! - [`task`]: training objectives, and how they are evaluated.
//! - [`data`]: shards are mapped, decoded, ordered and packed into batches on background threads.
//! - [`optim`]: AdamW, learning rate schedule, gradient clipping, loss scale and spike detection.
//! - [`config`], [`device`]: settings.
//! - [`checkpoint`]: weights, optimizer state and run state in files.
//! - [`distributed`]: ranks that train one model together.
//! - [`record`]: metrics, progress, answers and TensorBoard events of a run.
//! - [`generate`]: fills blanks of contexts with generated text.
//! - [`train`]: the training loop, one optimizer step, and evaluation.
//! - [`version`]: version of the program, recorded with its results.
//! - [`command`], [`cli`]: the commands of `glm-trainer`.
//!
//! `docs/architecture.md` follows one question along this path. A run is determined by its settings and its data set. Settings can be
//! read without training:
//!
//! ```
//! use glm_trainer::config::overrides::Layers;
//!
//! let mut layers = Layers::default();
//! layers.assignment("model.preset=tiny")?;
//! layers.assignment("optim.lr=2e-5")?;
//! let config = layers.resolve()?;
//! assert_eq!(config.schedule().lr, 2e-5);
//! assert_eq!(config.random_model(30592)?.parameters(), 4_642_176);
//! # Ok::<(), glm_trainer::config::SettingsError>(())
//! ```

pub mod batch;
pub mod checkpoint;
pub mod cli;
pub mod command;
pub mod config;
pub mod data;
pub mod device;
pub mod distributed;
pub mod exit_code;
pub mod generate;
pub mod memory;
pub mod model;
pub mod optim;
pub mod record;
pub mod task;
pub mod text_metrics;
pub mod train;
pub mod version;
