//! Averages over the optimizer steps between two log lines.

use std::time::{Duration, Instant};

use tch::Device;

use crate::batch::work::Work;
use crate::checkpoint::run_folder::RunState;
use crate::memory::peak_bytes;
use crate::record::metrics::TrainRecord;
use crate::task::{MeanOf, Words};

/// Report of one optimizer step.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct StepReport {
    /// Mean loss.
    pub loss: f64,
    /// Learning rate.
    pub lr: f64,
    /// Norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// True if padding was computed.
    pub pads: bool,
    /// True if the step was skipped.
    pub skipped: bool,
    /// Number of samples of all ranks.
    pub samples: usize,
    /// Weight of these samples, over which the loss is the mean.
    pub weight: f64,
    /// Imbalance between the ranks' shares of work, see [`crate::data::balance::spread`].
    pub spread: f64,
    /// Operations of the model on this rank.
    pub flops: f64,
    /// Work of this rank.
    pub work: Work,
}

/// Sums over the steps since the last log line.
#[derive(Debug)]
pub struct LogWindow {
    start: Instant,
    waited_before: Duration,
    /// Operations per second of a matrix product on this rank's device; 0 if unknown.
    matmul_flops: f64,
    loss: f64,
    /// Samples of all steps.
    samples: usize,
    /// Weight of the steps that were not skipped.
    weight: f64,
    tokens: usize,
    padded: usize,
    flops: f64,
    spread: f64,
    steps: usize,
    last: StepReport,
}

impl LogWindow {
    /// Starts a window. `matmul_flops`: operations per second of a matrix product on this rank's device, if known.
    pub fn start(matmul_flops: Option<f64>) -> Self {
        Self {
            start: Instant::now(),
            waited_before: Duration::ZERO,
            matmul_flops: matmul_flops.unwrap_or(0.0),
            loss: 0.0,
            samples: 0,
            weight: 0.0,
            tokens: 0,
            padded: 0,
            flops: 0.0,
            spread: 0.0,
            steps: 0,
            last: StepReport::default(),
        }
    }

    /// Adds a step.
    pub fn add(&mut self, report: &StepReport) {
        let Work { tokens, padded, .. } = report.work;
        // Fused operations compute no padding.
        let padded = if report.pads { padded } else { tokens };
        // The loss of a skipped step may not be finite.
        if !report.skipped {
            self.loss += report.loss * report.weight;
            self.weight += report.weight;
        }
        self.samples += report.samples;
        self.spread += report.spread;
        self.steps += 1;
        self.tokens += tokens;
        self.padded += padded;
        self.flops += report.flops;
        self.last = *report;
    }

    /// Returns true if there is no step that was not skipped.
    pub fn is_empty(&self) -> bool {
        self.weight <= 0.0
    }

    /// Restarts the window, to exclude the time of an evaluation; `waited` is the loader's total.
    pub fn restart(&mut self, waited: Duration) {
        *self = Self { waited_before: waited, ..Self::start(Some(self.matmul_flops)) };
    }

    /// Returns this rank's totals of the window: tokens, tokens with padding, operations, seconds spent waiting for data, peak
    /// memory in bytes and operations per second of a matrix product (0 if unknown). `device` is the model's device.
    pub fn numbers(&self, waited: Duration, device: Device) -> [f64; 6] {
        let bytes = peak_bytes(device).unwrap_or(0) as f64;
        let wait = waited.saturating_sub(self.waited_before).as_secs_f64();
        [self.tokens as f64, self.padded as f64, self.flops, wait, bytes, self.matmul_flops]
    }

    /// Returns the averages and restarts the window. An epoch has `samples` samples; `numbers` are the totals of all ranks.
    pub fn take(
        &mut self,
        state: &RunState,
        words: Words,
        samples: usize,
        waited: Duration,
        numbers: &[Vec<f64>],
    ) -> TrainRecord {
        let seconds = self.start.elapsed().as_secs_f64().max(1e-9);
        let of = |i: usize| numbers.iter().filter_map(move |of_rank| of_rank.get(i).copied());
        let [tokens, padded, flops] = [0, 1, 2].map(|i| of(i).sum::<f64>());
        let peak = of(4).fold(0.0, f64::max) as u64;
        // Unknown unless it is known for every rank.
        let matmul_flops = of(5).all(|speed| speed > 0.0).then(|| of(5).sum::<f64>());
        let record = TrainRecord {
            step: state.step,
            samples: state.samples,
            epoch: state.samples as f64 / samples as f64,
            loss: self.loss / self.weight.max(f64::MIN_POSITIVE),
            lr: self.last.lr,
            gradient_norm: self.last.gradient_norm,
            loss_scale: state.loss_scale.scale(),
            skipped: state.skipped,
            samples_per_second: self.samples as f64 / seconds,
            tokens_per_second: tokens / seconds,
            padding: 1.0 - tokens / padded.max(1.0),
            targets_per_second: (words.mean_of == MeanOf::Targets).then_some(self.weight / seconds),
            model_flops_per_second: flops / seconds,
            product_flops_per_second: matmul_flops,
            utilisation: matmul_flops.map(|product| flops / seconds / product),
            peak_memory_bytes: (peak > 0).then_some(peak),
            data_wait: of(3).fold(0.0, f64::max) / seconds,
            ranks: numbers.len(),
            rank_spread: self.spread / self.steps.max(1) as f64,
        };
        self.restart(waited);
        record
    }
}
