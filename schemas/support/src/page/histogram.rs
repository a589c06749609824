//! How often values fall into ranges, as SVG.

use maud::{Markup, html};

use crate::page::line_chart::pixel;
use crate::page::number;
use crate::page::scale::Scale;

const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = WIDTH - 12.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = HEIGHT - 46.0;
const Y_TICKS: usize = 4;
/// Labels below the bars that do not run into each other on a phone.
const MOST_LABELS: usize = 7;

/// One bar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bar {
    /// What stands below it, short.
    pub label: String,
    /// What it holds, in full: "100 to 149".
    pub range: String,
    /// How many fall into it.
    pub count: u64,
}

/// A chart of bars.
#[derive(Debug, Clone)]
pub struct Histogram<'a> {
    /// Its name in the page: letters, digits and hyphens.
    pub id: &'a str,
    /// What it shows.
    pub title: &'a str,
    /// What the ranges are of, with the unit: "tokens".
    pub x: &'a str,
    /// What is counted: "questions".
    pub counted: &'a str,
    /// The bars in order.
    pub bars: &'a [Bar],
    /// What else is to be said of the values, below the chart.
    pub summary: String,
}

impl Histogram<'_> {
    /// The figure.
    #[must_use]
    pub fn render(&self) -> Markup {
        let most = self.bars.iter().map(|bar| bar.count).max().unwrap_or(0);
        if most == 0 {
            return html! { figure.chart id=(self.id) { figcaption { (self.title) } p.empty { "Nothing was counted." } } };
        }
        let y = Scale::nice((0.0, most as f64), Y_TICKS, BOTTOM, TOP);
        let ticks: Vec<f64> = y.ticks(Y_TICKS).into_iter().filter(|tick| tick.fract() == 0.0).collect();
        let width = (RIGHT - LEFT) / self.bars.len() as f64;
        let every = self.bars.len().div_ceil(MOST_LABELS);
        let middle = |place: usize| LEFT + (place as f64 + 0.5) * width;
        let list = |text: &dyn Fn(usize, &Bar) -> String, between: &str| {
            self.bars.iter().enumerate().map(|(place, bar)| text(place, bar)).collect::<Vec<_>>().join(between)
        };
        html! {
            figure.chart id=(self.id) {
                figcaption { (self.title) }
                svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" data-chart=(self.x)
                    aria-labelledby={ (self.id) "-title " (self.id) "-desc" } {
                    title id={ (self.id) "-title" } { (self.title) }
                    desc id={ (self.id) "-desc" } { (self.description()) }
                    g.axes {
                        @for (tick, label) in ticks.iter().zip(number::ticks(&ticks)) {
                            line.grid x1=(LEFT) x2=(RIGHT) y1=(pixel(y.place(*tick))) y2=(pixel(y.place(*tick))) {}
                            text.y x=(LEFT - 8.0) y=(pixel(y.place(*tick) + 4.5)) text-anchor="end" { (label) }
                        }
                    }
                    g class="series colour-1" data-name=(self.counted) data-x=(list(&|place, _| pixel(middle(place)), " "))
                        data-at=(list(&|_, bar| bar.range.clone(), "|"))
                        data-value=(list(&|_, bar| number::count(bar.count), "|")) {
                        @for (place, bar) in self.bars.iter().enumerate().filter(|(_, bar)| bar.count > 0) {
                            @let top = y.place(bar.count as f64).min(BOTTOM - 1.0);
                            rect.bar x=(pixel(LEFT + place as f64 * width + 1.0)) y=(pixel(top))
                                width=(pixel((width - 2.0).max(0.5)))
                                height=(pixel(BOTTOM - top)) { title { (bar.range) ": " (number::count(bar.count)) } }
                        }
                    }
                    g.axes {
                        line.axis x1=(LEFT) x2=(RIGHT) y1=(BOTTOM) y2=(BOTTOM) {}
                        @for (place, bar) in self.bars.iter().enumerate().step_by(every) {
                            text.x x=(pixel(middle(place))) y=(BOTTOM + 18.0) text-anchor="middle" { (bar.label) }
                        }
                        text.x x=(f64::midpoint(LEFT, RIGHT)) y=(HEIGHT - 6.0) text-anchor="middle" { (self.x) }
                    }
                    line.cursor x1="0" x2="0" y1=(TOP) y2=(BOTTOM) {}
                }
                @if !self.summary.is_empty() { p.summary { (self.summary) } }
                output.hover aria-hidden="true" {}
            }
        }
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
    fn a_bar_for_every_range_that_holds_something() {
        let text = render(&[3, 0, 1_000_000]);
        assert_eq!(text.matches("<rect").count(), 2, "{text}");
        assert!(text.contains("questions by tokens. 0 to 9: 3; 20 to 29: 1,000,000. mean 7"), "{text}");
        assert!(text.contains("data-value=\"3|0|1,000,000\""), "{text}");
        // Three in a million are still to be seen.
        assert!(text.contains("height=\"1.0\""), "{text}");
    }

    #[test]
    fn nothing_is_said_to_be_nothing() {
        assert!(render(&[]).contains("Nothing was counted") && render(&[0, 0]).contains("Nothing was counted"));
        assert!(render(&[1; 200]).matches("<text class=\"x\"").count() <= MOST_LABELS + 1);
    }
}
