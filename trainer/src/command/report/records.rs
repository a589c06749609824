//! Lenient parser of `metrics.jsonl`: the last line may be truncated by a killed run, and other versions may write other
//! fields.

use std::collections::BTreeMap;

use glm_support::page::series::Point;
use serde::Deserialize;

use crate::task::metrics::Selection;

/// Record of training or of an evaluation. Its fields are those that [`crate::record::metrics`] writes.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Entry {
    pub(super) step: u64,
    pub(super) samples: u64,
    #[serde(flatten)]
    fields: BTreeMap<String, serde_json::Value>,
}

impl Entry {
    /// Value of a field, if it is present and finite.
    pub(super) fn value(&self, name: &str) -> Option<f64> {
        self.fields.get(name)?.as_f64()
    }
}

/// Record of a skipped step or a spike.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Anomaly {
    pub(super) step: u64,
    pub(super) skipped_in_a_row: Option<u64>,
    pub(super) loss: Option<f64>,
    pub(super) gradient_norm: Option<f64>,
    pub(super) quantity: Option<String>,
    pub(super) zscore: Option<f64>,
    pub(super) skipped: bool,
    pub(super) example_ids: Vec<String>,
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Line {
    Train(Entry),
    Eval(Entry),
    Skipped(Anomaly),
    Spike(Anomaly),
    #[serde(other)]
    Other,
}

/// All records by kind.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub(super) train: Vec<Entry>,
    pub(super) evals: Vec<Entry>,
    pub(super) skipped: Vec<Anomaly>,
    pub(super) spikes: Vec<Anomaly>,
    /// Number of lines that could not be read.
    pub(super) damaged: usize,
}

impl Records {
    pub(super) fn parse(bytes: &[u8]) -> Self {
        let mut records = Self::default();
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice(line) {
                Ok(Line::Train(train)) => records.train.push(train),
                Ok(Line::Eval(eval)) => records.evals.push(eval),
                Ok(Line::Skipped(trouble)) => records.skipped.push(trouble),
                Ok(Line::Spike(trouble)) => records.spikes.push(trouble),
                Ok(Line::Other) => {}
                Err(_) => records.damaged += 1,
            }
        }
        records
    }

    /// Returns the number of samples used.
    pub(super) fn samples(&self) -> u64 {
        let train = self.train.last().map_or(0, |train| train.samples);
        train.max(self.evals.last().map_or(0, |eval| eval.samples))
    }

    /// Returns the number of optimizer steps.
    pub(super) fn step(&self) -> u64 {
        let train = self.train.last().map_or(0, |train| train.step);
        train.max(self.evals.last().map_or(0, |eval| eval.step))
    }

    /// Returns the evaluations that used as many samples as the first one, whose number is the metric `count`: the one at the end of a run
    /// may use more.
    pub(super) fn comparable(&self, count: &str) -> impl Iterator<Item = &Entry> {
        let samples = self.evals.first().and_then(|eval| eval.value(count));
        self.evals.iter().filter(move |eval| eval.value(count) == samples)
    }

    /// Returns the evaluation with the best value of the metric that selects checkpoints, among those that can be compared; the
    /// first one of several equal ones.
    pub(super) fn best(&self, selection: Selection, count: &str) -> Option<&Entry> {
        let improves = |eval: &Entry, best: &Entry| match (eval.value(selection.metric), best.value(selection.metric)) {
            (Some(value), Some(best)) => selection.improves(value, best),
            (value, _) => value.is_some(),
        };
        self.comparable(count).reduce(|best, eval| if improves(eval, best) { eval } else { best })
    }

    /// Returns the training time in seconds, computed from the samples and the speed of each record.
    pub(super) fn training_seconds(&self) -> f64 {
        let mut before = 0;
        let mut seconds = 0.0;
        for train in &self.train {
            let samples = train.samples.saturating_sub(before);
            before = train.samples;
            if let Some(speed) = train.value("samples_per_second").filter(|speed| *speed > 0.0) {
                seconds += samples as f64 / speed;
            }
        }
        seconds
    }

    /// Returns the mean of a field over the training records, if there are any with it.
    pub(super) fn mean(&self, name: &str) -> Option<f64> {
        let values: Vec<f64> = self.train.iter().filter_map(|train| train.value(name)).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    }

    /// Returns a field of the training records over the steps, with gaps where it is missing.
    pub(super) fn line(&self, name: &str) -> Vec<Point> {
        let point = |train: &Entry| (train.step as f64, train.value(name).unwrap_or(f64::NAN));
        let points: Vec<Point> = self.train.iter().map(point).collect();
        // A field that is always missing has no points.
        if points.iter().all(|point| point.1.is_nan()) { Vec::new() } else { points }
    }

    /// Returns a metric over the evaluations that can be compared, see [`Self::comparable`].
    pub(super) fn metric_line(&self, name: &str, count: &str) -> Vec<Point> {
        self.comparable(count).filter_map(|eval| Some((eval.step as f64, eval.value(name)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truncated_and_unknown_lines_are_skipped() {
        let text = br#"{"kind":"train","step":10,"samples":80,"loss":2.5,"samples_per_second":40.0,"new":[1]}
{"kind":"train","step":20,"samples":160,"loss":null,"samples_per_second":20.0}
{"kind":"eval","step":20,"samples":160,"accuracy":0.25,"hits":1,"questions":4}
{"kind":"eval","step":30,"samples":240,"accuracy":0.25}
{"kind":"skipped","step":20,"loss":null,"example_ids":["a"]}
{"kind":"weather","step":20}
{"kind":"train","st"#;
        let records = Records::parse(text);
        let selection = Selection { metric: "accuracy", higher_is_better: true };
        assert_eq!((records.train.len(), records.evals.len(), records.skipped.len(), records.damaged), (2, 2, 1, 1));
        assert_eq!(
            (records.samples(), records.step(), records.best(selection, "questions").map(|eval| eval.step)),
            (240, 30, Some(20))
        );
        // The evaluation on four questions cannot be compared with one on an unknown number.
        assert_eq!(records.metric_line("accuracy", "questions"), [(20.0, 0.25)]);
        assert!((records.training_seconds() - 6.0).abs() < 1e-12);
        let loss = records.line("loss");
        assert!(loss[0] == (10.0, 2.5) && loss[1].1.is_nan());
        assert!(records.line("data_wait").is_empty());
        assert_eq!((records.mean("samples_per_second"), records.mean("data_wait")), (Some(30.0), None));
    }
}
