//! Time per kind of operation, for `glm-trainer bench --profile`.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A kind of operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Matrix products with weights, forward.
    Linear,
    /// Gradients of what went into these products.
    LinearInput,
    /// Gradients of weights, with their summing up.
    LinearWeight,
    /// Attention forward.
    Attention,
    /// Attention backward.
    AttentionBack,
    /// Bias and GELU, both ways.
    Gelu,
    /// Bias, dropout, residual sum and LayerNorm, both ways.
    Residual,
    /// Embeddings, both ways.
    Embedding,
    /// Log softmax at the targets, both ways.
    Scores,
}

/// All stages with their names, in the order of a step.
pub const STAGES: [(Stage, &str); 9] = [
    (Stage::Embedding, "embeddings"),
    (Stage::Linear, "products, forward"),
    (Stage::LinearInput, "products, gradients of inputs"),
    (Stage::LinearWeight, "products, gradients of weights"),
    (Stage::Attention, "attention, forward"),
    (Stage::AttentionBack, "attention, backward"),
    (Stage::Gelu, "bias and GELU"),
    (Stage::Residual, "dropout, residual, LayerNorm"),
    (Stage::Scores, "log softmax at targets"),
];

static RUNS: AtomicBool = AtomicBool::new(false);
static NANOSECONDS: [AtomicU64; STAGES.len()] = [const { AtomicU64::new(0) }; STAGES.len()];

/// Starts the clock from zero.
pub fn start() {
    NANOSECONDS.iter().for_each(|stage| stage.store(0, Ordering::Relaxed));
    RUNS.store(true, Ordering::Relaxed);
}

/// Stops the clock; time by stage, in the order of [`STAGES`].
pub fn stop() -> Vec<(&'static str, Duration)> {
    RUNS.store(false, Ordering::Relaxed);
    let spent = |stage: Stage| Duration::from_nanos(NANOSECONDS[stage as usize].load(Ordering::Relaxed));
    STAGES.iter().map(|(stage, name)| (*name, spent(*stage))).collect()
}

/// Runs `work`, which the caller waits for, and counts its time.
pub(super) fn timed<T>(stage: Stage, work: impl FnOnce() -> T) -> T {
    if !RUNS.load(Ordering::Relaxed) {
        return work();
    }
    let begin = Instant::now();
    let result = work();
    let spent = u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX);
    NANOSECONDS[stage as usize].fetch_add(spent, Ordering::Relaxed);
    result
}
