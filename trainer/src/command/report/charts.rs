//! Charts of a run's metrics over its steps.

use glm_support::page::line_chart::{LineChart, Series, Shape};
use maud::{Markup, html};

use super::Known;
use super::records::Records;
use crate::task::metrics::{Role, Unit};

const NOT_YET: &str = "No step has been logged yet.";

/// Quantity of training, drawn over the steps.
struct Quantity {
    id: &'static str,
    title: &'static str,
    name: &'static str,
    unit: &'static str,
    log: bool,
    from_zero: bool,
    shape: Shape,
    /// Field of the training records, and the factor to the unit of the chart.
    field: (&'static str, f64),
}

const QUANTITIES: [Quantity; 11] = [
    Quantity { from_zero: false, ..quantity("loss", "Loss per question", "loss", ("loss", 1.0)) },
    Quantity { shape: Shape::Line, ..quantity("learning-rate", "Learning rate", "learning rate", ("lr", 1.0)) },
    Quantity { log: true, ..quantity("gradient-norm", "Gradient norm before clipping", "norm", ("gradient_norm", 1.0)) },
    quantity("questions", "Questions per second", "questions/s", ("samples_per_second", 1.0)),
    quantity("tokens", "Tokens per second, excluding padding", "tokens/s", ("tokens_per_second", 1.0)),
    Quantity { unit: " %", ..quantity("data-wait", "Time spent waiting for data", "waiting", ("data_wait", 100.0)) },
    quantity("flops", "Operations of the model, TFLOP/s", "TFLOP/s", ("model_flops_per_second", 1e-12)),
    Quantity { shape: Shape::Line, ..quantity("memory", "Peak memory, GB", "GB", ("peak_memory_bytes", 1e-9)) },
    Quantity { unit: " %", ..quantity("padding", "Padding", "padding", ("padding", 100.0)) },
    Quantity { log: true, shape: Shape::Line, ..quantity("loss-scale", "Loss scale", "loss scale", ("loss_scale", 1.0)) },
    Quantity {
        unit: " %",
        ..quantity("spread", "Excess work of the busiest rank over the mean", "above the mean", ("rank_spread", 100.0))
    },
];

const fn quantity(id: &'static str, title: &'static str, name: &'static str, field: (&'static str, f64)) -> Quantity {
    Quantity { id, title, name, unit: "", log: false, from_zero: true, shape: Shape::Smoothed, field }
}

impl Known {
    pub(super) fn charts(&self) -> Markup {
        let records = &self.records;
        let [first, rest @ ..] = &QUANTITIES;
        html! {
            @if records.train.len() >= 20 {
                p.note { "Faint lines are the logged values, bold lines are smoothed; dotted vertical lines mark "
                    "skipped steps, spikes and restarts. Hover over a chart to see its values." }
            }
            div.charts {
                (self.chart(first))
                @if let Some(chart) = self.quality_chart() { (chart) }
                @for quantity in rest.iter().filter(|quantity| is_worth_a_chart(quantity, records)) { (self.chart(quantity)) }
            }
        }
    }

    /// Metrics of quality with the unit of the one that selects checkpoints, and their baselines.
    fn quality_chart(&self) -> Option<Markup> {
        let infos = self.metrics();
        let first = self.selected()?;
        let (factor, unit) = if first.unit == Unit::Share { (100.0, " %") } else { (1.0, "") };
        let series = infos.iter().filter(|info| info.unit == first.unit && info.role != Role::Total).map(|info| {
            let points = self.records.metric_line(info.name).into_iter().map(|(step, value)| (step, factor * value));
            let shape = if info.role == Role::Baseline { Shape::Reference } else { Shape::Line };
            Series { name: info.label.to_owned(), points: points.collect(), shape }
        });
        let series = series.filter(|series| !series.points.is_empty()).collect();
        let (id, x, title) = ("quality", "step", "Quality on the validation split");
        let (log, from_zero, marks, empty) = (false, true, Vec::new(), "No evaluation yet.");
        Some(LineChart { id, title, x, unit, log, from_zero, series, marks, empty }.render())
    }

    fn chart(&self, quantity: &Quantity) -> Markup {
        let Quantity { id, title, name, unit, log, from_zero, shape, field: (field, factor) } = *quantity;
        let points = self.records.line(field).into_iter().map(|(step, value)| (step, factor * value)).collect();
        let series = vec![Series { name: name.to_owned(), points, shape }];
        LineChart { id, title, x: "step", unit, log, from_zero, series, marks: self.marks(), empty: NOT_YET }.render()
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

/// Returns true if the quantity is informative. Loss, learning rate, norm and speed always have a chart.
fn is_worth_a_chart(quantity: &Quantity, records: &Records) -> bool {
    let values = || records.train.iter().filter_map(|train| train.value(quantity.field.0));
    match quantity.id {
        "padding" => values().any(|share| share > 0.0),
        "loss-scale" => values().any(|scale| scale > 1.0),
        "spread" => records.train.iter().any(|train| train.value("ranks").is_some_and(|ranks| ranks > 1.0)),
        "flops" | "memory" | "data-wait" => values().next().is_some(),
        _ => true,
    }
}
