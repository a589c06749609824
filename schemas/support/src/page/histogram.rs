//! Histograms as SVG, or as a table if there are few bars.

use maud::{Markup, html};

use crate::page::figure::{Figure, LEFT, RIGHT, TOP, pixel};
use crate::page::number;
use crate::page::scale::{Scale, extent};
use crate::page::table;

const HEIGHT: f64 = 220.0;
const Y_TICKS: usize = 4;
/// More labels below the bars would overlap on a phone.
const X_TICKS: usize = 6;
/// So few bars are more compact and exact as a table.
const MAX_TABLE: usize = 5;
/// Widest bar: a short axis does not make bars wider than this.
const MAX_WIDTH: f64 = 60.0;

/// One bar.
#[derive(Debug, Clone, PartialEq)]
pub struct Bar {
    /// Lower border.
    pub from: f64,
    /// Upper border.
    pub to: f64,
    /// Text of the range: "100 to 149".
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
    /// Range of x that the chart includes, so that several charts have the same axis.
    pub x_range: Option<(f64, f64)>,
    /// Draw a line at 0, and bars on its two sides in the colours of wrong and of right answers.
    pub split_at_zero: bool,
    /// Summary of the values, shown below the chart.
    pub summary: String,
}

impl Histogram<'_> {
    /// Renders the figure.
    #[must_use]
    pub fn render(&self) -> Markup {
        let figure = Figure { id: self.id, title: self.title, x: self.x, height: HEIGHT };
        let highest = self.bars.iter().map(|bar| bar.count).max().unwrap_or(0);
        let zero = self.split_at_zero.then_some(0.0);
        let borders = self.bars.iter().flat_map(|bar| [bar.from, bar.to]).chain(zero);
        let borders = borders.chain(self.x_range.into_iter().flat_map(|(low, high)| [low, high]));
        let (1.., Some(range)) = (highest, extent(borders)) else {
            return figure.render_empty("Nothing was counted.");
        };
        let summary = html! { @if !self.summary.is_empty() { p.summary { (self.summary) } } };
        if self.bars.len() <= MAX_TABLE && !self.split_at_zero {
            return figure.render_table(html! { (self.table()) (summary) });
        }
        let bottom = figure.bottom();
        let (x, y) = (Scale::linear(range, LEFT, RIGHT), Scale::nice((0.0, highest as f64), Y_TICKS, bottom, TOP));
        let y_ticks: Vec<f64> = y.ticks(Y_TICKS).into_iter().filter(|tick| tick.fract() == 0.0).collect();
        let x_ticks: Vec<f64> = x.ticks(X_TICKS).into_iter().filter(|tick| tick.fract() == 0.0).collect();
        let middle = |bar: &Bar| f64::midpoint(x.position(bar.from), x.position(bar.to));
        let list =
            |text: &dyn Fn(&Bar) -> String, separator: &str| self.bars.iter().map(text).collect::<Vec<_>>().join(separator);
        let drawing = html! {
            g.axes { (figure.grid(&y, &y_ticks, "")) }
            g class="series colour-1" data-name=(self.counted) data-x=(list(&|bar| pixel(middle(bar)), " "))
                data-at=(list(&|bar| bar.range.clone(), "|"))
                data-value=(list(&|bar| number::count(bar.count), "|")) {
                @for bar in self.bars.iter().filter(|bar| bar.count > 0) {
                    @let top = y.position(bar.count as f64).min(bottom - 1.0);
                    @let width = (x.position(bar.to) - x.position(bar.from) - 2.0).clamp(0.5, MAX_WIDTH);
                    rect class=(self.class(bar)) x=(pixel(middle(bar) - width / 2.0)) y=(pixel(top)) width=(pixel(width))
                        height=(pixel(bottom - top)) { title { (bar.range) ": " (number::count(bar.count)) } }
                }
            }
            g.axes {
                @if self.split_at_zero {
                    line.zero x1=(pixel(x.position(0.0))) x2=(pixel(x.position(0.0))) y1=(TOP) y2=(bottom) {}
                }
                (figure.x_axis(&x, &x_ticks))
            }
        };
        figure.render(&self.description(), [html! {}, html! {}, drawing, summary])
    }

    fn class(&self, bar: &Bar) -> &'static str {
        match self.split_at_zero {
            true if bar.from < 0.0 => "bar wrong",
            true => "bar right",
            false => "bar",
        }
    }

    fn table(&self) -> Markup {
        let rows: Vec<(String, u64)> = self.bars.iter().map(|bar| (bar.range.clone(), bar.count)).collect();
        table::bars(self.title, [self.x, self.counted], &rows, rows.iter().map(|row| row.1).sum())
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

    fn render(first: i32, counts: &[u64], split_at_zero: bool) -> String {
        let bar = |(i, &count): (i32, &u64)| {
            let (from, to) = (10 * i, 10 * (i + 1));
            Bar { from: from.into(), to: to.into(), range: format!("{from} to {to}"), count }
        };
        let bars: Vec<Bar> = (first..).zip(counts).map(bar).collect();
        let summary = "mean 7".to_owned();
        let histogram = Histogram {
            id: "h",
            title: "Lengths",
            x: "tokens",
            counted: "questions",
            bars: &bars,
            x_range: None,
            split_at_zero,
            summary,
        };
        histogram.render().into_string()
    }

    #[test]
    fn every_non_empty_range_has_a_bar() {
        let text = render(0, &[3, 0, 1_000_000, 0, 0, 7], false);
        assert_eq!(text.matches("<rect").count(), 3, "{text}");
        assert!(text.contains("questions by tokens. 0 to 10: 3; 20 to 30: 1,000,000; 50 to 60: 7. mean 7"), "{text}");
        assert!(text.contains("data-value=\"3|0|1,000,000|0|0|7\""), "{text}");
        // Three in a million are still visible.
        assert!(text.contains("height=\"1.0\""), "{text}");
    }

    #[test]
    fn zero_has_a_line_and_a_tick() {
        let text = render(-3, &[5, 0, 2, 9, 1, 1, 1, 1], true);
        // 0 is after three of eight bars: 64 + 3 / 8 * 440.
        assert!(text.contains("<line class=\"zero\" x1=\"229.0\""), "{text}");
        assert!(text.contains("<text class=\"x\" x=\"229.0\" y=\"194\" text-anchor=\"middle\">0</text>"), "{text}");
        assert_eq!((text.matches("class=\"bar wrong\"").count(), text.matches("class=\"bar right\"").count()), (2, 5));
        // Even if all bars are on one side.
        assert!(render(2, &[4], true).contains("<line class=\"zero\" x1=\"64.0\""));
    }

    #[test]
    fn few_bars_are_a_table() {
        let text = render(0, &[30, 10], false);
        assert!(!text.contains("viewBox=\"0 0 520") && text.contains("75.0 %") && text.contains("mean 7"), "{text}");
        assert!(render(0, &[1; 6], false).contains("viewBox=\"0 0 520"));
    }

    #[test]
    fn an_empty_histogram_has_no_drawing() {
        for counts in [&[][..], &[0, 0]] {
            assert!(render(0, counts, false).contains("Nothing was counted"));
        }
        assert!(render(0, &[1; 200], false).matches("<text class=\"x\"").count() <= X_TICKS + 4);
    }
}
