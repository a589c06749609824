//! What a run did, for people and for programs.

use std::fmt;
use std::path::PathBuf;

use glm_schemas::manifest::Split;
use serde::Serialize;

use super::stages::StageSeconds;

/// What came of a run.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum Outcome {
    /// A data set, or in a dry run what it would hold.
    Done(Summary),
    /// A part of one.
    Part(PartSummary),
}

impl Outcome {
    /// What the run did, unless it prepared a part.
    pub fn done(self) -> Option<Summary> {
        match self {
            Self::Done(summary) => Some(summary),
            Self::Part(_) => None,
        }
    }
}

/// What a part of a shared ingest did.
#[derive(Debug, Clone, Serialize)]
pub struct PartSummary {
    /// Which part, for example `0/8`.
    pub partition: String,
    /// What it left for the merge.
    pub file: PathBuf,
    /// Records of the part.
    pub records: usize,
    /// It was there already, made of the same files with the same settings.
    pub reused: bool,
    /// Wall time.
    pub seconds: f64,
}

impl fmt::Display for PartSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { partition, file, records, reused, seconds } = self;
        let how = if *reused { "were there already" } else { "prepared" };
        writeln!(f, "part {partition}: {records} records {how} in {seconds:.1} s, in {}", file.display())?;
        writeln!(f, "when all parts are there, `glm-prep merge` makes the data set of them")
    }
}

/// What a run did.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// The folder of the shards; none in a dry run.
    pub shards: Option<PathBuf>,
    /// Fingerprint of the data set; none in a dry run.
    pub fingerprint: Option<String>,
    /// What was counted of every split that was there.
    pub splits: Vec<SplitSummary>,
    /// The splits that were not there.
    pub missing: Vec<Split>,
    /// The list of rejected records, if there is one.
    pub rejects: Option<PathBuf>,
    /// Wall time.
    pub seconds: f64,
    /// Rows (questions as examples) a second, over the whole run.
    pub questions_per_second: f64,
    /// Context and piece tokens a second, over the whole run.
    pub tokens_per_second: f64,
    /// Raw bytes a second, over the whole run.
    pub raw_bytes_per_second: f64,
    /// Threads that were used.
    pub threads: usize,
    /// Nothing was written: the published set is what would have been.
    pub unchanged: bool,
    /// The most memory that the process has held, where the system says so.
    pub peak_memory_bytes: Option<u64>,
    /// Where the time went.
    pub stages: StageSeconds,
}

/// What was counted of a split.
#[derive(Debug, Clone, Serialize)]
pub struct SplitSummary {
    /// The split.
    pub split: Split,
    /// The raw files.
    pub files: Vec<String>,
    /// Their size, unpacked.
    pub raw_bytes: u64,
    /// Their records.
    pub records: usize,
    /// Records of which something was rejected.
    pub rejected_records: usize,
    /// Questions that were rejected in records that are otherwise good.
    pub rejected_questions: usize,
    /// Rows written.
    pub questions: usize,
    /// Choices over all rows.
    pub choices: usize,
    /// Context and piece tokens over all rows, nothing truncated.
    pub tokens: usize,
    /// Parquet files written.
    pub shards: usize,
    /// Their size.
    pub shard_bytes: u64,
    /// Time spent reading, tokenizing and sorting the files.
    pub seconds: f64,
    /// Rows a second of that time.
    pub questions_per_second: f64,
}

impl Summary {
    /// Records of which something was rejected, over all splits.
    pub fn rejected_records(&self) -> usize {
        self.splits.iter().map(|split| split.rejected_records).sum()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<6} {:>9} {:>10} {:>10} {:>12} {:>8} {:>6} {:>9}",
            "split", "records", "questions", "choices", "tokens", "rejected", "shards", "size"
        )?;
        for split in &self.splits {
            writeln!(
                f,
                "{:<6} {:>9} {:>10} {:>10} {:>12} {:>8} {:>6} {:>9}",
                split.split.name(),
                split.records,
                split.questions,
                split.choices,
                split.tokens,
                split.rejected_records,
                split.shards,
                size(split.shard_bytes)
            )?;
        }
        for split in &self.missing {
            writeln!(f, "{:<6} there is no {split} data", split.name())?;
        }
        if self.unchanged {
            writeln!(
                f,
                "nothing has changed: raw files, settings and shards are as they were, every byte (--force ingests again)"
            )?;
            return self.shards.iter().try_for_each(|shards| writeln!(f, "left as it is in {}", shards.display()));
        }
        writeln!(
            f,
            "{:.1} s with {} threads: {:.0} questions/s, {:.0} tokens/s, {}/s raw",
            self.seconds,
            self.threads,
            self.questions_per_second,
            self.tokens_per_second,
            size(self.raw_bytes_per_second as u64)
        )?;
        if let Some(rejects) = &self.rejects {
            let questions: usize = self.splits.iter().map(|split| split.rejected_questions).sum();
            writeln!(
                f,
                "{} records rejected in whole or in part ({questions} single questions), listed in {}",
                self.rejected_records(),
                rejects.display()
            )?;
        }
        match &self.shards {
            Some(shards) => writeln!(f, "written to {}", shards.display()),
            None => writeln!(
                f,
                "dry run: nothing was written; {} records would be rejected in whole or in part (-v lists them)",
                self.rejected_records()
            ),
        }
    }
}

fn size(bytes: u64) -> String {
    let bytes = bytes as f64;
    match bytes {
        ..1e6 => format!("{:.1} kB", bytes / 1e3),
        ..1e9 => format!("{:.1} MB", bytes / 1e6),
        _ => format!("{:.2} GB", bytes / 1e9),
    }
}
