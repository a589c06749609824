//! Histograms as SVG.

use maud::{Markup, html};

use crate::page::figure::{Figure, LEFT, RIGHT, TOP, pixel};
use crate::page::number;
use crate::page::scale::Scale;

const HEIGHT: f64 = 220.0;
const Y_TICKS: usize = 4;
/// More labels below the bars would overlap on a phone.
const MAX_LABELS: usize = 7;

/// One bar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bar {
    /// Short label below the bar.
    pub label: String,
    /// Full text of the range: "100 to 149".
    pub range: String,
    /// Number of values in the range.
    pub count: u64,
}

/// A histogram.
#[derive(Debug, Clone)]
pub struct Histogram<'a> {
    /// Element id: letters, digits and hyphens.
    pub id: &'a str,
    /// Title of the chart.
    pub title: &'a str,
    /// Name of the x axis, a unit: "tokens".
    pub x: &'a str,
    /// Name of the counted things: "questions".
    pub counted: &'a str,
    /// Bars in order.
    pub bars: &'a [Bar],
    /// Summary of the values, shown below the chart.
    pub summary: String,
}

impl Histogram<'_> {
    /// Renders the figure.
    #[must_use]
    pub fn render(&self) -> Markup {
        let figure = Figure { id: self.id, title: self.title, x: self.x, height: HEIGHT };
        let highest = self.bars.iter().map(|bar| bar.count).max().unwrap_or(0);
        if highest == 0 {
            return figure.render_empty("Nothing was counted.");
        }
        let bottom = figure.bottom();
        let y = Scale::nice((0.0, highest as f64), Y_TICKS, bottom, TOP);
        let ticks: Vec<f64> = y.ticks(Y_TICKS).into_iter().filter(|tick| tick.fract() == 0.0).collect();
        let width = (RIGHT - LEFT) / self.bars.len() as f64;
        let every = self.bars.len().div_ceil(MAX_LABELS);
        let middle = |index: usize| LEFT + (index as f64 + 0.5) * width;
        let list = |text: &dyn Fn(usize, &Bar) -> String, separator: &str| {
            self.bars.iter().enumerate().map(|(index, bar)| text(index, bar)).collect::<Vec<_>>().join(separator)
        };
        let drawing = html! {
            g.axes { (figure.grid(&y, &ticks, "")) }
            g class="series colour-1" data-name=(self.counted) data-x=(list(&|index, _| pixel(middle(index)), " "))
                data-at=(list(&|_, bar| bar.range.clone(), "|"))
                data-value=(list(&|_, bar| number::count(bar.count), "|")) {
                @for (index, bar) in self.bars.iter().enumerate().filter(|(_, bar)| bar.count > 0) {
                    @let top = y.position(bar.count as f64).min(bottom - 1.0);
                    rect.bar x=(pixel(LEFT + index as f64 * width + 1.0)) y=(pixel(top))
                        width=(pixel((width - 2.0).max(0.5)))
                        height=(pixel(bottom - top)) { title { (bar.range) ": " (number::count(bar.count)) } }
                }
            }
            g.axes {
                (figure.x_axis(html! {
                    @for (index, bar) in self.bars.iter().enumerate().step_by(every) {
                        text.x x=(pixel(middle(index))) y=(bottom + 18.0) text-anchor="middle" { (bar.label) }
                    }
                }))
            }
        };
        let summary = html! { @if !self.summary.is_empty() { p.summary { (self.summary) } } };
        figure.render(&self.description(), [html! {}, html! {}, drawing, summary])
    }

    fn description(&self) -> String {
        let bars = self.bars.iter().filter(|bar| bar.count > 0);
        let bars: Vec<String> = bars.map(|bar| format!("{}: {}", bar.range, number::count(bar.count))).collect();
        format!("{} by {}. {}. {}", self.counted, self.x, bars.join("; "), self.summary).trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(counts: &[u64]) -> String {
        let bar = |(i, &count): (usize, &u64)| Bar {
            label: (10 * i).to_string(),
            range: format!("{} to {}", 10 * i, 10 * i + 9),
            count,
        };
        let bars: Vec<Bar> = counts.iter().enumerate().map(bar).collect();
        let summary = "mean 7".to_owned();
        Histogram { id: "h", title: "Lengths", x: "tokens", counted: "questions", bars: &bars, summary }.render().into_string()
    }

    #[test]
    fn every_non_empty_range_has_a_bar() {
        let text = render(&[3, 0, 1_000_000]);
        assert_eq!(text.matches("<rect").count(), 2, "{text}");
        assert!(text.contains("questions by tokens. 0 to 9: 3; 20 to 29: 1,000,000. mean 7"), "{text}");
        assert!(text.contains("data-value=\"3|0|1,000,000\""), "{text}");
        // Three in a million are still visible.
        assert!(text.contains("height=\"1.0\""), "{text}");
    }

    #[test]
    fn an_empty_histogram_has_no_drawing() {
        assert!(render(&[]).contains("Nothing was counted") && render(&[0, 0]).contains("Nothing was counted"));
        assert!(render(&[1; 200]).matches("<text class=\"x\"").count() <= MAX_LABELS + 1);
    }
}
