//! Records of a training run: metrics, progress, answers, sessions, TensorBoard events.

pub mod answers;
pub(crate) mod files;
pub mod metrics;
pub mod progress;
pub mod sessions;
pub mod tensorboard;
pub mod window;
