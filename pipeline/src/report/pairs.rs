//! Report page of a data set of pairs.

use std::path::Path;

use glm_schemas::manifest::{Manifest, SplitManifest};
use glm_schemas::seq2seq::PairView;
use glm_support::page::card::Card;
use glm_support::page::document::Document;
use glm_support::page::number::{count, mean, rare};
use glm_support::page::table::{Tile, tiles};
use maud::{Markup, html};

use super::counts::{Figure, Quantity, figures, histograms};
use super::error::ReportError;
use super::page::{facts_of, lead, of_files};
use super::rejects::Rejects;
use super::rows::{beginning, sampled};
use crate::stats::{PairSplit, PairStats, StatsError};

/// Maximum number of sample pairs per split.
const MAX_SAMPLES: usize = 4;
/// Maximum length of a sample's texts, in characters.
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
pub(super) fn of(stats: &PairStats, manifest: &Manifest, shards: &Path, name: &str) -> Result<Document, ReportError> {
    let rejects = Rejects::read(shards)?;
    let mut page = Document::new("Data set", name, lead(manifest));
    page.section("contents", "Contents", contents(stats, manifest, &rejects));
    let lengths = html! { @for quantity in &QUANTITIES { div.charts.pairs { (histograms(quantity, &stats.splits, |split| split.split)) } } };
    page.section("lengths", "Lengths", lengths);
    page.section("rejects", "Rejects", rejects.section());
    let mut samples = Vec::new();
    for (&split, content) in &manifest.splits {
        samples.push((split, sample(shards, content)?));
    }
    let pairs = html! {
        @for (split, samples) in samples {
            @for (number, Sample { id, prompt, source, target }) in samples.iter().enumerate() {
                @let text = html! {
                    @if !prompt.is_empty() { p.query dir="auto" { (prompt) } }
                    div.passage dir="auto" tabindex="0" role="region" aria-label={ "Source of " (id) } { (source) }
                };
                @let aside = html! {
                    p.note { "target" }
                    @match target { Some(target) => div.passage dir="auto" tabindex="0" role="region" aria-label={ "Target of " (id) } { (target) }, None => p { "unknown" } }
                };
                // The first pair of each split is unfolded.
                (Card { prefix: split.name(), id, about: split.name(), open: number == 0 }.render(&text, Some(&aside)))
            }
        }
    };
    page.section("pairs", "Sample pairs", pairs);
    page.section("manifest", "Manifest", facts_of(manifest));
    Ok(page)
}

fn contents(stats: &PairStats, manifest: &Manifest, rejects: &Rejects) -> Markup {
    let all = |of: fn(&SplitManifest) -> u64| manifest.splits.values().map(of).sum::<u64>();
    let read: u64 = manifest.raw_files.iter().map(|file| file.records as u64).sum();
    let without: u64 = stats.splits.iter().map(|split| split.without_target as u64).sum();
    let main = [
        Tile::new("Pairs", count(all(|split| split.rows as u64)), format!("of {} records read", count(read))),
        Tile::new("Tokens", count(all(|split| split.tokens as u64)), "contexts and targets, not truncated".to_owned()),
        Tile::new("Rejects", count(rejects.records()), format!("records, of {} read", count(read))),
        Tile::new("Without a target", count(without), "pairs".to_owned()),
    ];
    html! { (tiles(&main, &of_files(manifest))) (splits(stats)) }
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
        ("unknown tokens ([UNK])", &|split| rare(split.unknown.share)),
    ];
    figures(&stats.splits, |split| split.split, &rows)
}

/// A pair of the page.
struct Sample {
    id: String,
    /// The prompt; empty if there is none.
    prompt: String,
    /// Beginning of the source.
    source: String,
    target: Option<String>,
}

/// Reads some pairs at equal distances, starting with the first one.
fn sample(shards: &Path, split: &SplitManifest) -> Result<Vec<Sample>, StatsError> {
    sampled(shards, split, MAX_SAMPLES, |batch| {
        let view = PairView::try_new(batch)?;
        Ok(Sample {
            id: view.example_id(0).to_owned(),
            prompt: beginning(view.prompt(0).unwrap_or_default(), SAMPLE_CHARS),
            source: beginning(view.source(0).unwrap_or_default(), SAMPLE_CHARS),
            target: view.target(0).map(|target| beginning(target, SAMPLE_CHARS)),
        })
    })
}
