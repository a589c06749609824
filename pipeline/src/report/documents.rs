//! Report page of a data set of documents.

use std::fs::File;
use std::path::Path;

use glm_schemas::document::DocumentView;
use glm_schemas::manifest::{Manifest, SplitManifest};
use glm_support::page::document::Document;
use glm_support::page::number::{bytes, count, mean};
use glm_support::page::table::{self, Column, Tile, folded, table, text, tiles};
use maud::{Markup, html};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::counts::{Quantity, histograms};
use super::error::ReportError;
use super::page::{facts_of, lead, name};
use super::rejects::Rejects;
use super::rows::locations;
use crate::inspect::shorten;
use crate::stats::{Copies, DocumentSplit, DocumentStats, StatsError};

/// Maximum number of sample documents per split.
const MAX_SAMPLES: usize = 4;
/// Maximum length of a sample's text, in characters.
const SAMPLE_CHARS: usize = 1_500;
/// Longer lists of sources are folded.
const MAX_UNFOLDED: usize = 10;

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
pub(super) fn of(stats: &DocumentStats, manifest: &Manifest, shards: &Path) -> Result<Document, ReportError> {
    let rejects = Rejects::read(shards)?;
    let mut page = Document::new("Data set", name(shards), lead(manifest));
    page.section("contents", "Contents", contents(stats, manifest, &rejects));
    let lengths = html! { @for quantity in &QUANTITIES { div.charts.pairs { (histograms(quantity, &stats.splits, |split| split.split)) } } };
    page.section("lengths", "Lengths", lengths);
    page.section("sources", "Sources", html! { div.charts { @for split in &stats.splits { (sources(split)) } } });
    page.section("copies", "Copies", copies(stats));
    page.section("rejects", "Rejects", rejects.section());
    let mut samples = Vec::new();
    for (split, content) in &manifest.splits {
        samples.extend(sample(shards, content)?.into_iter().map(|(about, text)| (format!("{split}, {about}"), text)));
    }
    let documents = html! {
        @for (about, text) in samples { h3 { (about) } p style="white-space: pre-line" { (text) } }
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
    let size = all(|split| split.shards.iter().map(|shard| shard.bytes).sum());
    let main = [
        Tile::new("Documents", count(all(|split| split.rows as u64)), format!("of {} records read", count(read))),
        Tile::new("Tokens", count(all(|split| split.tokens as u64)), "prompts and texts".to_owned()),
        Tile::new("Rejects", count(rejects.records()), format!("records, of {} read", count(read))),
        Tile::new("Copies", count(copies), format!("exact, and {} near ones", count(near))),
    ];
    let minor = [
        Tile::new("shards", count(all(|split| split.shards.len() as u64)), bytes(size)),
        Tile::new("vocabulary", count(manifest.tokenizer.vocab_size as u64), "tokens".to_owned()),
    ];
    html! { (tiles(&main, &minor)) (splits(stats)) }
}

/// Name of a key figure, and its value for a split.
type Figure<'a> = (&'a str, &'a dyn Fn(&DocumentSplit) -> String);

/// Renders the key figures with a column for each split.
fn splits(stats: &DocumentStats) -> Markup {
    let mut columns = vec![("", Column::Heading)];
    columns.extend(stats.splits.iter().map(|split| (split.split.name(), Column::Number)));
    let rows: [Figure<'_>; 8] = [
        ("documents", &|split| count(split.documents as u64)),
        ("with a prompt", &|split| count(split.prompts as u64)),
        ("tokens", &|split| count(split.tokens as u64)),
        ("tokens per document, mean", &|split| mean(split.tokens_per_document.mean)),
        ("sentences per document, mean", &|split| mean(split.sentences_per_document.mean)),
        ("unknown tokens ([UNK])", &|split| format!("{:.3} %", 100.0 * split.unknown.share)),
        ("exact duplicates", &|split| count(split.exact_duplicates.documents as u64)),
        ("near duplicates", &|split| count(split.near_duplicates.documents as u64)),
    ];
    let row = |(name, value): Figure<'_>| -> Vec<Markup> {
        [text(name)].into_iter().chain(stats.splits.iter().map(|split| text(value(split)))).collect()
    };
    table("Splits", &columns, &rows.map(row))
}

fn sources(split: &DocumentSplit) -> Markup {
    let rows: Vec<(String, u64)> = split.sources.iter().map(|source| (source.name.clone(), source.documents as u64)).collect();
    let (first, more) = rows.split_at(rows.len().min(MAX_UNFOLDED));
    let unlisted = split.distinct_sources - split.sources.len();
    let bars = |name: &str, rows: &[(String, u64)]| {
        table::bars(&format!("{name} of {}", split.split), ["source", "documents"], rows, split.documents as u64)
    };
    html! {
        figure.chart id={ (split.split) "-sources" } {
            figcaption { (split.split) ", " (count(split.distinct_sources as u64)) @if split.distinct_sources == 1 { " source" } @else { " sources" } }
            (bars("Sources", first))
            @if !more.is_empty() {
                (folded(format!("{} more sources", count(more.len() as u64)), &bars("Further sources", more)))
            }
            @if unlisted > 0 {
                p.note {
                    (count(unlisted as u64)) " further sources are not on the page; all of them: "
                    code { "glm-prep inspect DIR --sql \"select source, count(source) as documents from shards group by source\"" }
                }
            }
        }
    }
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

/// Reads some documents at equal distances, starting with the first one: description and beginning of the text.
fn sample(shards: &Path, split: &SplitManifest) -> Result<Vec<(String, String)>, StatsError> {
    let mut documents = Vec::new();
    for (shard, row) in locations(split, MAX_SAMPLES) {
        let path = shard.path(shards);
        let damaged = |source| StatsError::Parquet { path: path.clone(), source };
        let file = File::open(&path).map_err(|source| StatsError::Read { path: path.clone(), source })?;
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(damaged)?;
        let reader = builder.with_offset(row).with_limit(1).with_batch_size(1).build().map_err(damaged)?;
        for batch in reader {
            let batch = batch.map_err(|source| StatsError::Arrow { path: path.clone(), source })?;
            let view = DocumentView::try_new(&batch).map_err(|source| StatsError::NotAShard { path: path.clone(), source })?;
            if !view.is_empty() {
                let about = format!("{}, {} tokens", view.example_id(0), count(view.num_tokens(0) as u64));
                documents.push((about, shorten(view.text(0).unwrap_or_default(), SAMPLE_CHARS)));
            }
        }
    }
    Ok(documents)
}
