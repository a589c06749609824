//! Frame of a chart: caption, text alternative, axes and the cursor of the hover script.

use maud::{Markup, html};

use crate::page::number;
use crate::page::scale::Scale;

/// Width in the drawing's own units; the browser scales the drawing to the available width.
const WIDTH: f64 = 520.0;
/// Borders of the plot; the labels of the axes are outside.
pub(crate) const LEFT: f64 = 64.0;
pub(crate) const RIGHT: f64 = WIDTH - 16.0;
pub(crate) const TOP: f64 = 12.0;
const FOOT: f64 = 46.0;

/// A chart without its data.
pub(crate) struct Figure<'a> {
    pub(crate) id: &'a str,
    pub(crate) title: &'a str,
    /// Name of the x axis.
    pub(crate) x: &'a str,
    pub(crate) height: f64,
}

impl Figure<'_> {
    /// Lower border of the plot.
    pub(crate) fn bottom(&self) -> f64 {
        self.height - FOOT
    }

    /// The figure around a drawing. `description` is the text alternative; `note`, `legend` and `summary` go next to the title,
    /// above and below the drawing.
    pub(crate) fn render(&self, description: &str, [note, legend, drawing, summary]: [Markup; 4]) -> Markup {
        html! {
            figure.chart id=(self.id) {
                figcaption { (self.title) (note) }
                (legend)
                svg viewBox=(format!("0 0 {WIDTH} {}", self.height)) role="img" data-chart=(self.x)
                    aria-labelledby={ (self.id) "-title " (self.id) "-desc" } {
                    title id={ (self.id) "-title" } { (self.title) }
                    desc id={ (self.id) "-desc" } { (description) }
                    (drawing)
                    line.cursor x1="0" x2="0" y1=(TOP) y2=(self.bottom()) {}
                }
                (summary)
                output.hover aria-hidden="true" {}
            }
        }
    }

    /// The figure around a table, for a chart with few values.
    pub(crate) fn render_table(&self, table: Markup) -> Markup {
        html! { figure.chart id=(self.id) { figcaption { (self.title) } (table) } }
    }

    /// The figure without a drawing, for a chart without data.
    pub(crate) fn render_empty(&self, reason: &str) -> Markup {
        html! { figure.chart id=(self.id) { figcaption { (self.title) } p.empty { (reason) } } }
    }

    /// Grid lines with labels on the y axis.
    pub(crate) fn grid(&self, y: &Scale, ticks: &[f64], unit: &str) -> Markup {
        html! {
            @for (tick, label) in ticks.iter().zip(number::ticks(ticks)) {
                line.grid x1=(LEFT) x2=(RIGHT) y1=(pixel(y.position(*tick))) y2=(pixel(y.position(*tick))) {}
                text.y x=(LEFT - 8.0) y=(pixel(y.position(*tick) + 4.5)) text-anchor="end" { (label) (unit) }
            }
        }
    }

    /// The x axis with ticks, their labels, and its name.
    pub(crate) fn x_axis(&self, x: &Scale, ticks: &[f64]) -> Markup {
        let bottom = self.bottom();
        html! {
            line.axis x1=(LEFT) x2=(RIGHT) y1=(bottom) y2=(bottom) {}
            @for (tick, label) in ticks.iter().zip(number::ticks(ticks)) {
                line.axis x1=(pixel(x.position(*tick))) x2=(pixel(x.position(*tick))) y1=(bottom) y2=(bottom + 5.0) {}
                text.x x=(pixel(x.position(*tick))) y=(bottom + 20.0) text-anchor="middle" { (label) }
            }
            text.x x=(f64::midpoint(LEFT, RIGHT)) y=(self.height - 6.0) text-anchor="middle" { (self.x) }
        }
    }
}

/// Formats a coordinate.
pub(crate) fn pixel(position: f64) -> String {
    format!("{position:.1}")
}
