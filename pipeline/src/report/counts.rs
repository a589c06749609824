//! Statistics of the splits, side by side, as charts and tables.

use glm_schemas::manifest::Split;
use glm_support::page::histogram::{Bar, Histogram};
use glm_support::page::number::{count, mean, percent};
use glm_support::page::table::{self, Column, folded, table, text};
use maud::{Markup, html};

use crate::stats::{Lengths, SplitStats, Stats};

/// Longer lists of sources are folded.
const MAX_UNFOLDED: usize = 10;

/// A distribution that is shown for every split.
pub(super) struct Quantity<S> {
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    pub(super) x: &'static str,
    pub(super) counted: &'static str,
    pub(super) lengths: fn(&S) -> &Lengths,
}

const QUANTITIES: [Quantity<SplitStats>; 4] = [
    Quantity {
        id: "context",
        title: "Context tokens per question",
        x: "tokens",
        counted: "questions",
        lengths: |s| &s.context,
    },
    Quantity { id: "choices", title: "Choices per question", x: "choices", counted: "questions", lengths: |s| &s.choices },
    Quantity { id: "choice", title: "Tokens per choice", x: "tokens", counted: "choices", lengths: |s| &s.choice },
    Quantity { id: "mentions", title: "Mentions per question", x: "mentions", counted: "questions", lengths: |s| &s.mentions },
];

/// Renders the distributions, and the effect of the sequence length; `ingested` is the one given to `ingest`.
pub(super) fn lengths(stats: &Stats, ingested: usize) -> Markup {
    html! {
        @for quantity in &QUANTITIES { div.charts.pairs { (histograms(quantity, &stats.splits, |split| split.split)) } }
        h3 id="truncation" { "Questions that lose part of their passage, by sequence length" }
        p.note {
            "The data set was ingested for " (count(ingested as u64)) " tokens; " code { "data.max_seq_len" }
            " is the length that a model is trained with. Contexts above are not truncated."
        }
        (truncation(stats, ingested))
    }
}

/// Renders the distribution of a quantity in every split, with a common axis.
pub(super) fn histograms<S>(quantity: &Quantity<S>, splits: &[S], name: impl Fn(&S) -> Split) -> Markup {
    let bars: Vec<(&S, Vec<Bar>)> = splits.iter().map(|split| (split, bars((quantity.lengths)(split)))).collect();
    let all = || bars.iter().flat_map(|(_, bars)| bars);
    let low = all().map(|bar| bar.from).reduce(f64::min);
    let x_range = low.zip(all().map(|bar| bar.to).reduce(f64::max));
    html! {
        @for (split, bars) in bars {
            @let bars = &x_range.map_or_else(Vec::new, |range| padded(bars, range));
            (Histogram {
                id: &format!("{}-{}", name(split), quantity.id),
                title: &format!("{}, {}", quantity.title, name(split)),
                x: quantity.x,
                counted: quantity.counted,
                bars,
                x_range,
                split_at_zero: false,
                summary: summary((quantity.lengths)(split)),
            }.render())
        }
    }
}

/// Adds empty bars at the ends, so that the splits have as many of them, if every bar is one number.
fn padded(bars: Vec<Bar>, (low, high): (f64, f64)) -> Vec<Bar> {
    let (Some(first), Some(last)) = (bars.first(), bars.last()) else { return bars };
    if bars.iter().any(|bar| bar.to - bar.from != 1.0) {
        return bars;
    }
    let empty = |from: f64, to: f64| {
        let bars = (to - from) as usize;
        (0..bars).map(move |i| {
            let from = from + i as f64;
            Bar { from, to: from + 1.0, range: count((from + 0.5) as u64), count: 0 }
        })
    };
    let (before, after) = (empty(low, first.from), empty(last.to, high));
    before.chain(bars).chain(after).collect()
}

/// Returns bars in which whole numbers are in the middle.
fn bars(lengths: &Lengths) -> Vec<Bar> {
    let bar = |bar: &crate::stats::Bar| {
        let range = match bar.from == bar.to {
            true => count(bar.from as u64),
            false => format!("{} to {}", count(bar.from as u64), count(bar.to as u64)),
        };
        Bar { from: bar.from as f64 - 0.5, to: bar.to as f64 + 0.5, range, count: bar.count as u64 }
    };
    lengths.histogram.iter().map(bar).collect()
}

fn summary(lengths: &Lengths) -> String {
    let Lengths { min, mean: middle, p50, p90, p99, max, .. } = lengths;
    format!("mean {}, median {p50}, 90 % up to {p90}, 99 % up to {p99}; from {min} to {max}", mean(*middle))
}

fn truncation(stats: &Stats, ingested: usize) -> Markup {
    let mut columns = vec![("sequence length", Column::Heading)];
    columns.extend(stats.splits.iter().map(|split| (split.split.name(), Column::Number)));
    let lengths = stats.splits.first().map_or(&[] as &[_], |split| split.truncations.as_slice());
    let cell = |split: &SplitStats, row: usize| {
        let Some((_, cut)) = split.truncations.get(row) else { return table::nothing() };
        html! {
            (count(cut.questions as u64)) " (" (percent(cut.share)) ")"
            @if cut.do_not_fit > 0 { br; strong { (count(cut.do_not_fit as u64)) " do not fit" } }
        }
    };
    let rows = lengths.iter().enumerate().map(|(row, (length, _))| {
        let own = if *length == ingested { " (this data set)" } else { "" };
        let heading = text(format!("{}{own}", count(*length as u64)));
        [heading].into_iter().chain(stats.splits.iter().map(|split| cell(split, row))).collect::<Vec<Markup>>()
    });
    table("Truncated questions by sequence length", &columns, &rows.collect::<Vec<_>>())
}

/// Renders the sources of every split.
pub(super) fn sources(splits: &[SplitStats]) -> Markup {
    html! { div.charts {
       @for split in splits {
           @let listed: Vec<_> = split.sources.iter().map(|source| (source.name.clone(), source.questions as u64)).collect();
           (sources_of(split.split, "questions", split.questions, &listed, split.distinct_sources))
       }
    } }
}

/// Renders the largest sources of a split: name and number of `unit` each, of `total`.
pub(super) fn sources_of(split: Split, unit: &str, total: usize, listed: &[(String, u64)], distinct: usize) -> Markup {
    let (first, more) = listed.split_at(listed.len().min(MAX_UNFOLDED));
    let unlisted = distinct - listed.len();
    let sources = |number: usize| if number == 1 { "source" } else { "sources" };
    let bars =
        |name: &str, rows: &[(String, u64)]| table::bars(&format!("{name} of {split}"), ["source", unit], rows, total as u64);
    html! {
        figure.chart id={ (split) "-sources" } {
            figcaption { (split) ", " (count(distinct as u64)) " " (sources(distinct)) }
            (bars("Sources", first))
            @if !more.is_empty() {
                (folded(format!("{} more {}", count(more.len() as u64), sources(more.len())), &bars("Further sources", more)))
            }
            @if unlisted > 0 {
                p.note {
                    (count(unlisted as u64)) " further " (sources(unlisted)) @if unlisted == 1 { " is" } @else { " are" }
                    " not on the page; all of them: "
                    code { "glm-prep inspect DIR --sql \"select source, count(source) as " (unit) " from shards group by source\"" }
                }
            }
        }
    }
}

/// Name of a key figure, and its value for a split.
pub(super) type Figure<'a, S> = (&'a str, &'a dyn Fn(&S) -> String);

/// Renders key figures with a column for each split.
pub(super) fn figures<S>(splits: &[S], name: impl Fn(&S) -> Split, rows: &[Figure<'_, S>]) -> Markup {
    let mut columns = vec![("", Column::Heading)];
    columns.extend(splits.iter().map(|split| (name(split).name(), Column::Number)));
    let row = |(name, value): &Figure<'_, S>| -> Vec<Markup> {
        [text(*name)].into_iter().chain(splits.iter().map(|split| text(value(split)))).collect()
    };
    table("Splits", &columns, &rows.iter().map(row).collect::<Vec<_>>())
}

/// Renders the passages that occur more than once, within a split and in train and val.
pub(super) fn shared(stats: &Stats) -> Markup {
    let shared = &stats.in_train_and_val;
    let has = |wanted: Split| stats.splits.iter().any(|split| split.split == wanted);
    html! {
        @if shared.passages > 0 {
            p.warning {
                strong { (count(shared.passages as u64)) " passages are in train and in val" } "; "
                (count(shared.questions as u64))
                " questions of val ask about them, for example " (ids(&shared.example_ids))
                ". They inflate accuracy on val."
            }
        } @else if has(Split::Train) && has(Split::Val) { p { "No passage of the validation split is in the training split." } }
        @for split in &stats.splits {
            @if split.duplicates.passages > 0 {
                p {
                    (split.split) ": " (count(split.duplicates.passages as u64)) " passages repeat the text of another one of the split: "
                    (ids(&split.duplicates.example_ids)) " ask about them."
                }
            } @else { p { (split.split) ": every passage occurs once." } }
        }
    }
}

fn ids(ids: &[String]) -> Markup {
    html! { @for (index, id) in ids.iter().enumerate() { @if index > 0 { ", " } code { (id) } } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::{Shared, Source};

    fn split(split: Split, sources: usize, listed: usize) -> SplitStats {
        let source = |i: usize| Source { name: format!("source {i}"), questions: 1 };
        let bar = |from, count| crate::stats::Bar { from, to: from, count };
        let context = Lengths { histogram: vec![bar(7, 3), bar(8, 1)], mean: 7.25, ..Lengths::default() };
        SplitStats {
            split,
            questions: sources,
            single_choice: 0,
            indistinguishable: 0,
            passages: 1,
            distinct_passages: 1,
            duplicates: Shared::default(),
            choices: Lengths::default(),
            context,
            choice: Lengths::default(),
            mentions: Lengths::default(),
            truncation: Default::default(),
            truncations: vec![(128, Default::default()), (160, Default::default())],
            unknown: Default::default(),
            sources: (0..listed).map(source).collect(),
            distinct_sources: sources,
        }
    }

    #[test]
    fn all_sources_can_be_reached() {
        let text = sources(&[split(Split::Train, 12, 12)]).into_string();
        assert!(text.contains("train, 12 sources") && text.contains("2 more sources") && text.contains("source 11"), "{text}");
        assert!(!text.contains("not on the page"));
        // A twelfth of the questions is a twelfth of the track.
        assert!(text.contains("8.3 %") && text.contains("width=\"8.3\""), "{text}");
        assert!(sources(&[split(Split::Train, 12, 11)]).into_string().contains("1 further source is not on the page"));
    }

    #[test]
    fn splits_have_the_same_bars() {
        let lengths = |counts: &[(usize, usize)]| {
            let bar = |&(from, count)| crate::stats::Bar { from, to: from, count };
            bars(&Lengths { histogram: counts.iter().map(bar).collect(), ..Lengths::default() })
        };
        let counts = |bars: Vec<Bar>| bars.into_iter().map(|bar| (bar.range, bar.count)).collect::<Vec<_>>();
        let wide = counts(padded(lengths(&[(6, 3)]), (4.5, 7.5)));
        assert_eq!(wide, [("5".to_owned(), 0), ("6".to_owned(), 3), ("7".to_owned(), 0)]);
        assert_eq!(padded(Vec::new(), (4.5, 7.5)), []);
        let tens = vec![Bar { from: -0.5, to: 9.5, range: "0 to 9".to_owned(), count: 1 }];
        assert_eq!(padded(tens.clone(), (-0.5, 19.5)), tens);
    }

    #[test]
    fn splits_are_side_by_side() {
        let stats = Stats {
            shards: "shards".into(),
            fingerprint: String::new(),
            max_seq_len: 160,
            splits: vec![split(Split::Train, 1, 1), split(Split::Val, 1, 1)],
            in_train_and_val: Shared::default(),
        };
        let text = lengths(&stats, 160).into_string();
        let [train, val, next] =
            ["train-context", "val-context", "train-choices"].map(|id| text.find(&format!("id=\"{id}\"")).expect("a chart"));
        assert!(train < val && val < next && text.contains("mean 7.2,"), "{text}");
        assert!(text.contains("160 (this data set)") && text.contains("<th scope=\"row\">128</th>"), "{text}");
    }
}
