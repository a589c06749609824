//! Report page of a data set.

use std::path::Path;

use glm_schemas::manifest::{Manifest, RawFile, Shard, SplitManifest};
use glm_support::page::document::Document;
use glm_support::page::number::{bytes, count, mean, percent, rare};
use glm_support::page::question::{Question, legend};
use glm_support::page::table::{Column, Tile, facts, folded, table, text, tiles};
use maud::{Markup, html};

use super::counts::{self, Figure, figures};
use super::error::ReportError;
use super::rejects::Rejects;
use super::rows;
use crate::stats::{SplitStats, Stats};

/// Maximum number of sample questions per split.
const MAX_SAMPLES: usize = 4;
/// Maximum number of listed files; CBT and CLOTH have thousands.
const MAX_FILES: usize = 50;

/// Creates the page.
pub(super) fn of(stats: &Stats, manifest: &Manifest, shards: &Path, name: &str) -> Result<Document, ReportError> {
    let rejects = Rejects::read(shards)?;
    let mut page = Document::new("Data set", name, lead(manifest));
    page.section("contents", "Contents", contents(stats, manifest, &rejects));
    page.section("lengths", "Lengths", counts::lengths(stats, manifest.settings.max_seq_len.unwrap_or(0)));
    page.section("sources", "Sources", counts::sources(&stats.splits));
    page.section("shared", "Repeated passages", counts::shared(stats));
    page.section("rejects", "Rejects", rejects.section());
    let mut samples = Vec::new();
    for (&split, content) in &manifest.splits {
        samples.push((split, rows::sample(shards, content, &manifest.blank, MAX_SAMPLES)?));
    }
    let questions = html! {
        (legend(false))
        @for (split, questions) in samples {
            @for (number, question) in questions.into_iter().enumerate() {
                // The first question of each split is unfolded.
                (Question { about: format!("{split}, {}", question.about), ..question }.render(split.name(), number == 0))
            }
        }
    };
    page.section("questions", "Sample questions", questions);
    page.section("manifest", "Manifest", facts_of(manifest));
    Ok(page)
}

/// Renders the beginning of the page.
pub(super) fn lead(manifest: &Manifest) -> Markup {
    html! {
        p { "Written by " (manifest.tool) " from raw data in the format " code { (manifest.settings.format) }
            ", with the tokenizer " (manifest.tokenizer.name) "." }
        p { "Fingerprint " code { (manifest.fingerprint) } }
    }
}

fn contents(stats: &Stats, manifest: &Manifest, rejects: &Rejects) -> Markup {
    let all = |of: fn(&SplitManifest) -> u64| manifest.splits.values().map(of).sum::<u64>();
    let questions = all(|split| split.rows as u64);
    let passages: u64 = stats.splits.iter().map(|split| split.passages as u64).sum();
    let choices = all(|split| split.choices.unwrap_or(0) as u64) as f64 / questions.max(1) as f64;
    let read: u64 = manifest.raw_files.iter().map(|file| file.records as u64).sum();
    let shared = &stats.in_train_and_val;
    let main = [
        Tile::new("Questions", count(questions), format!("about {} passages", count(passages))),
        Tile::new("Tokens", count(all(|split| split.tokens as u64)), "contexts and choices, not truncated".to_owned()),
        Tile::new("Rejects", count(rejects.records()), format!("records or questions, of {} records read", count(read))),
        Tile::new("In train and val", count(shared.passages as u64), "shared passages".to_owned()),
    ];
    let mut minor = vec![
        Tile::new("Choices per question", mean(choices), "mean".to_owned()),
        Tile::new(
            "Sequence length",
            count(manifest.settings.max_seq_len.unwrap_or(0) as u64),
            "tokens, for which it was ingested".to_owned(),
        ),
    ];
    minor.extend(of_files(manifest));
    html! { (tiles(&main, &minor)) (splits(stats, manifest)) }
}

/// Tiles about the files of a data set.
pub(super) fn of_files(manifest: &Manifest) -> [Tile; 2] {
    let shards = || manifest.splits.values().flat_map(|split| &split.shards);
    [
        Tile::new("Shards", count(shards().count() as u64), bytes(shards().map(|shard| shard.bytes).sum())),
        Tile::new("Vocabulary", count(manifest.tokenizer.vocab_size as u64), "tokens".to_owned()),
    ]
}

/// Renders the key figures with a column for each split, which fits a phone.
fn splits(stats: &Stats, manifest: &Manifest) -> Markup {
    let shards =
        |split: &SplitStats| manifest.splits.get(&split.split).map_or(&[] as &[Shard], |content| content.shards.as_slice());
    let truncated = format!("truncated at {} tokens", count(stats.max_seq_len as u64));
    let rows: [Figure<'_, SplitStats>; 10] = [
        ("questions", &|split| count(split.questions as u64)),
        ("passages", &|split| count(split.passages as u64)),
        ("passages, distinct text", &|split| count(split.distinct_passages as u64)),
        ("context tokens, mean", &|split| mean(split.context.mean)),
        ("choices per question, mean", &|split| mean(split.choices.mean)),
        ("tokens per choice, mean", &|split| mean(split.choice.mean)),
        (&truncated, &|split| percent(split.truncation.share)),
        ("unknown tokens ([UNK])", &|split| rare(split.unknown.share)),
        ("shards", &|split| count(shards(split).len() as u64)),
        ("size", &|split| bytes(shards(split).iter().map(|shard| shard.bytes).sum())),
    ];
    figures(&stats.splits, |split| split.split, &rows)
}

pub(super) fn facts_of(manifest: &Manifest) -> Markup {
    let settings = &manifest.settings;
    let tokenizer = &manifest.tokenizer;
    let mut list = vec![
        ("Schema version", text(count(manifest.schema_version.into()))),
        ("Tokenizer", text(format!("{}, {} tokens", tokenizer.name, count(tokenizer.vocab_size as u64)))),
        ("Tokenizer sha256", html! { code { (tokenizer.sha256) } }),
        ("Rows per shard", text(count(settings.rows_per_shard as u64))),
        ("Rows per row group", text(count(settings.rows_per_group as u64))),
        ("Compression", text(&settings.compression)),
        (
            "Records read",
            text(
                settings.limit.map_or_else(|| "all".to_owned(), |limit| format!("the first {} per split", count(limit as u64))),
            ),
        ),
    ];
    let longest = settings.max_seq_len.map(|max| format!("{} tokens; longer questions are rejected", count(max as u64)));
    let distractors = settings.max_distractors.zip(settings.distractor_seed);
    let distractors = distractors.map(|(max, seed)| format!("at most {}, seed {seed}", count(max as u64)));
    for (name, value) in [
        ("Maximum sequence length", longest),
        ("Distractors", distractors),
        ("Column of the text", settings.column.clone()),
        ("Copies dropped", settings.dedup.clone()),
        ("Part of long sources that is kept", settings.keep.map(|keep| keep.name().to_owned())),
    ] {
        list.extend(value.map(|value| (name, text(value))));
    }
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
    let raw_files = html! {
        (table("Raw files", &raw_columns, &raw_files)) (more(manifest.raw_files.len(), "raw files"))
    };
    let shards = html! {
        (table("Shards", &[("shard", Column::Text), ("rows", Column::Number), ("size", Column::Number)], &shards))
        (more(all_shards().count(), "shards"))
    };
    html! {
        (facts(&list))
        (folded(format!("Raw files ({})", count(manifest.raw_files.len() as u64)), &raw_files))
        (folded(format!("Shards ({})", count(all_shards().count() as u64)), &shards))
    }
}

fn more(all: usize, what: &str) -> Markup {
    html! { @if all > MAX_FILES { p.note { "and " (count((all - MAX_FILES) as u64)) " more " (what) } } }
}
