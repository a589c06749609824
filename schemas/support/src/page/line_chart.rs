//! Lines over an axis, as SVG.

use std::fmt::Write as _;

use maud::{Markup, html};

use crate::page::number;
use crate::page::scale::{Scale, extent, shows};
use crate::page::series::{Point, smoothed, thinned};

/// The drawing's own units; the browser scales it to the width that there is.
const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 250.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = WIDTH - 16.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = HEIGHT - 46.0;
/// Ticks that do not run into each other on a phone, where letters are larger beside the drawing.
const X_TICKS: usize = 4;
const Y_TICKS: usize = 5;
/// More points than the drawing has pixels on a large screen show nothing more.
const MOST_POINTS: usize = 600;
/// With more dots than that a line is hidden by them.
const MOST_DOTS: usize = 60;
/// More lines would be a wall.
const MOST_MARKS: usize = 40;
/// Colours in the style.
const COLOURS: usize = 4;

/// How a series is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Every value faint, and a smoothed line over them if they are many.
    Smoothed,
    /// A line through all values.
    Line,
    /// A dashed line: something to compare with.
    Reference,
}

/// One line of a chart.
#[derive(Debug, Clone)]
pub struct Series {
    /// What it is called in the legend and under the pointer.
    pub name: String,
    /// Its points in the order of x. Values that are no numbers leave a gap.
    pub points: Vec<Point>,
    /// How it is drawn.
    pub shape: Shape,
}

/// A chart of lines.
#[derive(Debug, Clone)]
pub struct LineChart<'a> {
    /// Its name in the page, for what refers to it: letters, digits and hyphens.
    pub id: &'a str,
    /// What it shows.
    pub title: &'a str,
    /// What x counts, in one word: "step".
    pub x: &'a str,
    /// What follows a value: " %", or nothing.
    pub unit: &'a str,
    /// Whether the axis is logarithmic; values that are not above 0 are left out then.
    pub log: bool,
    /// Whether the axis begins at 0.
    pub from_zero: bool,
    /// The lines.
    pub series: Vec<Series>,
    /// Places on the x axis with a line from top to bottom, and what is there.
    pub marks: Vec<(f64, String)>,
    /// What is said where there is nothing to draw.
    pub empty: &'a str,
}

impl LineChart<'_> {
    /// The figure.
    #[must_use]
    pub fn render(&self) -> Markup {
        let visible = |value: f64| shows(value) && (!self.log || value > 0.0);
        let points = || self.series.iter().flat_map(|series| &series.points).filter(|(x, value)| shows(*x) && visible(*value));
        let (Some(x), Some(y)) = (extent(points().map(|point| point.0)), extent(points().map(|point| point.1))) else {
            return html! {
                figure.chart id=(self.id) {
                    figcaption { (self.title) }
                    p.empty { (self.empty) }
                }
            };
        };
        let x = Scale::linear(x, LEFT, RIGHT);
        let y = match (self.log, self.from_zero) {
            (true, _) => Scale::logarithmic(y, BOTTOM, TOP),
            (false, true) => Scale::nice((y.0.min(0.0), y.1.max(0.0)), Y_TICKS, BOTTOM, TOP),
            (false, false) => Scale::nice(y, Y_TICKS, BOTTOM, TOP),
        };
        html! {
            figure.chart id=(self.id) {
                figcaption { (self.title) @if self.log { span.note { " (logarithmic)" } } }
                (self.legend())
                svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" data-chart=(self.x)
                    aria-labelledby={ (self.id) "-title " (self.id) "-desc" } {
                    title id={ (self.id) "-title" } { (self.title) }
                    desc id={ (self.id) "-desc" } { (self.description()) }
                    (self.axes(&x, &y))
                    @for (at, what) in self.marks.iter().filter(|mark| inside(&x, mark.0)).take(MOST_MARKS) {
                        line.mark x1=(pixel(x.place(*at))) x2=(pixel(x.place(*at))) y1=(TOP) y2=(BOTTOM) { title { (what) } }
                    }
                    @for (number, series) in self.series.iter().enumerate() { (lines(series, number, self, &x, &y)) }
                    line.cursor x1="0" x2="0" y1=(TOP) y2=(BOTTOM) {}
                }
                output.hover aria-hidden="true" {}
            }
        }
    }

    fn legend(&self) -> Markup {
        let several = self.series.len() > 1;
        html! {
            @if several {
                ul.legend {
                    @for (number, series) in self.series.iter().enumerate() {
                        li {
                            svg viewBox="0 0 24 8" aria-hidden="true" { path class=(class(series.shape, number)) d="M0 4H24" {} }
                            (series.name)
                        }
                    }
                }
            }
        }
    }

    /// The chart in words.
    fn description(&self) -> String {
        let mut text = String::new();
        for series in &self.series {
            let shown: Vec<&Point> = series.points.iter().filter(|point| shows(point.1)).collect();
            let (Some(first), Some(last)) = (shown.first(), shown.last()) else { continue };
            let Some((low, high)) = extent(shown.iter().map(|point| point.1)) else { continue };
            let [from, to, low, high] =
                [first.1, last.1, low, high].map(|value| format!("{}{}", number::value(value), self.unit));
            let (x, start, end) = (self.x, number::value(first.0), number::value(last.0));
            let _ = write!(text, "{}: {from} at {x} {start}, {to} at {x} {end}; lowest {low}, highest {high}. ", series.name);
        }
        text.trim_end().to_owned()
    }

    fn axes(&self, x: &Scale, y: &Scale) -> Markup {
        // Steps and questions are whole: a short axis has no ticks between them.
        let x_ticks: Vec<f64> = x.ticks(X_TICKS).into_iter().filter(|tick| tick.fract() == 0.0 && *tick >= 0.0).collect();
        let y_ticks = y.ticks(Y_TICKS);
        html! {
            g.axes {
                @for (tick, label) in y_ticks.iter().zip(number::ticks(&y_ticks)) {
                    line.grid x1=(LEFT) x2=(RIGHT) y1=(pixel(y.place(*tick))) y2=(pixel(y.place(*tick))) {}
                    text.y x=(LEFT - 8.0) y=(pixel(y.place(*tick) + 4.5)) text-anchor="end" { (label) (self.unit) }
                }
                line.axis x1=(LEFT) x2=(RIGHT) y1=(BOTTOM) y2=(BOTTOM) {}
                @for (tick, label) in x_ticks.iter().zip(number::ticks(&x_ticks)) {
                    line.axis x1=(pixel(x.place(*tick))) x2=(pixel(x.place(*tick))) y1=(BOTTOM) y2=(BOTTOM + 5.0) {}
                    text.x x=(pixel(x.place(*tick))) y=(BOTTOM + 20.0) text-anchor="middle" { (label) }
                }
                text.x x=(f64::midpoint(LEFT, RIGHT)) y=(HEIGHT - 6.0) text-anchor="middle" { (self.x) }
            }
        }
    }
}

fn lines(series: &Series, number: usize, chart: &LineChart<'_>, x: &Scale, y: &Scale) -> Markup {
    let visible = |value: f64| shows(value) && (!chart.log || value > 0.0);
    let raw = thinned(&series.points, MOST_POINTS);
    let smooth = match series.shape {
        Shape::Smoothed => smoothed(&series.points).map(|line| thinned(&line, MOST_POINTS)),
        Shape::Line | Shape::Reference => None,
    };
    let shown: Vec<&Point> = raw.iter().filter(|(at, value)| shows(*at) && visible(*value)).collect();
    let list = |text: &dyn Fn(&Point) -> String, between: &str| {
        shown.iter().map(|point| text(point)).collect::<Vec<_>>().join(between)
    };
    let colour = number % COLOURS + 1;
    html! {
        g class={ "series colour-" (colour) } data-name=(series.name)
            data-x=(list(&|point| pixel(x.place(point.0)), " "))
            data-at=(list(&|point| number::value(point.0), "|"))
            data-value=(list(&|point| format!("{}{}", number::value(point.1), chart.unit), "|")) {
            path class=(if smooth.is_some() { format!("raw colour-{colour}") } else { class(series.shape, number) })
                d=(across(&raw, series.shape, &visible, y).unwrap_or_else(|| path(&raw, &visible, x, y))) {}
            @if let Some(smooth) = &smooth { path class={ "smooth colour-" (colour) } d=(path(smooth, &visible, x, y)) {} }
            @if series.shape != Shape::Reference && shown.len() <= MOST_DOTS && smooth.is_none() {
                @for point in &shown { circle cx=(pixel(x.place(point.0))) cy=(pixel(y.place(point.1))) r="3" {} }
            }
        }
    }
}

/// One value to compare with is compared with everything.
fn across(points: &[Point], shape: Shape, visible: &dyn Fn(f64) -> bool, y: &Scale) -> Option<String> {
    let mut shown = points.iter().filter(|point| visible(point.1));
    match (shape, shown.next(), shown.next()) {
        (Shape::Reference, Some((_, value)), None) => Some(format!("M{LEFT} {}H{RIGHT}", pixel(y.place(*value)))),
        _ => None,
    }
}

fn class(shape: Shape, number: usize) -> String {
    let shape = if shape == Shape::Reference { "reference" } else { "line" };
    format!("{shape} colour-{}", number % COLOURS + 1)
}

/// A path through all points, with gaps where there is nothing to show.
fn path(points: &[Point], visible: &dyn Fn(f64) -> bool, x: &Scale, y: &Scale) -> String {
    let mut path = String::new();
    let mut pen_down = false;
    for &(at, value) in points {
        if shows(at) && visible(value) {
            let command = if pen_down { 'L' } else { 'M' };
            let _ = write!(path, "{command}{} {}", pixel(x.place(at)), pixel(y.place(value)));
        }
        pen_down = visible(value);
    }
    path
}

fn inside(x: &Scale, at: f64) -> bool {
    (LEFT - 0.5..=RIGHT + 0.5).contains(&x.place(at))
}

pub(crate) fn pixel(place: f64) -> String {
    format!("{place:.1}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: Vec<Point>, log: bool) -> String {
        let series = vec![Series { name: "a<b".to_owned(), points, shape: Shape::Smoothed }];
        let chart = LineChart {
            id: "loss",
            title: "Loss",
            x: "step",
            unit: "",
            log,
            from_zero: false,
            series,
            marks: vec![(2.0, "skipped".to_owned()), (9e9, "far away".to_owned())],
            empty: "nothing yet",
        };
        chart.render().into_string()
    }

    #[test]
    fn points_marks_and_words_are_there() {
        let text = chart(vec![(1.0, 2.0), (2.0, f64::NAN), (3.0, 1.0)], false);
        assert_eq!(text.matches("<circle").count(), 2, "{text}");
        assert!(text.contains("data-at=\"1|3\"") && text.contains("data-value=\"2|1\""), "{text}");
        assert!(text.contains("a&lt;b: 2 at step 1, 1 at step 3; lowest 1, highest 2."), "{text}");
        assert!(text.contains("skipped") && !text.contains("far away"), "{text}");
        // A gap: two strokes and no line between them.
        assert!(!text.contains("NaN") && text.contains("d=\"M64.0 12.0M504.0"), "{text}");
    }

    #[test]
    fn many_points_are_smoothed_and_thinned() {
        let text = chart((0..5000).map(|x| (f64::from(x), f64::from(x % 7))).collect(), false);
        assert!(text.contains("class=\"raw colour-1\"") && text.contains("class=\"smooth colour-1\""));
        assert!(text.len() < 60_000, "{}", text.len());
        assert!(!text.contains("<circle"));
    }

    #[test]
    fn what_cannot_be_drawn_is_said() {
        for (points, log) in [(vec![], false), (vec![(1.0, f64::NAN)], false), (vec![(1.0, -1.0), (2.0, 0.0)], true)] {
            let text = chart(points, log);
            assert!(text.contains("nothing yet") && !text.contains("<svg"), "{text}");
        }
        let one = chart(vec![(3.0, 5.0)], true);
        assert_eq!(one.matches("<circle").count(), 1, "{one}");
    }
}
