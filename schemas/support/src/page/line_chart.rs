//! Line charts as SVG.

use std::fmt::Write as _;

use maud::{Markup, html};

use crate::page::figure::{Figure, LEFT, RIGHT, TOP, pixel};
use crate::page::number;
use crate::page::scale::{Scale, extent, is_drawable};
use crate::page::series::{Point, smoothed, thinned};

const HEIGHT: f64 = 250.0;
/// More ticks would overlap on a phone, where the font is larger relative to the drawing.
const X_TICKS: usize = 4;
const Y_TICKS: usize = 5;
/// More points than the drawing has pixels on a large screen add nothing.
const MAX_POINTS: usize = 600;
/// More dots would hide the line.
const MAX_DOTS: usize = 60;
/// More marks would cover the chart.
const MAX_MARKS: usize = 40;
/// Number of series colours in the style sheet.
const COLOURS: usize = 4;

/// Drawing style of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A faint line through all values and, if there are many, a smoothed line.
    Smoothed,
    /// A line through all values.
    Line,
    /// A dashed line to compare others with.
    Reference,
}

/// One series of a chart.
#[derive(Debug, Clone)]
pub struct Series {
    /// Name in the legend and in the hover text.
    pub name: String,
    /// Points in the order of x. Non-finite values leave a gap.
    pub points: Vec<Point>,
    /// Drawing style.
    pub shape: Shape,
}

/// A line chart.
#[derive(Debug, Clone)]
pub struct LineChart<'a> {
    /// Element id: letters, digits and hyphens.
    pub id: &'a str,
    /// Title of the chart.
    pub title: &'a str,
    /// Name of the x axis, one word: "step".
    pub x: &'a str,
    /// Unit appended to values: " %", or empty.
    pub unit: &'a str,
    /// Use a logarithmic y axis, which omits values that are not positive. A linear axis includes 0, so that noise of a constant
    /// does not look like a change.
    pub log: bool,
    /// Range of x that the chart includes, so that several charts have the same axis.
    pub x_range: Option<(f64, f64)>,
    /// Series to draw, the most important one first. It covers the others.
    pub series: Vec<Series>,
    /// Vertical lines: x and a description.
    pub marks: Vec<(f64, String)>,
    /// Remark below the chart, or empty.
    pub note: &'a str,
    /// Text shown if there is nothing to draw.
    pub empty: &'a str,
}

impl LineChart<'_> {
    /// Renders the figure.
    #[must_use]
    pub fn render(&self) -> Markup {
        let visible = |value: f64| is_drawable(value) && (!self.log || value > 0.0);
        let points =
            || self.series.iter().flat_map(|series| &series.points).filter(|(x, value)| is_drawable(*x) && visible(*value));
        let figure = Figure { id: self.id, title: self.title, x: self.x, height: HEIGHT };
        let (Some(x), Some(y)) = (extent(points().map(|point| point.0)), extent(points().map(|point| point.1))) else {
            return figure.render_empty(self.empty);
        };
        let bottom = figure.bottom();
        let (first, last) = self.x_range.unwrap_or(x);
        let x = Scale::linear((x.0.min(first), x.1.max(last)), LEFT, RIGHT);
        let y = match self.log {
            true => Scale::logarithmic(y, bottom, TOP),
            false => Scale::nice((y.0.min(0.0), y.1.max(0.0)), Y_TICKS, bottom, TOP),
        };
        // Steps and questions are whole numbers: a short axis has no ticks between them.
        let ticks: Vec<f64> = x.ticks(X_TICKS).into_iter().filter(|tick| tick.fract() == 0.0 && *tick >= 0.0).collect();
        let merged = merged(&self.series);
        let note = html! { @if self.log { span.note { " (logarithmic)" } } };
        let drawing = html! {
            g.axes {
                (figure.grid(&y, &y.ticks(Y_TICKS), self.unit))
                (figure.x_axis(&x, &ticks))
            }
            @for (at, what) in self.marks.iter().filter(|mark| inside(&x, mark.0)).take(MAX_MARKS) {
                line.mark x1=(pixel(x.position(*at))) x2=(pixel(x.position(*at))) y1=(TOP) y2=(bottom) { title { (what) } }
            }
            @for (number, series) in merged.iter().enumerate().rev() { (lines(series, number, self, &x, &y)) }
        };
        let legend = if self.series.len() > 1 {
            legend(&merged)
        } else {
            html! {}
        };
        let remark = html! { @if !self.note.is_empty() { p.summary { (self.note) } } };
        figure.render(&self.description(), [note, legend, drawing, remark])
    }

    /// Text alternative of the chart.
    fn description(&self) -> String {
        let mut text = String::new();
        for series in &self.series {
            let shown: Vec<&Point> = series.points.iter().filter(|point| is_drawable(point.1)).collect();
            let (Some(first), Some(last)) = (shown.first(), shown.last()) else { continue };
            let Some((low, high)) = extent(shown.iter().map(|point| point.1)) else { continue };
            let [from, to, low, high] =
                [first.1, last.1, low, high].map(|value| format!("{}{}", number::value(value), self.unit));
            let (x, start, end) = (self.x, number::value(first.0), number::value(last.0));
            let _ = write!(text, "{}: {from} at {x} {start}, {to} at {x} {end}; lowest {low}, highest {high}. ", series.name);
        }
        text.trim_end().to_owned()
    }
}

/// Merges series with the same values, which would hide each other, into one with the names of all: "accuracy = F1".
fn merged(series: &[Series]) -> Vec<Series> {
    let same = |a: &Series, b: &Series| {
        let pairs = || a.points.iter().zip(&b.points);
        let equal = |a: f64, b: f64| number::value(a) == number::value(b);
        a.points.len() == b.points.len() && pairs().all(|(a, b)| a.0 == b.0 && equal(a.1, b.1))
    };
    let mut merged: Vec<Series> = Vec::new();
    for next in series {
        match merged.iter_mut().find(|found| same(found, next)) {
            Some(found) => found.name = format!("{} = {}", found.name, next.name),
            None => merged.push(next.clone()),
        }
    }
    merged
}

fn legend(series: &[Series]) -> Markup {
    html! {
        ul.legend {
            @for (number, series) in series.iter().enumerate() {
                li {
                    svg viewBox="0 0 24 8" aria-hidden="true" { path class=(class(series.shape, number)) d="M0 4H24" {} }
                    (series.name)
                }
            }
        }
    }
}

fn lines(series: &Series, number: usize, chart: &LineChart<'_>, x: &Scale, y: &Scale) -> Markup {
    let visible = |value: f64| is_drawable(value) && (!chart.log || value > 0.0);
    let raw = thinned(&series.points, MAX_POINTS);
    let smooth = match series.shape {
        Shape::Smoothed => smoothed(&series.points).map(|line| thinned(&line, MAX_POINTS)),
        Shape::Line | Shape::Reference => None,
    };
    let shown: Vec<&Point> = raw.iter().filter(|(at, value)| is_drawable(*at) && visible(*value)).collect();
    let list = |text: &dyn Fn(&Point) -> String, between: &str| {
        shown.iter().map(|point| text(point)).collect::<Vec<_>>().join(between)
    };
    let colour = number % COLOURS + 1;
    html! {
        g class={ "series colour-" (colour) } data-name=(series.name)
            data-x=(list(&|point| pixel(x.position(point.0)), " "))
            data-at=(list(&|point| number::value(point.0), "|"))
            data-value=(list(&|point| format!("{}{}", number::value(point.1), chart.unit), "|")) {
            path class=(if smooth.is_some() { format!("raw colour-{colour}") } else { class(series.shape, number) })
                d=(across(&raw, series.shape, &visible, y).unwrap_or_else(|| path(&raw, &visible, x, y))) {}
            @if let Some(smooth) = &smooth { path class={ "smooth colour-" (colour) } d=(path(smooth, &visible, x, y)) {} }
            @if series.shape != Shape::Reference && shown.len() <= MAX_DOTS && smooth.is_none() {
                @for point in &shown { circle cx=(pixel(x.position(point.0))) cy=(pixel(y.position(point.1))) r="3" {} }
            }
        }
    }
}

/// Path of a reference with a single value: a line across the whole chart.
fn across(points: &[Point], shape: Shape, visible: &dyn Fn(f64) -> bool, y: &Scale) -> Option<String> {
    let mut shown = points.iter().filter(|point| visible(point.1));
    match (shape, shown.next(), shown.next()) {
        (Shape::Reference, Some((_, value)), None) => Some(format!("M{LEFT} {}H{RIGHT}", pixel(y.position(*value)))),
        _ => None,
    }
}

fn class(shape: Shape, number: usize) -> String {
    // References that follow each other differ in their dashes, too.
    let shape = match shape {
        Shape::Reference if number.is_multiple_of(2) => "reference dotted",
        Shape::Reference => "reference",
        Shape::Line | Shape::Smoothed => "line",
    };
    format!("{shape} colour-{}", number % COLOURS + 1)
}

/// Path through all points, with gaps at values that cannot be drawn.
fn path(points: &[Point], visible: &dyn Fn(f64) -> bool, x: &Scale, y: &Scale) -> String {
    let mut path = String::new();
    let mut pen_down = false;
    for &(at, value) in points {
        if is_drawable(at) && visible(value) {
            let command = if pen_down { 'L' } else { 'M' };
            let _ = write!(path, "{command}{} {}", pixel(x.position(at)), pixel(y.position(value)));
        }
        pen_down = visible(value);
    }
    path
}

fn inside(x: &Scale, at: f64) -> bool {
    (LEFT - 0.5..=RIGHT + 0.5).contains(&x.position(at))
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
            x_range: None,
            series,
            marks: vec![(2.0, "skipped".to_owned()), (9e9, "far away".to_owned())],
            note: "a remark",
            empty: "nothing yet",
        };
        chart.render().into_string()
    }

    #[test]
    fn points_marks_and_description_are_rendered() {
        let text = chart(vec![(1.0, 2.0), (2.0, f64::NAN), (3.0, 1.0)], false);
        assert_eq!(text.matches("<circle").count(), 2, "{text}");
        assert!(text.contains("data-at=\"1|3\"") && text.contains("data-value=\"2|1\""), "{text}");
        assert!(text.contains("a&lt;b: 2 at step 1, 1 at step 3; lowest 1, highest 2."), "{text}");
        assert!(text.contains("skipped") && !text.contains("far away"), "{text}");
        // A gap: two strokes and no line between them.
        assert!(!text.contains("NaN") && text.contains("d=\"M64.0 12.0M504.0"), "{text}");
    }

    #[test]
    fn noise_of_a_constant_is_not_a_rise() {
        // Without 0 the axis would be from 1.394 to 1.406, and the line would cross the whole chart.
        let text = chart(vec![(1.0, 1.394), (2.0, 1.406)], false);
        let labels: Vec<&str> = text.split("text-anchor=\"end\">").skip(1).filter_map(|rest| rest.split('<').next()).collect();
        assert_eq!(labels, ["0", "0.5", "1.0", "1.5"]);
    }

    #[test]
    fn lines_do_not_hide_each_other() {
        let line = |name: &str, last: f64| Series {
            name: name.to_owned(),
            points: vec![(1.0, 50.0), (2.0, last)],
            shape: Shape::Line,
        };
        let series = vec![line("accuracy", 60.0), line("F1", 60.0), line("chance", 50.0)];
        let chart = LineChart {
            id: "quality",
            title: "Quality",
            x: "step",
            unit: " %",
            log: false,
            x_range: Some((0.0, 10.0)),
            series,
            marks: Vec::new(),
            note: "",
            empty: "nothing yet",
        };
        let text = chart.render().into_string();
        assert!(text.contains("accuracy = F1</li>") && text.contains("chance</li>"), "{text}");
        assert_eq!(text.matches("data-name=").count(), 2);
        // The first series is drawn last, and thus on top.
        let [chance, accuracy] =
            ["data-name=\"chance\"", "data-name=\"accuracy = F1\""].map(|name| text.find(name).expect("a series"));
        assert!(chance < accuracy);
        // Step 1 of 10 is a tenth of the width away from the axis, and the text alternative has all three.
        assert!(text.contains("data-x=\"108.0 152.0\"") && text.contains("F1: 50 % at step 1, 60 % at step 2"), "{text}");
    }

    #[test]
    fn many_points_are_smoothed_and_thinned() {
        let text = chart((0..5000).map(|x| (f64::from(x), f64::from(x % 7))).collect(), false);
        assert!(text.contains("class=\"raw colour-1\"") && text.contains("class=\"smooth colour-1\""));
        assert!(text.len() < 60_000, "{}", text.len());
        assert!(!text.contains("<circle"));
    }

    #[test]
    fn a_chart_without_drawable_points_is_empty() {
        for (points, log) in [(vec![], false), (vec![(1.0, f64::NAN)], false), (vec![(1.0, -1.0), (2.0, 0.0)], true)] {
            let text = chart(points, log);
            assert!(text.contains("nothing yet") && !text.contains("<svg"), "{text}");
        }
        let one = chart(vec![(3.0, 5.0)], true);
        assert_eq!(one.matches("<circle").count(), 1, "{one}");
    }
}
