//! Fine-tunes GLM for multi-token cloze from memory-mapped Parquet shards.
//!
//! The way of the data through the crate:
//!
//! - [`data`]: shards are mapped, decoded, ordered and packed into batches by threads that read ahead.
//! - [`model`]: a batch becomes a score for every choice; context once, pieces packed behind it.
//! - [`optim`]: gradients become new weights.
//! - [`step`] makes one optimizer step; [`train`](mod@train) and [`evaluate`](mod@evaluate) put these together; [`metrics`], [`tensorboard`] and [`progress`] tell of it.
//! - [`predict`](mod@predict) writes the answers to a split for others to judge; [`score`](mod@score) ranks the choices of what somebody types.
//! - [`answers`] and [`sessions`]: what a run leaves beside its metrics; [`report`](mod@report) makes a page of all that.
//! - [`guard`]: steps that are skipped, or out of the ordinary.
//! - [`distributed`]: several processes train one model.
//! - [`checkpoint`]: weights in and out, and where a run stands; [`fetch`](mod@fetch), [`convert`](mod@convert) and [`inspect`](mod@inspect) are its commands.
//! - [`bench`](mod@bench) measures all of it; [`memory`] what it holds.
//! - [`cli`], [`config`], [`device`], [`launch`] and [`stop`]: from what was typed to a run that can start.
//!
//! ```text
//! shard -> mapped row group -> sample -> packed batch -> scores -> loss -> gradients -> weights -> checkpoint
//! ```
//!
//! `docs/architecture.md` follows one question along that way. What a run does depends on its settings and its data set alone, and the settings
//! can be asked without training:
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
pub mod memory;
pub mod model;
pub mod optim;
pub mod record;
pub mod task;
pub mod train;
