//! Charts of a run's metrics over its steps.

use glm_support::page::line_chart::{LineChart, Series, Shape};
use glm_support::page::table::folded;
use maud::{Markup, html};

use super::Known;
use super::records::Records;
use crate::task::MeanOf;
use crate::task::metrics::{Role, Unit};

const NOT_YET: &str = "No step has been logged yet.";

/// Quantity of training, drawn over the steps.
struct Quantity {
    id: &'static str,
    title: &'static str,
    name: &'static str,
    unit: &'static str,
    log: bool,
    shape: Shape,
    /// Field of the training records, and the factor to the unit of the chart.
    field: (&'static str, f64),
    note: &'static str,
}

const LOSS_OF_QUESTIONS: Quantity = Quantity {
    note: "Cross entropy over the choices of a question. Guessing among n choices has ln n: 1.39 for 4, 2.30 for 10.",
    ..quantity("loss", "Training loss per question", "loss", ("loss", 1.0))
};
const LOSS_OF_TOKENS: Quantity = Quantity {
    note: "Cross entropy over the vocabulary. Guessing among n tokens has ln n: 10.3 for 30,522.",
    ..quantity("loss", "Training loss per predicted token", "loss", ("loss", 1.0))
};

/// Quantities of learning.
const LEARNING: [Quantity; 2] = [
    Quantity { shape: Shape::Line, ..quantity("learning-rate", "Learning rate", "learning rate", ("lr", 1.0)) },
    Quantity { log: true, ..quantity("gradient-norm", "Gradient norm before clipping", "norm", ("gradient_norm", 1.0)) },
];

/// Quantities of speed and memory.
const COST: [Quantity; 10] = [
    quantity("questions", "Questions per second", "questions/s", ("samples_per_second", 1.0)),
    quantity("samples", "Samples per second", "samples/s", ("samples_per_second", 1.0)),
    quantity("targets", "Predicted tokens per second", "tokens/s", ("targets_per_second", 1.0)),
    quantity("tokens", "Tokens per second, excluding padding", "tokens/s", ("tokens_per_second", 1.0)),
    Quantity {
        unit: " %",
        note: "Operations of the model per second, relative to those of a matrix product alone, measured when the program started.",
        ..quantity("utilization", "Model FLOP utilization (MFU)", "MFU", ("utilisation", 100.0))
    },
    Quantity { unit: " %", ..quantity("data-wait", "Time spent waiting for data", "waiting", ("data_wait", 100.0)) },
    Quantity {
        shape: Shape::Line,
        note: "The highest value so far, so the line never falls. On a CPU it is the resident memory of the process with \
               all that the system and the allocator keep for reuse: libtorch, pages of the shards, buffers of the largest batch and \
               of evaluations. On a GPU it is the memory of tensors.",
        ..quantity("memory", "Peak memory, GB", "GB", ("peak_memory_bytes", 1e-9))
    },
    Quantity { unit: " %", ..quantity("padding", "Padding", "padding", ("padding", 100.0)) },
    Quantity { log: true, shape: Shape::Line, ..quantity("loss-scale", "Loss scale", "loss scale", ("loss_scale", 1.0)) },
    Quantity {
        unit: " %",
        ..quantity("spread", "Excess work of the busiest rank over the mean", "above the mean", ("rank_spread", 100.0))
    },
];

const fn quantity(id: &'static str, title: &'static str, name: &'static str, field: (&'static str, f64)) -> Quantity {
    Quantity { id, title, name, unit: "", log: false, shape: Shape::Smoothed, field, note: "" }
}

impl Known {
    pub(super) fn charts(&self) -> Markup {
        let records = &self.records;
        let words = self.words();
        let loss = if words.mean_of == MeanOf::Targets { &LOSS_OF_TOKENS } else { &LOSS_OF_QUESTIONS };
        // One chart of speed: samples in the task's word, with tokens where these are what the loss is a mean of.
        let is_speed_of_task = |quantity: &Quantity| match quantity.field.0 {
            "samples_per_second" => quantity.id == words.samples,
            "tokens_per_second" => words.mean_of == MeanOf::Targets,
            _ => true,
        };
        let shown = COST.iter().filter(|quantity| is_speed_of_task(quantity) && is_worth_a_chart(quantity, records));
        let cost: Vec<Markup> = shown.map(|quantity| self.chart(quantity)).collect();
        html! {
            @if records.train.len() >= 20 {
                p.note { "Faint lines are the logged values, bold lines are smoothed; dotted vertical lines mark "
                    "skipped steps, spikes and restarts. Hover over a chart to see its values." }
            }
            div.charts {
                (self.chart(loss))
                @if let Some(chart) = self.quality_chart() { (chart) }
                @for quantity in &LEARNING { (self.chart(quantity)) }
            }
            @if !cost.is_empty() {
                (folded("Speed and memory", &html! { div.charts { @for chart in &cost { (chart) } } }))
            }
        }
    }

    /// Metrics of quality with the unit of the one that selects checkpoints, and their baselines.
    fn quality_chart(&self) -> Option<Markup> {
        let infos = self.metrics();
        let first = self.selected()?;
        let (factor, unit) = if first.unit == Unit::Share { (100.0, " %") } else { (1.0, "") };
        let series = infos.iter().filter(|info| info.unit == first.unit && info.role != Role::Total).map(|info| {
            let points = self
                .records
                .metric_line(info.name, self.words().evaluated)
                .into_iter()
                .map(|(step, value)| (step, factor * value));
            let shape = if info.role == Role::Baseline { Shape::Reference } else { Shape::Line };
            Series { name: info.label.to_owned(), points: points.collect(), shape }
        });
        let series = series.filter(|series| !series.points.is_empty()).collect();
        let title = match self.records.comparable(self.words().evaluated).next() {
            Some(eval) => format!("Quality on {}", self.evaluated_on(eval)),
            None => "Quality".to_owned(),
        };
        let (log, marks, x_range) = (false, Vec::new(), self.steps());
        let chart = LineChart {
            id: "quality",
            title: &title,
            x: "step",
            unit,
            log,
            x_range,
            series,
            marks,
            note: "",
            empty: "No evaluation yet.",
        };
        Some(chart.render())
    }

    fn chart(&self, quantity: &Quantity) -> Markup {
        let Quantity { id, title, name, unit, log, shape, field: (field, factor), note } = *quantity;
        let points = self.records.line(field).into_iter().map(|(step, value)| (step, factor * value)).collect();
        let series = vec![Series { name: name.to_owned(), points, shape }];
        let (marks, x_range) = (self.marks(), self.steps());
        LineChart { id, title, x: "step", unit, log, x_range, series, marks, note, empty: NOT_YET }.render()
    }

    /// Range of the steps of the run, which all charts show.
    fn steps(&self) -> Option<(f64, f64)> {
        Some((0.0, self.records.step() as f64))
    }

    /// Returns the steps with events that may explain the shape of a line.
    fn marks(&self) -> Vec<(f64, String)> {
        let Records { skipped, spikes, .. } = &self.records;
        let skipped = skipped.iter().map(|at| (at.step as f64, format!("step {}: skipped", at.step)));
        let spikes = spikes.iter().map(|at| (at.step as f64, format!("step {}: spike", at.step)));
        let goes_on = self.sessions.iter().skip(1).map(|at| (at.step as f64, format!("step {}: resumed", at.step)));
        goes_on.chain(skipped).chain(spikes).collect()
    }
}

/// Returns true if the quantity is informative.
fn is_worth_a_chart(quantity: &Quantity, records: &Records) -> bool {
    let values = || records.train.iter().filter_map(|train| train.value(quantity.field.0));
    match quantity.id {
        "padding" => values().any(|share| share > 0.0),
        "loss-scale" => values().any(|scale| scale > 1.0),
        "spread" => records.train.iter().any(|train| train.value("ranks").is_some_and(|ranks| ranks > 1.0)),
        _ => values().next().is_some(),
    }
}
