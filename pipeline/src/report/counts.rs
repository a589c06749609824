//! Statistics of a split as charts and tables.

use glm_support::page::histogram::{Bar, Histogram};
use glm_support::page::number::{count, percent, value};
use glm_support::page::table;
use maud::{Markup, html};

use crate::stats::{Lengths, Shared, SplitStats};

/// Renders the statistics of a split.
pub(super) fn split(split: &SplitStats, max_seq_len: usize) -> Markup {
    let name = split.split.name();
    let charts = [
        ("context", "Context tokens per question, not truncated", "tokens", "questions", &split.context),
        ("choice", "Tokens per choice", "tokens", "choices", &split.choice),
        ("choices", "Choices per question", "choices", "questions", &split.choices),
        ("mentions", "Mentions per question", "mentions", "questions", &split.mentions),
    ];
    html! {
        p {
            (count(split.questions as u64)) " questions about " (count(split.passages as u64)) " passages, "
            (count(split.distinct_passages as u64)) " distinct by their text."
        }
        div.charts {
            @for (id, title, x, counted, lengths) in charts { (histogram(&format!("{name}-{id}"), title, x, counted, lengths)) }
        }
        ul {
            li {
                "At " (max_seq_len) " tokens " (count(split.truncation.questions as u64))
                " questions (" (percent(split.truncation.share)) ") lose "
                (count(split.truncation.tokens_lost as u64)) " passage tokens."
            }
            @if split.truncation.do_not_fit > 0 {
                li {
                    strong {
                        (count(split.truncation.do_not_fit as u64)) " questions do not fit " (max_seq_len) " tokens at all."
                    }
                }
            }
            li {
                (count(split.unknown.count as u64)) " of " (count(split.unknown.of as u64)) " tokens are [UNK] ("
                (format!("{:.3} %", 100.0 * split.unknown.share)) ")."
            }
            @if split.duplicates.passages > 0 { li { (repeated(&split.duplicates)) } }
        }
        h3 { "Sources" }
        (sources(split))
    }
}

fn histogram(id: &str, title: &str, x: &str, counted: &str, lengths: &Lengths) -> Markup {
    let bars: Vec<Bar> = lengths
        .histogram
        .iter()
        .map(|bar| {
            let range = if bar.from == bar.to {
                count(bar.from as u64)
            } else {
                format!("{} to {}", count(bar.from as u64), count(bar.to as u64))
            };
            Bar { label: bar.from.to_string(), range, count: bar.count as u64 }
        })
        .collect();
    let Lengths { min, mean, p50, p90, p99, max, .. } = lengths;
    let summary = format!("mean {}, median {p50}, 90 % up to {p90}, 99 % up to {p99}; from {min} to {max}", value(*mean));
    Histogram { id, title, x, counted, bars: &bars, summary }.render()
}

fn repeated(duplicates: &Shared) -> Markup {
    html! {
        (count(duplicates.passages as u64)) " passages repeat the text of another one of this split: "
        (ids(&duplicates.example_ids)) " ask about them."
    }
}

fn sources(split: &SplitStats) -> Markup {
    let rows: Vec<(String, u64)> = split.sources.iter().map(|source| (source.name.clone(), source.questions as u64)).collect();
    let others = split.distinct_sources - split.sources.len();
    html! {
        (table::bars(&format!("Sources of {}", split.split), ["source", "questions"], &rows, split.questions as u64))
        @if others > 0 { p.note { "and " (count(others as u64)) " more sources" } }
    }
}

/// Renders the passages that train and val share.
pub(super) fn shared(shared: &Shared) -> Markup {
    html! {
        @if shared.passages == 0 { p { "No passage of the validation split is in the training split." } } @else {
            p.warning {
                strong { (count(shared.passages as u64)) " passages are in train and in val" } "; "
                (count(shared.questions as u64))
                " questions of val ask about them, for example " (ids(&shared.example_ids))
                ". They inflate accuracy on val."
            }
        }
    }
}

fn ids(ids: &[String]) -> Markup {
    html! { @for (index, id) in ids.iter().enumerate() { @if index > 0 { ", " } code { (id) } } }
}
