//! Time per kind of operation, for `glm-trainer bench --profile`.
//!
//! On a CPU, the time of an operation is that of the call. On a GPU, the call only queues the operation, so a timing event is
//! recorded before and after it on the current stream, and [`stop`] waits for the events. While the clock does not run, it costs
//! one load per operation.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use libtorch_ext::stream::{Stream, TimingEvent};
use tch::{Device, TchError};

/// A kind of operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Embeddings, both ways.
    Embedding,
    /// Conversion of weights to the kind of the activations.
    Cast,
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
    /// Log softmax at the targets, both ways.
    Scores,
    /// Norm of the gradients.
    Norm,
    /// AdamW.
    Optimizer,
}

/// All stages with their names, in the order of a step.
pub const STAGES: [(Stage, &str); 12] = [
    (Stage::Embedding, "embeddings"),
    (Stage::Cast, "conversion of weights"),
    (Stage::Linear, "products, forward"),
    (Stage::LinearInput, "products, gradients of inputs"),
    (Stage::LinearWeight, "products, gradients of weights"),
    (Stage::Attention, "attention, forward"),
    (Stage::AttentionBack, "attention, backward"),
    (Stage::Gelu, "bias and GELU"),
    (Stage::Residual, "dropout, residual, LayerNorm"),
    (Stage::Scores, "log softmax at targets"),
    (Stage::Norm, "norm of the gradients"),
    (Stage::Optimizer, "AdamW"),
];

/// An operation on a GPU, between two events.
struct Span {
    stage: Stage,
    begin: TimingEvent,
    end: TimingEvent,
}

static RUNS: AtomicBool = AtomicBool::new(false);
static NANOSECONDS: [AtomicU64; STAGES.len()] = [const { AtomicU64::new(0) }; STAGES.len()];
/// A backward pass adds to it from a thread of libtorch.
static SPANS: Mutex<Vec<Span>> = Mutex::new(Vec::new());

/// Starts the clock from zero.
pub fn start() {
    NANOSECONDS.iter().for_each(|stage| stage.store(0, Ordering::Relaxed));
    spans().clear();
    RUNS.store(true, Ordering::Relaxed);
}

/// Stops the clock, after waiting for the operations that it measures; time by stage, in the order of [`STAGES`].
///
/// # Errors
/// A [`TchError`] of the GPU.
pub fn stop() -> Result<Vec<(&'static str, Duration)>, TchError> {
    RUNS.store(false, Ordering::Relaxed);
    for Span { stage, begin, end } in std::mem::take(&mut *spans()) {
        add(stage, end.elapsed_since(&begin)?);
    }
    let spent = |stage: Stage| Duration::from_nanos(NANOSECONDS[stage as usize].load(Ordering::Relaxed));
    Ok(STAGES.iter().map(|(stage, name)| (*name, spent(*stage))).collect())
}

/// Runs `work`, which computes or queues operations on `device`, and counts their time. Must not be nested, or the time of the
/// inner `work` counts twice.
pub fn timed<T>(stage: Stage, device: Device, work: impl FnOnce() -> T) -> T {
    if !RUNS.load(Ordering::Relaxed) {
        return work();
    }
    let Device::Cuda(index) = device else {
        let begin = Instant::now();
        let result = work();
        add(stage, begin.elapsed());
        return result;
    };
    let event = || TimingEvent::record(&Stream::current(index)?);
    let begin = event();
    let result = work();
    // A measurement that fails must not fail the operation: its time then counts as the remainder.
    if let (Ok(begin), Ok(end)) = (begin, event()) {
        spans().push(Span { stage, begin, end });
    }
    result
}

fn add(stage: Stage, spent: Duration) {
    let spent = u64::try_from(spent.as_nanos()).unwrap_or(u64::MAX);
    NANOSECONDS[stage as usize].fetch_add(spent, Ordering::Relaxed);
}

fn spans() -> MutexGuard<'static, Vec<Span>> {
    // A panic elsewhere leaves a list of complete spans.
    SPANS.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_in_their_order_and_counted_while_the_clock_runs() {
        assert!(STAGES.iter().enumerate().all(|(i, (stage, _))| *stage as usize == i));
        let pause = |stage| timed(stage, Device::Cpu, || std::thread::sleep(Duration::from_millis(2)));
        pause(Stage::Optimizer);
        start();
        pause(Stage::Optimizer);
        let spent = stop().expect("no GPU");
        let of = |stage: Stage| spent[stage as usize].1;
        assert!(of(Stage::Optimizer) >= Duration::from_millis(2), "{spent:?}");
    }
}
