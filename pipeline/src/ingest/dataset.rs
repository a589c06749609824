//! Data set under construction: sorts the rows of each split, then writes and publishes all shards.

use std::collections::BTreeMap;
use std::time::Instant;

use glm_schemas::SCHEMA_VERSION;
use glm_schemas::manifest::{IngestSettings, MANIFEST_FILE, Manifest, RawFile, Shard, Split, SplitManifest, TaskName};
use glm_support::files::checksum::FileDigest;
use glm_support::files::progress::Progress;
use glm_text::tokenize::Tokenizer;

use super::error::IngestError;
use super::options::{IngestOptions, TOOL};
use super::order::{Counts, OrderedStage};
use super::rejects::RejectLog;
use super::report::Summary;
use super::spool::{Spool, SpoolWriter};
use super::stages::Stages;
use super::write;
use crate::choices::DISTRACTOR_SEED;
use crate::shard::publish::Staging;
use crate::shard::{self, WriteError};
use crate::source::recognise::FormatName;

/// A split whose rows are sorted and counted.
pub(super) struct SortedSplit {
    pub(super) split: Split,
    /// Names of the files.
    pub(super) files: Vec<String>,
    /// Digests of the files that were read; fewer than `files` if `--limit` was reached.
    pub(super) digests: Vec<FileDigest>,
    /// `None` in a dry run.
    pub(super) spool: Option<Spool>,
    pub(super) counts: Counts,
    pub(super) seconds: f64,
}

impl SortedSplit {
    /// Returns the rows to write; `None` in a dry run.
    fn rows(&self) -> Option<write::SplitRows<'_>> {
        Some(write::SplitRows { split: self.split, files: &self.files, spool: self.spool.as_ref()? })
    }
}

/// Builder of a data set, from sorted splits to published shards.
pub(super) struct DataSetBuilder<'a> {
    options: &'a IngestOptions,
    tokenizer: &'a Tokenizer,
    progress: &'a dyn Progress,
    started: Instant,
    /// `None` in a dry run.
    staging: Option<Staging>,
    rejects: RejectLog,
    pub(super) splits: Vec<SortedSplit>,
    /// Format of the raw files.
    pub(super) format: String,
    pub(super) stages: Stages,
}

impl<'a> DataSetBuilder<'a> {
    pub(super) fn new(
        options: &'a IngestOptions,
        tokenizer: &'a Tokenizer,
        progress: &'a dyn Progress,
        started: Instant,
    ) -> Result<Self, IngestError> {
        let staging = if options.dry_run {
            None
        } else {
            std::fs::create_dir_all(&options.dir).map_err(WriteError::io(&options.dir))?;
            Some(Staging::create(&options.dir)?)
        };
        let rejects = RejectLog::new(staging.as_ref().map(Staging::path));
        Ok(Self {
            options,
            tokenizer,
            progress,
            started,
            staging,
            rejects,
            splits: Vec::new(),
            format: String::new(),
            stages: Stages::default(),
        })
    }

    /// Returns the ordered stage for a split.
    pub(super) fn ordered_stage<'b>(&'b mut self, split: Split, files: &'b [String]) -> Result<OrderedStage<'b>, IngestError> {
        let spool = self.staging.as_ref().map(|staging| SpoolWriter::create(staging.path())).transpose()?;
        let files = files.iter().map(String::as_str).collect();
        Ok(OrderedStage::new(split, files, DISTRACTOR_SEED, spool, &mut self.rejects))
    }

    /// Writes the shards and publishes them.
    pub(super) fn publish(self) -> Result<Summary, IngestError> {
        self.check_limits()?;
        let Self { options, tokenizer, progress, started, staging, rejects, splits, format, stages } = self;
        let Some(staging) = staging else {
            let manifest = manifest(&splits, BTreeMap::new(), options, tokenizer, format);
            return Ok(summary(&splits, &manifest, options, &stages, started));
        };
        let rejects = rejects.finish()?;
        let plan: Vec<_> = splits.iter().filter_map(SortedSplit::rows).collect();
        let job = write::Job { splits: &plan, options, tokenizer, folder: &staging.data(), progress, stages: &stages };
        let shards = job.run()?;
        options.stop.check()?;
        let mut manifest = manifest(&splits, shards, options, tokenizer, format);
        manifest.rejects = rejects;
        shard::write_file(&staging.path().join(MANIFEST_FILE), manifest.to_json()?.as_bytes())?;
        staging.publish()?;
        Ok(summary(&splits, &manifest, options, &stages, started))
    }

    fn check_limits(&self) -> Result<(), IngestError> {
        let files = || self.splits.iter().flat_map(|split| &split.counts.files);
        let rejected = files().map(|file| file.rejected_records).sum();
        let records = files().map(|file| file.records).sum();
        if self.splits.iter().all(|split| split.counts.rows == 0) {
            let names: Vec<_> = self.splits.iter().flat_map(|split| &split.files).map(String::as_str).take(5).collect();
            return Err(IngestError::Empty { files: names.join(", "), rejected, first: self.rejects.first.clone() });
        }
        let limit = self.options.max_rejects;
        if !limit.allows(rejected, records) {
            let first = self.rejects.first.as_deref().unwrap_or_default();
            let details = format!("first rejected record: {first}; -v lists all");
            return Err(IngestError::TooManyRejects { rejected, records, limit, details });
        }
        Ok(())
    }
}

fn manifest(
    splits: &[SortedSplit],
    mut shards: BTreeMap<Split, Vec<Shard>>,
    options: &IngestOptions,
    tokenizer: &Tokenizer,
    format: String,
) -> Manifest {
    let content = splits.iter().map(|sorted| {
        let Counts { rows, choices, tokens, .. } = sorted.counts;
        (sorted.split, SplitManifest { rows, choices, tokens, shards: shards.remove(&sorted.split).unwrap_or_default() })
    });
    let raw_files = splits.iter().flat_map(|sorted| {
        let files = sorted.files.iter().zip(&sorted.digests).zip(&sorted.counts.files);
        files.map(|((file, digest), counts)| RawFile {
            file: file.clone(),
            split: sorted.split,
            bytes: digest.bytes,
            sha256: digest.sha256.clone(),
            records: counts.records,
            rejects: counts.rejected_records,
        })
    });
    let mut manifest = Manifest {
        schema_version: SCHEMA_VERSION,
        task: TaskName::Cloze,
        tool: TOOL.to_owned(),
        fingerprint: String::new(),
        tokenizer: tokenizer.identity().clone(),
        special_ids: tokenizer.special(),
        blank: FormatName::named(&format).unwrap_or_default().format().blank().to_owned(),
        splits: content.collect(),
        raw_files: raw_files.collect(),
        rejects: None,
        settings: IngestSettings { format, ..options.settings() },
    };
    manifest.fingerprint = manifest.compute_fingerprint();
    manifest
}

fn summary(splits: &[SortedSplit], manifest: &Manifest, options: &IngestOptions, stages: &Stages, started: Instant) -> Summary {
    let mut summary = Summary::of_manifest(manifest, options, stages, started);
    for (split, sorted) in summary.splits.iter_mut().zip(splits) {
        split.files = sorted.files.clone();
        split.rejected_questions = sorted.counts.rejected_questions;
        split.seconds = sorted.seconds;
        split.questions_per_second = split.questions as f64 / sorted.seconds;
    }
    summary
}
