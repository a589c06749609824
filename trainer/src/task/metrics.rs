//! Named metrics: their description, their values, and the one that selects the best checkpoint.

use std::collections::BTreeMap;
use std::fmt;

use serde::ser::{Serialize, Serializer};
use serde::{Deserialize, Serialize as DeriveSerialize};

/// Unit of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// From 0 to 1, shown as a percentage.
    Share,
    /// A count.
    Count,
    /// Any other number.
    Number,
    /// A number of equally likely outcomes: the exponential of an entropy.
    Outcomes,
}

/// Use of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Quality of the model. The first of these is the metric that selects the best checkpoint.
    Quality {
        /// True if a higher value is better.
        higher_is_better: bool,
    },
    /// Quality reached by a trivial method, for comparison.
    Baseline,
    /// Number of examples that the other metrics are computed from.
    Total,
}

/// Description of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetricInfo {
    /// Name in files.
    pub name: &'static str,
    /// Human-readable name.
    pub label: &'static str,
    /// Unit of the value.
    pub unit: Unit,
    /// Use of the metric.
    pub role: Role,
    /// Meaning in a few words.
    pub meaning: &'static str,
}

impl MetricInfo {
    /// Formats a value with its unit.
    pub fn format(&self, value: f64) -> String {
        match self.unit {
            Unit::Share => format!("{:.2} %", 100.0 * value),
            Unit::Count => format!("{value:.0}"),
            Unit::Number => format!("{value:.4}"),
            Unit::Outcomes => format!("{value:.2}"),
        }
    }
}

/// Values of a task's metrics.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metrics {
    values: Vec<(&'static MetricInfo, f64)>,
    /// Examples that the values are computed from, as text: "441 of 962 questions".
    pub examples: String,
    /// The most important values in one line, short enough for a terminal.
    pub summary: String,
}

impl Metrics {
    /// Creates metrics from descriptions and values in the same order.
    pub fn new(infos: impl IntoIterator<Item = &'static MetricInfo>, values: &[f64]) -> Self {
        infos.into_iter().zip(values.iter().copied()).collect()
    }

    /// Adds the human-readable texts.
    #[must_use]
    pub fn described(self, examples: String, summary: String) -> Self {
        Self { examples, summary, ..self }
    }

    /// Returns the value of a metric, if there is one of this name.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.values.iter().find(|(info, _)| info.name == name).map(|(_, value)| *value)
    }

    /// Iterates over descriptions and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&'static MetricInfo, f64)> {
        self.values.iter().copied()
    }
}

impl FromIterator<(&'static MetricInfo, f64)> for Metrics {
    fn from_iter<I: IntoIterator<Item = (&'static MetricInfo, f64)>>(values: I) -> Self {
        Self { values: values.into_iter().collect(), ..Self::default() }
    }
}

impl Serialize for Metrics {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let number = |unit, value: f64| match unit {
            Unit::Count => serde_json::Number::from(value as u64).into(),
            Unit::Share | Unit::Number | Unit::Outcomes => serde_json::Value::from(value),
        };
        serializer.collect_map(self.iter().map(|(info, value)| (info.name, number(info.unit, value))))
    }
}

/// Sums over the examples of an evaluation, from which metrics are computed. Those of several ranks are added, so that metrics do not depend
/// on which rank has which example.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Totals {
    /// Sums, in the order of the task.
    pub sums: Vec<f64>,
    /// Counts of what the data defines, such as classes and groups of examples.
    pub counts: BTreeMap<String, Vec<u64>>,
}

impl Totals {
    /// The sum with this index, or 0.
    pub fn sum(&self, index: usize) -> f64 {
        self.sums.get(index).copied().unwrap_or(0.0)
    }

    /// Adds other totals.
    pub fn add(&mut self, sums: &[f64], counts: BTreeMap<String, Vec<u64>>) {
        self.sums.resize(self.sums.len().max(sums.len()), 0.0);
        self.sums.iter_mut().zip(sums).for_each(|(sum, other)| *sum += other);
        for (name, others) in counts {
            let own = self.counts.entry(name).or_default();
            own.resize(own.len().max(others.len()), 0);
            own.iter_mut().zip(others).for_each(|(count, other)| *count += other);
        }
    }
}

impl From<Vec<f64>> for Totals {
    fn from(sums: Vec<f64>) -> Self {
        Self { sums, counts: BTreeMap::new() }
    }
}

/// Outcome of an evaluation.
#[derive(Debug, Clone, Default, PartialEq, DeriveSerialize)]
pub struct Evaluation {
    /// Metrics of the task.
    #[serde(flatten)]
    pub metrics: Metrics,
    /// Duration in seconds.
    pub seconds: f64,
}

impl fmt::Display for Evaluation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { metrics, seconds } = self;
        for (line, (info, value)) in metrics.iter().filter(|(info, _)| info.role != Role::Total).enumerate() {
            let MetricInfo { label, meaning, .. } = info;
            let value = info.format(value);
            match line {
                0 => writeln!(f, "{label:<20}  {value:>8}   {}, {seconds:.1} s", metrics.examples)?,
                _ => writeln!(f, "{label:<20}  {value:>8}   {meaning}")?,
            }
        }
        Ok(())
    }
}

/// A metric that selects the best checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Selection {
    /// Name of the metric.
    pub metric: &'static str,
    /// True if a higher value is better.
    pub higher_is_better: bool,
}

impl Selection {
    /// Selects the first metric of quality.
    pub fn of(infos: &[&'static MetricInfo]) -> Option<Self> {
        infos.iter().find_map(|info| match info.role {
            Role::Quality { higher_is_better } => Some(Self { metric: info.name, higher_is_better }),
            Role::Baseline | Role::Total => None,
        })
    }

    /// Returns true if `value` is at least as good as `target`.
    pub fn reaches(&self, value: f64, target: f64) -> bool {
        if self.higher_is_better { value >= target } else { value <= target }
    }

    /// Returns true if `value` is better than `best`.
    pub fn improves(&self, value: f64, best: f64) -> bool {
        if self.higher_is_better { value > best } else { value < best }
    }
}

/// Value of a named metric, as stored in checkpoints.
#[derive(Debug, Clone, PartialEq, DeriveSerialize, Deserialize)]
pub struct Measured {
    /// Name of the metric.
    pub metric: String,
    /// Value of the metric.
    pub value: f64,
}
