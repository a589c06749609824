//! Report page of a data set.

use std::path::Path;

use glm_schemas::manifest::{Manifest, RawFile, Shard, Split, SplitManifest};
use glm_support::page::document::Document;
use glm_support::page::number::{bytes, count, value};
use glm_support::page::question::legend;
use glm_support::page::table::{Column, Tile, facts, table, text, tiles};
use maud::{Markup, html};

use super::error::ReportError;
use super::rejects::Rejects;
use super::{counts, rows};
use crate::stats::{SplitStats, Stats};

/// Maximum number of sample questions per split.
const MAX_SAMPLES: usize = 4;
/// Maximum number of listed files; CBT and CLOTH have thousands.
const MAX_FILES: usize = 50;

/// Creates the page.
pub(super) fn of(stats: &Stats, manifest: &Manifest, shards: &Path) -> Result<Document, ReportError> {
    let rejects = Rejects::read(shards)?;
    let lead = html! {
        p { "Written by " (manifest.tool) " from raw data in the format " code { (manifest.settings.format) } "." }
        p { "Fingerprint " code { (manifest.fingerprint) } }
    };
    let mut page = Document::new(format!("Data set {}", name(shards)), lead);
    page.section("contents", "Contents", contents(stats, manifest, &rejects));
    for split in &stats.splits {
        page.section(split.split.name(), heading(split.split), counts::split(split, stats.max_seq_len));
    }
    if manifest.splits.contains_key(&Split::Train) && manifest.splits.contains_key(&Split::Val) {
        page.section("shared", "Shared passages", counts::shared(&stats.in_train_and_val));
    }
    page.section("rejects", "Rejects", rejects.section());
    let mut samples = Vec::new();
    for (&split, content) in &manifest.splits {
        samples.push((split, rows::sample(shards, content, &manifest.blank, MAX_SAMPLES)?));
    }
    let questions = html! {
        (legend(false))
        @for (split, questions) in &samples {
            @for question in questions { div.sample { p.note { "split " (split) } (question.render()) } }
        }
    };
    page.section("questions", "Sample questions", questions);
    page.section("manifest", "Manifest", facts_of(manifest));
    Ok(page)
}

fn heading(split: Split) -> &'static str {
    match split {
        Split::Train => "Training split",
        Split::Val => "Validation split",
        Split::Test => "Test split",
    }
}

/// Returns the name of the ingested folder.
fn name(shards: &Path) -> String {
    let path = shards.canonicalize().unwrap_or_else(|_| shards.to_owned());
    let named = match path.file_name() {
        Some(name) if name == glm_schemas::manifest::SHARDS_FOLDER => path.parent().and_then(Path::file_name),
        name => name,
    };
    named.unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

fn contents(stats: &Stats, manifest: &Manifest, rejects: &Rejects) -> Markup {
    let all = |of: fn(&SplitManifest) -> u64| manifest.splits.values().map(of).sum::<u64>();
    let questions = all(|split| split.rows as u64);
    let size = all(|split| split.shards.iter().map(|shard| shard.bytes).sum());
    let passages: u64 = stats.splits.iter().map(|split| split.passages as u64).sum();
    let choices = all(|split| split.choices as u64) as f64 / questions.max(1) as f64;
    let list = [
        Tile::new("Questions", count(questions), format!("about {} passages", count(passages))),
        Tile::new("Choices per question", value(choices), "on average".to_owned()),
        Tile::new("Tokens", count(all(|split| split.tokens as u64)), "contexts and choices, not truncated".to_owned()),
        Tile::new("Shards", count(all(|split| split.shards.len() as u64)), bytes(size)),
        Tile::new("Rejects", count(rejects.records()), "rejected records or questions".to_owned()),
        Tile::new("In train and val", count(stats.in_train_and_val.passages as u64), "shared passages".to_owned()),
    ];
    let row = |split: &SplitStats| {
        let content = manifest.splits.get(&split.split);
        let size = content.map_or(0, |content| content.shards.iter().map(|shard| shard.bytes).sum());
        vec![
            text(split.split.name()),
            text(count(split.questions as u64)),
            text(count(split.passages as u64)),
            text(value(split.choices.mean)),
            text(value(split.context.mean)),
            text(count(content.map_or(0, |content| content.shards.len() as u64))),
            text(bytes(size)),
        ]
    };
    let columns = [
        ("split", Column::Text),
        ("questions", Column::Number),
        ("passages", Column::Number),
        ("choices per question", Column::Number),
        ("context tokens", Column::Number),
        ("shards", Column::Number),
        ("size", Column::Number),
    ];
    html! { (tiles(&list)) (table("Splits", &columns, &stats.splits.iter().map(row).collect::<Vec<_>>())) }
}

fn facts_of(manifest: &Manifest) -> Markup {
    let settings = &manifest.settings;
    let tokenizer = &manifest.tokenizer;
    let list = [
        ("Schema version", text(count(manifest.schema_version.into()))),
        ("Tokenizer", text(format!("{}, {} tokens", tokenizer.name, count(tokenizer.vocab_size as u64)))),
        ("Tokenizer sha256", html! { code { (tokenizer.sha256) } }),
        (
            "Maximum sequence length",
            text(format!("{} tokens; longer questions are rejected", count(settings.max_seq_len as u64))),
        ),
        ("Rows per shard", text(count(settings.rows_per_shard as u64))),
        ("Rows per row group", text(count(settings.rows_per_group as u64))),
        ("Compression", text(&settings.compression)),
        (
            "Records read",
            text(
                settings.limit.map_or_else(|| "all".to_owned(), |limit| format!("the first {} per split", count(limit as u64))),
            ),
        ),
        ("Distractors", text(format!("at most {}, seed {}", count(settings.max_distractors as u64), settings.distractor_seed))),
    ];
    let raw = |file: &RawFile| {
        vec![
            html! { code { (file.file) } },
            text(file.split.name()),
            text(count(file.records as u64)),
            text(count(file.rejects as u64)),
            text(bytes(file.bytes)),
        ]
    };
    let raw_columns = [
        ("raw file", Column::Text),
        ("split", Column::Text),
        ("records", Column::Number),
        ("rejects", Column::Number),
        ("size", Column::Number),
    ];
    let raw_files: Vec<_> = manifest.raw_files.iter().take(MAX_FILES).map(raw).collect();
    let shard = |shard: &Shard| vec![html! { code { (shard.file) } }, text(count(shard.rows as u64)), text(bytes(shard.bytes))];
    let all_shards = || manifest.splits.values().flat_map(|split| &split.shards);
    let shards: Vec<_> = all_shards().take(MAX_FILES).map(shard).collect();
    html! {
        (facts(&list))
        (table("Raw files", &raw_columns, &raw_files))
        (more(manifest.raw_files.len(), "raw files"))
        (table("Shards", &[("shard", Column::Text), ("rows", Column::Number), ("size", Column::Number)], &shards))
        (more(all_shards().count(), "shards"))
    }
}

fn more(all: usize, what: &str) -> Markup {
    html! { @if all > MAX_FILES { p.note { "and " (count((all - MAX_FILES) as u64)) " more " (what) } } }
}
