//! Report page of a data set of pairs.

use std::path::Path;

use glm_schemas::manifest::{Manifest, SplitManifest};
use glm_schemas::seq2seq::PairView;
use glm_support::command::paint::shorten;
use glm_support::page::document::Document;
use glm_support::page::number::{count, mean};
use maud::{Markup, html};

use super::counts::{Figure, Quantity, figures, histograms};
use super::error::ReportError;
use super::page::{lead, name};
use super::rejects::Rejects;
use super::rows::sampled;
use crate::stats::{PairSplit, PairStats, StatsError};

/// Maximum number of sample pairs per split.
const MAX_SAMPLES: usize = 4;
/// Maximum length of a sample's source, in characters.
const SAMPLE_CHARS: usize = 1_000;

const QUANTITIES: [Quantity<PairSplit>; 2] = [
    Quantity {
        id: "context",
        title: "Tokens per context",
        x: "tokens",
        counted: "pairs",
        lengths: |split| &split.tokens_per_context,
    },
    Quantity {
        id: "target",
        title: "Tokens per target",
        x: "tokens",
        counted: "pairs",
        lengths: |split| &split.tokens_per_target,
    },
];

/// Creates the page.
pub(super) fn of(stats: &PairStats, manifest: &Manifest, shards: &Path) -> Result<Document, ReportError> {
    let rejects = Rejects::read(shards)?;
    let mut page = Document::new("Data set", name(shards), lead(manifest));
    page.section("contents", "Contents", splits(stats));
    let lengths = html! { @for quantity in &QUANTITIES { div.charts.pairs { (histograms(quantity, &stats.splits, |split| split.split)) } } };
    page.section("lengths", "Lengths", lengths);
    page.section("rejects", "Rejects", rejects.section());
    let mut samples = Vec::new();
    for (split, content) in &manifest.splits {
        samples.extend(
            sample(shards, content)?.into_iter().map(|(id, source, target)| (format!("{split}, {id}"), source, target)),
        );
    }
    let pairs = html! {
        @for (about, source, target) in &samples {
            h3 { (about) }
            p { (source) }
            p { strong { "target " } (target) }
        }
    };
    page.section("pairs", "Sample pairs", pairs);
    Ok(page)
}

/// Renders the key figures with a column for each split.
fn splits(stats: &PairStats) -> Markup {
    let cut_sources = format!("sources cut, contexts of up to {} tokens", stats.max_seq_len);
    let cut_targets = format!("targets cut, of up to {} tokens", stats.max_target_len);
    let rows: [Figure<'_, PairSplit>; 8] = [
        ("pairs", &|split| count(split.pairs as u64)),
        ("without a target", &|split| count(split.without_target as u64)),
        ("tokens", &|split| count(split.tokens as u64)),
        ("tokens per context, mean", &|split| mean(split.tokens_per_context.mean)),
        ("tokens per target, mean", &|split| mean(split.tokens_per_target.mean)),
        (&cut_sources, &|split| count(split.cut_sources.count as u64)),
        (&cut_targets, &|split| count(split.cut_targets.count as u64)),
        ("unknown tokens ([UNK])", &|split| format!("{:.3} %", 100.0 * split.unknown.share)),
    ];
    figures(&stats.splits, |split| split.split, &rows)
}

/// Reads some pairs at equal distances, starting with the first one: id, beginning of the source, target.
fn sample(shards: &Path, split: &SplitManifest) -> Result<Vec<(String, String, String)>, StatsError> {
    sampled(shards, split, MAX_SAMPLES, |batch| {
        let view = PairView::try_new(batch)?;
        let source = shorten(view.source(0).unwrap_or_default(), SAMPLE_CHARS);
        Ok((view.example_id(0).to_owned(), source, view.target(0).unwrap_or("unknown").to_owned()))
    })
}
