//! Report page of a data set of documents.

use std::path::Path;

use glm_schemas::document::DocumentView;
use glm_schemas::manifest::{Manifest, SplitManifest};
use glm_support::page::card::Card;
use glm_support::page::document::Document;
use glm_support::page::number::{count, mean, rare};
use glm_support::page::table::{Tile, tiles};
use maud::{Markup, html};

use super::counts::{Figure, Quantity, figures, histograms, sources_of};
use super::error::ReportError;
use super::page::{facts_of, lead, of_files};
use super::rejects::Rejects;
use super::rows::{beginning, sampled};
use crate::stats::{Copies, DocumentSplit, DocumentStats, StatsError};

/// Maximum number of sample documents per split.
const MAX_SAMPLES: usize = 4;
/// Maximum length of a sample's text, in characters.
const SAMPLE_CHARS: usize = 1_500;

const QUANTITIES: [Quantity<DocumentSplit>; 2] = [
    Quantity {
        id: "tokens",
        title: "Tokens per document",
        x: "tokens",
        counted: "documents",
        lengths: |split| &split.tokens_per_document,
    },
    Quantity {
        id: "sentences",
        title: "Sentences per document",
        x: "sentences",
        counted: "documents",
        lengths: |split| &split.sentences_per_document,
    },
];

/// Creates the page.
pub(super) fn of(stats: &DocumentStats, manifest: &Manifest, shards: &Path, name: &str) -> Result<Document, ReportError> {
    let rejects = Rejects::read(shards)?;
    let mut page = Document::new("Data set", name, lead(manifest));
    page.section("contents", "Contents", contents(stats, manifest, &rejects));
    let lengths = html! { @for quantity in &QUANTITIES { div.charts.pairs { (histograms(quantity, &stats.splits, |split| split.split)) } } };
    page.section("lengths", "Lengths", lengths);
    page.section("sources", "Sources", html! { div.charts { @for split in &stats.splits { (sources_of(split.split, "documents", split.documents, &sources(split), split.distinct_sources)) } } });
    page.section("copies", "Copies", copies(stats));
    page.section("rejects", "Rejects", rejects.section());
    let mut samples = Vec::new();
    for (&split, content) in &manifest.splits {
        samples.push((split, sample(shards, content)?));
    }
    let documents = html! {
        @for (split, samples) in samples {
            @for (number, Sample { id, tokens, prompt, text }) in samples.iter().enumerate() {
                @let about = format!("{split}, {} tokens", count(*tokens));
                @let content = html! {
                    @if !prompt.is_empty() { p.query dir="auto" { (prompt) } }
                    div.passage dir="auto" tabindex="0" role="region" aria-label={ "Text of " (id) } { (text) }
                };
                // The first document of each split is unfolded.
                (Card { prefix: split.name(), id, about: &about, open: number == 0 }.render(&content, None))
            }
        }
    };
    page.section("documents", "Sample documents", documents);
    page.section("manifest", "Manifest", facts_of(manifest));
    Ok(page)
}

fn contents(stats: &DocumentStats, manifest: &Manifest, rejects: &Rejects) -> Markup {
    let all = |of: fn(&SplitManifest) -> u64| manifest.splits.values().map(of).sum::<u64>();
    let copies: u64 = stats.splits.iter().map(|split| split.exact_duplicates.documents as u64).sum();
    let near: u64 = stats.splits.iter().map(|split| split.near_duplicates.documents as u64).sum();
    let read: u64 = manifest.raw_files.iter().map(|file| file.records as u64).sum();
    let main = [
        Tile::new("Documents", count(all(|split| split.rows as u64)), format!("of {} records read", count(read))),
        Tile::new("Tokens", count(all(|split| split.tokens as u64)), "prompts and texts".to_owned()),
        Tile::new("Rejects", count(rejects.records()), format!("records, of {} read", count(read))),
        Tile::new("Copies", count(copies), format!("exact, and {} near ones", count(near))),
    ];
    html! { (tiles(&main, &of_files(manifest))) (splits(stats)) }
}

/// Renders the key figures with a column for each split.
fn splits(stats: &DocumentStats) -> Markup {
    let rows: [Figure<'_, DocumentSplit>; 8] = [
        ("documents", &|split| count(split.documents as u64)),
        ("with a prompt", &|split| count(split.prompts as u64)),
        ("tokens", &|split| count(split.tokens as u64)),
        ("tokens per document, mean", &|split| mean(split.tokens_per_document.mean)),
        ("sentences per document, mean", &|split| mean(split.sentences_per_document.mean)),
        ("unknown tokens ([UNK])", &|split| rare(split.unknown.share)),
        ("exact duplicates", &|split| count(split.exact_duplicates.documents as u64)),
        ("near duplicates", &|split| count(split.near_duplicates.documents as u64)),
    ];
    figures(&stats.splits, |split| split.split, &rows)
}

/// Sources that are listed, each with its number of documents.
fn sources(split: &DocumentSplit) -> Vec<(String, u64)> {
    split.sources.iter().map(|source| (source.name.clone(), source.documents as u64)).collect()
}

fn copies(stats: &DocumentStats) -> Markup {
    let examples =
        |copies: &Copies| html! { @for (i, id) in copies.example_ids.iter().enumerate() { @if i > 0 { ", " } code { (id) } } };
    let shared = &stats.in_train_and_val;
    html! {
        @if shared.documents > 0 {
            p.warning {
                strong { (count(shared.documents as u64)) " documents of val are also in train" } ", for example " (examples(shared))
                ". They make the loss on val too low."
            }
        }
        @for split in &stats.splits {
            @for (name, copies) in [("exact", &split.exact_duplicates), ("near", &split.near_duplicates)] {
                @if copies.documents > 0 {
                    p { (split.split) ": " (count(copies.documents as u64)) " " (name) " duplicates of earlier documents, for example " (examples(copies)) "." }
                } @else { p { (split.split) ": no " (name) " duplicates." } }
            }
        }
        p.note { "Exact duplicates have the same prompt and text; " code { "glm-prep ingest --dedup exact" } " drops them. Near duplicates share most of their text." }
    }
}

/// A document of the page.
struct Sample {
    id: String,
    tokens: u64,
    /// Beginning of the prompt; empty if there is none.
    prompt: String,
    /// Beginning of the text.
    text: String,
}

/// Reads some documents at equal distances, starting with the first one.
fn sample(shards: &Path, split: &SplitManifest) -> Result<Vec<Sample>, StatsError> {
    sampled(shards, split, MAX_SAMPLES, |batch| {
        let view = DocumentView::try_new(batch)?;
        Ok(Sample {
            id: view.example_id(0).to_owned(),
            tokens: view.num_tokens(0) as u64,
            prompt: beginning(view.prompt(0).unwrap_or_default(), SAMPLE_CHARS),
            text: beginning(view.text(0).unwrap_or_default(), SAMPLE_CHARS),
        })
    })
}
