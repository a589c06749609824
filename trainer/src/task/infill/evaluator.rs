//! Metrics of blank infilling: loss per token and perplexity, of all samples and by objective.

use arrow_array::RecordBatch;
use glm_schemas::document::DocumentView;

use super::super::metrics::{MetricInfo, Metrics, Role, Totals, Unit};
use super::super::{Answer, Evaluator, RowError, Scores};
use super::Infill;

const QUALITY: Role = Role::Quality { higher_is_better: false };
/// Largest exponent of a perplexity, as published.
const MOST: f64 = 20.0;

const fn number(name: &'static str, label: &'static str, meaning: &'static str) -> MetricInfo {
    MetricInfo { name, label, unit: Unit::Number, role: QUALITY, meaning }
}

const fn total(name: &'static str, label: &'static str) -> MetricInfo {
    MetricInfo { name, label, unit: Unit::Count, role: Role::Total, meaning: label }
}

/// Metrics of blank infilling. Those of an objective are left out where no sample has it.
pub const METRICS: [MetricInfo; 7] = [
    number("loss", "loss per token", "cross entropy, natural logarithm"),
    MetricInfo { unit: Unit::Outcomes, ..number("perplexity", "perplexity", "exponential of the loss per token") },
    number("loss_token", "loss of short spans", "of samples with short spans"),
    number("loss_sentence", "loss of sentences", "of samples with sentences"),
    number("loss_document", "loss of long spans", "of samples with a long span or the end of the text"),
    total("evaluated_samples", "samples"),
    total("target_tokens", "predicted tokens"),
];

/// Sums over the samples of an evaluation.
#[derive(Debug)]
pub(super) struct InfillEvaluator {
    task: Infill,
    samples: usize,
    /// Loss and targets by [level](super::objective::Objective::level).
    sums: [[f64; 2]; 3],
}

impl InfillEvaluator {
    pub(super) fn new(task: Infill) -> Self {
        Self { task, samples: 0, sums: [[0.0; 2]; 3] }
    }
}

impl Evaluator for InfillEvaluator {
    fn add(&mut self, rows: &RecordBatch, row: usize, key: u64, scores: Scores<'_>) -> Result<Option<Answer>, RowError> {
        // The draws are a function of the key: they need not be kept.
        let sample = self.task.sample(&DocumentView::try_new(rows)?, row, key);
        let [loss, targets] = &mut self.sums[sample.objective.level()];
        *loss -= scores.log_probs.iter().sum::<f64>();
        *targets += sample.size(&self.task).work.targets as f64;
        self.samples += 1;
        Ok(None)
    }

    fn totals(&self) -> Totals {
        std::iter::once(self.samples as f64).chain(self.sums.into_iter().flatten()).collect::<Vec<_>>().into()
    }

    fn metrics(&self, totals: &Totals) -> Metrics {
        let total = |i: usize| totals.sum(i);
        let sums: [(f64, f64); 3] = [0, 1, 2].map(|level| (total(1 + 2 * level), total(2 + 2 * level)));
        let (loss, targets) = sums.iter().fold((0.0, 0.0), |all, of| (all.0 + of.0, all.1 + of.1));
        let mean = |(loss, targets): (f64, f64)| (targets > 0.0).then(|| loss / targets);
        let all = mean((loss, targets)).unwrap_or(0.0);
        let perplexity = all.min(MOST).exp();
        let by_level = sums.map(mean);
        let values = [Some(all), Some(perplexity), by_level[0], by_level[1], by_level[2], Some(total(0)), Some(targets)];
        let known = METRICS.iter().zip(values).filter_map(|(info, value)| Some((info, value?)));
        let examples = format!("{targets:.0} tokens of {:.0} samples", total(0));
        let summary = format!("loss {all:.4}, perplexity {perplexity:.2}");
        known.collect::<Metrics>().described(examples, summary)
    }
}
