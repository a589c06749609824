//! Summaries of a run, as text and as JSON.

use std::fmt;
use std::path::PathBuf;
use std::time::Instant;

use glm_schemas::manifest::{Manifest, Split, SplitManifest, TaskName};
use glm_support::memory;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::options::IngestOptions;
use super::reasons::{Reasons, RejectReason};
use super::stages::{StageSeconds, Stages};
use crate::shard::publish::REJECTS_FILE;
use crate::source::recognise::FormatName;

/// Summary of a data set.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// Folder of the shards; `None` in a dry run.
    pub shards: Option<PathBuf>,
    /// Fingerprint of the data set; `None` in a dry run.
    pub fingerprint: Option<String>,
    /// Format of the raw data.
    pub format: String,
    /// Evidence from which the format was detected; `None` if it was given.
    pub format_signs: Option<String>,
    /// Counts per split.
    pub splits: Vec<SplitSummary>,
    /// Splits without raw data.
    pub missing: Vec<Split>,
    /// List of rejected records; `None` if there are none.
    pub rejects: Option<PathBuf>,
    /// The most frequent reasons of rejects.
    pub reject_reasons: Vec<RejectReason>,
    /// Number of rejects with other reasons.
    pub other_rejects: usize,
    /// Wall time in seconds.
    pub seconds: f64,
    /// Rows per second, over the whole run.
    #[serde(flatten)]
    pub rate: RowRate,
    /// Tokens per second, over the whole run.
    pub tokens_per_second: f64,
    /// Raw bytes per second, over the whole run.
    pub raw_bytes_per_second: f64,
    /// Number of threads.
    pub threads: usize,
    /// True if the published data set was up to date, so that nothing was written.
    pub unchanged: bool,
    /// Sentence for people that says why nothing was written; empty otherwise.
    #[serde(skip)]
    pub unchanged_reason: &'static str,
    /// Peak resident memory of the process; `None` if the operating system does not report it.
    pub peak_memory_bytes: Option<u64>,
    /// Time per stage.
    pub stages: StageSeconds,
}

/// Rows per second. As JSON, the key names the kind of the rows: `questions_per_second`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RowRate {
    /// Kind of the rows.
    pub task: TaskName,
    /// Rows per second.
    pub per_second: f64,
}

impl Serialize for RowRate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(&format!("{}_per_second", self.task.rows()), &self.per_second)?;
        map.end()
    }
}

/// Counts of a split. As JSON, it has only the counts that apply to the kind of the rows.
#[derive(Debug, Clone)]
pub struct SplitSummary {
    /// Kind of the rows.
    pub task: TaskName,
    /// The split.
    pub split: Split,
    /// Names of the raw files.
    pub files: Vec<String>,
    /// Decompressed size of the raw files.
    pub raw_bytes: u64,
    /// Number of records.
    pub records: usize,
    /// Number of records that were rejected in whole or in part.
    pub rejected_records: usize,
    /// Number of questions rejected from records that are not rejected as a whole.
    pub rejected_questions: usize,
    /// Number of documents that the filters of the format left out.
    pub left_out: usize,
    /// Number of documents that were dropped because an earlier one has the same text.
    pub dropped: usize,
    /// Number of rows.
    pub questions: usize,
    /// Number of rows with a single choice.
    pub single_choice_questions: usize,
    /// Number of rows in which several choices have the same tokens.
    pub indistinguishable_questions: usize,
    /// In the validation split, the number of passages that are also in the training split.
    pub passages_in_train: usize,
    /// In the validation split, the number of rows whose passage or text is also in the training split.
    pub questions_in_train: usize,
    /// Number of choices of all rows.
    pub choices: usize,
    /// Number of tokens of all rows, without truncation.
    pub tokens: usize,
    /// Number of shards.
    pub shards: usize,
    /// Size of the shards.
    pub shard_bytes: u64,
    /// Seconds for reading, tokenizing and sorting.
    pub seconds: f64,
    /// Rows per second of that time.
    pub questions_per_second: f64,
}

impl Serialize for SplitSummary {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("split", &self.split)?;
        map.serialize_entry("files", &self.files)?;
        map.serialize_entry("raw_bytes", &self.raw_bytes)?;
        map.serialize_entry("records", &self.records)?;
        map.serialize_entry("rejected_records", &self.rejected_records)?;
        match self.task {
            TaskName::Cloze => {
                map.serialize_entry("rejected_questions", &self.rejected_questions)?;
                map.serialize_entry("questions", &self.questions)?;
                map.serialize_entry("single_choice_questions", &self.single_choice_questions)?;
                map.serialize_entry("indistinguishable_questions", &self.indistinguishable_questions)?;
                map.serialize_entry("passages_in_train", &self.passages_in_train)?;
                map.serialize_entry("questions_in_train", &self.questions_in_train)?;
                map.serialize_entry("choices", &self.choices)?;
            }
            TaskName::Seq2seq => {
                map.serialize_entry("left_out", &self.left_out)?;
                map.serialize_entry("rejected_pairs", &self.rejected_questions)?;
                map.serialize_entry("pairs", &self.questions)?;
                map.serialize_entry("pairs_in_train", &self.questions_in_train)?;
            }
            TaskName::Text => {
                map.serialize_entry("left_out", &self.left_out)?;
                map.serialize_entry("dropped", &self.dropped)?;
                map.serialize_entry("documents", &self.questions)?;
                map.serialize_entry("documents_in_train", &self.questions_in_train)?;
            }
        }
        map.serialize_entry("tokens", &self.tokens)?;
        map.serialize_entry("shards", &self.shards)?;
        map.serialize_entry("shard_bytes", &self.shard_bytes)?;
        map.serialize_entry("seconds", &self.seconds)?;
        map.serialize_entry(&format!("{}_per_second", self.task.rows()), &self.questions_per_second)?;
        map.end()
    }
}

impl SplitSummary {
    /// Returns the counts that a manifest records; the fields that it does not record are 0.
    fn of_manifest(manifest: &Manifest, split: Split, content: &SplitManifest) -> Self {
        let raw: Vec<_> = manifest.raw_files.iter().filter(|raw| raw.split == split).collect();
        Self {
            task: manifest.task,
            split,
            left_out: 0,
            dropped: 0,
            files: raw.iter().map(|raw| raw.file.clone()).collect(),
            raw_bytes: raw.iter().map(|raw| raw.bytes).sum(),
            records: raw.iter().map(|raw| raw.records).sum(),
            rejected_records: raw.iter().map(|raw| raw.rejects).sum(),
            rejected_questions: 0,
            single_choice_questions: 0,
            indistinguishable_questions: 0,
            passages_in_train: 0,
            questions_in_train: 0,
            questions: content.rows,
            choices: content.choices.unwrap_or(0),
            tokens: content.tokens,
            shards: content.shards.len(),
            shard_bytes: content.shards.iter().map(|shard| shard.bytes).sum(),
            seconds: 0.0,
            questions_per_second: 0.0,
        }
    }
}

impl Summary {
    /// Returns the summary of a data set that took from `started` until now; see [`SplitSummary::of_manifest`].
    pub(super) fn of_manifest(
        manifest: &Manifest,
        options: &IngestOptions,
        reasons: &Reasons,
        stages: &Stages,
        started: Instant,
    ) -> Self {
        let (reject_reasons, other_rejects) = reasons.most_frequent();
        let splits = manifest.splits.iter();
        let splits: Vec<_> = splits.map(|(&split, content)| SplitSummary::of_manifest(manifest, split, content)).collect();
        let seconds = started.elapsed().as_secs_f64();
        let per_second = |count: fn(&SplitSummary) -> u64| splits.iter().map(count).sum::<u64>() as f64 / seconds;
        let shards = options.shards();
        let is_rejected = splits.iter().any(|split| split.rejected_records > 0);
        Self {
            fingerprint: (!options.dry_run).then(|| manifest.fingerprint.clone()),
            format_signs: FormatName::named(&manifest.settings.format)
                .filter(|_| options.format.is_none())
                .map(|format| format.format().signs().to_owned()),
            format: manifest.settings.format.clone(),
            missing: Split::ALL.into_iter().filter(|split| !manifest.splits.contains_key(split)).collect(),
            rejects: (is_rejected && !options.dry_run).then(|| shards.join(REJECTS_FILE)),
            reject_reasons,
            other_rejects,
            seconds,
            rate: RowRate { task: manifest.task, per_second: per_second(|split| split.questions as u64) },
            tokens_per_second: per_second(|split| split.tokens as u64),
            raw_bytes_per_second: per_second(|split| split.raw_bytes),
            threads: options.threads.get(),
            unchanged: false,
            unchanged_reason: "",
            peak_memory_bytes: memory::peak_resident_bytes(),
            stages: stages.seconds(),
            shards: (!options.dry_run).then_some(shards),
            splits,
        }
    }

    /// Returns the number of records that were rejected in whole or in part.
    pub fn rejected_records(&self) -> usize {
        self.splits.iter().map(|split| split.rejected_records).sum()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.rate.task.rows();
        // Only questions have choices.
        let choices = |text: String| if self.rate.task == TaskName::Cloze { format!(" {text:>10}") } else { String::new() };
        writeln!(
            f,
            "{:<6} {:>9} {:>10}{} {:>12} {:>8} {:>6} {:>9}",
            "split",
            "records",
            rows,
            choices("choices".to_owned()),
            "tokens",
            "rejected",
            "shards",
            "size"
        )?;
        for split in &self.splits {
            writeln!(
                f,
                "{:<6} {:>9} {:>10}{} {:>12} {:>8} {:>6} {:>9}",
                split.split.name(),
                split.records,
                split.questions,
                choices(split.choices.to_string()),
                split.tokens,
                split.rejected_records,
                split.shards,
                size(split.shard_bytes)
            )?;
        }
        for split in &self.missing {
            writeln!(f, "{:<6} no data", split.name())?;
        }
        if self.unchanged {
            writeln!(f, "{}", self.unchanged_reason)?;
            return self.shards.iter().try_for_each(|shards| writeln!(f, "data set: {}", shards.display()));
        }
        writeln!(
            f,
            "{:.1} s with {} threads: {:.0} {rows}/s, {:.0} tokens/s, {}/s raw",
            self.seconds,
            self.threads,
            self.rate.per_second,
            self.tokens_per_second,
            size(self.raw_bytes_per_second as u64)
        )?;
        match &self.format_signs {
            Some(signs) => writeln!(f, "format {}, detected by {signs}", self.format)?,
            None => writeln!(f, "format {}", self.format)?,
        }
        self.fmt_left_out(f)?;
        self.fmt_rejects(f)?;
        match &self.shards {
            Some(shards) => writeln!(f, "written to {}", shards.display()),
            None => writeln!(f, "dry run: nothing written"),
        }
    }
}

impl Summary {
    fn fmt_left_out(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sum = |of: fn(&SplitSummary) -> usize| self.splits.iter().map(of).sum::<usize>();
        let (left_out, dropped) = (sum(|split| split.left_out), sum(|split| split.dropped));
        if left_out > 0 {
            let what = if self.rate.task == TaskName::Text { "document" } else { "question" };
            writeln!(f, "{} left out by the filters of format {}", counted(left_out, what), self.format)?;
        }
        if dropped > 0 {
            writeln!(f, "{} dropped: an earlier one has the same text", counted(dropped, "document"))?;
        }
        Ok(())
    }

    fn fmt_rejects(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rejected = self.rejected_records();
        if rejected == 0 {
            return Ok(());
        }
        write!(f, "{} rejected", counted(rejected, "record"))?;
        let questions: usize = self.splits.iter().map(|split| split.rejected_questions).sum();
        if questions > 0 && self.rate.task == TaskName::Cloze {
            write!(f, " in whole or in part, among them {}", counted(questions, "single question"))?;
        }
        match &self.rejects {
            Some(rejects) => writeln!(f, ", listed in {}:", rejects.display())?,
            None => writeln!(f, " (-v lists all):")?,
        }
        self.reject_reasons.iter().try_for_each(|reason| writeln!(f, "  {reason}"))?;
        if self.other_rejects > 0 { writeln!(f, "  {} × other reasons", self.other_rejects) } else { Ok(()) }
    }

    /// Returns sentences about rows that are used but may not be meant so.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for split in &self.splits {
            let name = split.split;
            if split.task == TaskName::Seq2seq {
                if split.questions_in_train > 0 {
                    let pairs = counted(split.questions_in_train, "pair");
                    warnings.push(format!("{pairs} of {name} have a source of train; the metrics on {name} will be too high"));
                }
                continue;
            }
            if split.task == TaskName::Text {
                if split.questions_in_train > 0 {
                    let documents = counted(split.questions_in_train, "document");
                    warnings.push(format!("{name} and train share {documents}; the loss on {name} will be too low"));
                }
                continue;
            }
            if split.passages_in_train > 0 {
                let passages = counted(split.passages_in_train, "passage");
                let questions = counted(split.questions_in_train, "question");
                warnings.push(format!(
                    "{name} and train share {passages} ({questions} of {name}); accuracy on {name} will be too high"
                ));
            }
            if split.single_choice_questions > 0 {
                let questions = counted(split.single_choice_questions, "question");
                warnings.push(format!("{name} has {questions} with a single choice, which is always right"));
            }
            if split.indistinguishable_questions > 0 {
                let questions = counted(split.indistinguishable_questions, "question");
                warnings.push(format!("{name} has {questions} with choices of the same tokens, which no model can tell apart"));
            }
        }
        warnings
    }
}

/// Formats a number with its noun.
fn counted(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

fn size(bytes: u64) -> String {
    let bytes = bytes as f64;
    match bytes {
        ..1e6 => format!("{:.1} kB", bytes / 1e3),
        ..1e9 => format!("{:.1} MB", bytes / 1e6),
        _ => format!("{:.2} GB", bytes / 1e9),
    }
}
