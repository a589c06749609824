//! What plain runs and merges have in common: from sorted splits to a published data set.

use std::path::PathBuf;
use std::time::Instant;

use glm_schemas::SCHEMA_VERSION;
use glm_schemas::manifest::{IngestSettings, MANIFEST_FILE, Manifest, RawFile, SHARDS_FOLDER, Split, SplitManifest, Task};

use super::order::{Counts, OrderedStage};
use super::rejects::RejectLog;
use super::spool::{Spool, SpoolWriter};
use super::stages::Stages;
use super::{IngestError, IngestOptions, Progress, SplitSummary, Summary, reuse, write};
use crate::choices::DISTRACTOR_SEED;
use crate::shard::publish::{REJECTS_FILE, Staging};
use crate::shard::{self, WriteError};
use crate::source::recognise::FormatName;
use glm_support::files::checksum::FileDigest;
use glm_text::tokenize::Tokenizer;

/// The program's name and version, as the manifest records it.
pub(super) const TOOL: &str = concat!("glm-prep ", env!("CARGO_PKG_VERSION"));

/// A split whose rows are ready to be written.
pub(super) struct SortedSplit {
    pub(super) split: Split,
    /// Names of its files.
    pub(super) files: Vec<String>,
    /// Of those that were read.
    pub(super) digests: Vec<FileDigest>,
    /// None in a dry run.
    pub(super) spool: Option<Spool>,
    pub(super) counts: Counts,
    pub(super) seconds: f64,
}

/// A run under way.
pub(super) struct Run<'a> {
    options: &'a IngestOptions,
    tokenizer: &'a Tokenizer,
    progress: &'a dyn Progress,
    started: Instant,
    /// None in a dry run.
    staging: Option<Staging>,
    rejects: RejectLog,
    pub(super) splits: Vec<SortedSplit>,
    /// The format of the files, as it was told.
    pub(super) format: String,
    pub(super) stages: Stages,
}

impl<'a> Run<'a> {
    pub(super) fn begin(
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

    /// The ordered stage for a split.
    pub(super) fn stage<'b>(&'b mut self, split: Split, files: &'b [String]) -> Result<OrderedStage<'b>, IngestError> {
        let spool = self.staging.as_ref().map(|staging| SpoolWriter::create(staging.path())).transpose()?;
        let files = files.iter().map(String::as_str).collect();
        Ok(OrderedStage::new(split, files, DISTRACTOR_SEED, spool, &mut self.rejects))
    }

    /// Writes the shards and makes them visible.
    pub(super) fn publish(self) -> Result<Summary, IngestError> {
        self.check_limits()?;
        let Self { options, tokenizer, progress, started, staging, rejects, splits, format, stages } = self;
        let Some(staging) = staging else {
            let manifest = manifest(&splits, Default::default(), options, tokenizer, format);
            return Ok(summary(&splits, &manifest, options, &stages, started));
        };
        rejects.finish()?;
        let plan: Vec<_> = splits.iter().filter_map(|split| Some((split.split, split.spool.as_ref()?))).collect();
        let job = write::Job { splits: &plan, options, tokenizer, folder: staging.path(), progress, stages: &stages };
        let manifest = manifest(&splits, job.run()?, options, tokenizer, format);
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
            let first = self.rejects.first.clone().unwrap_or_default();
            return Err(IngestError::TooManyRejects { rejected, records, limit, first });
        }
        Ok(())
    }
}

fn manifest(
    splits: &[SortedSplit],
    mut shards: std::collections::BTreeMap<Split, Vec<glm_schemas::manifest::Shard>>,
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
        task: Task::Cloze,
        tool: TOOL.to_owned(),
        fingerprint: String::new(),
        tokenizer: tokenizer.identity().clone(),
        special_ids: tokenizer.special(),
        blank: FormatName::named(&format).unwrap_or_default().format().blank().to_owned(),
        splits: content.collect(),
        raw_files: raw_files.collect(),
        settings: IngestSettings { format, ..options.settings() },
    };
    manifest.fingerprint = manifest.compute_fingerprint();
    manifest
}

fn summary(splits: &[SortedSplit], manifest: &Manifest, options: &IngestOptions, stages: &Stages, started: Instant) -> Summary {
    let summaries: Vec<_> = splits
        .iter()
        .map(|sorted| {
            let shards = manifest.splits.get(&sorted.split).map_or(&[][..], |content| &content.shards);
            let counts = &sorted.counts;
            SplitSummary {
                split: sorted.split,
                files: sorted.files.clone(),
                raw_bytes: sorted.digests.iter().map(|digest| digest.bytes).sum(),
                records: counts.files.iter().map(|file| file.records).sum(),
                rejected_records: counts.files.iter().map(|file| file.rejected_records).sum(),
                rejected_questions: counts.rejected_questions,
                questions: counts.rows,
                choices: counts.choices,
                tokens: counts.tokens,
                shards: shards.len(),
                shard_bytes: shards.iter().map(|shard| shard.bytes).sum(),
                seconds: sorted.seconds,
                questions_per_second: counts.rows as f64 / sorted.seconds,
            }
        })
        .collect();
    let seconds = started.elapsed().as_secs_f64();
    let shards: PathBuf = options.dir.join(SHARDS_FOLDER);
    let rejects = shards.join(REJECTS_FILE);
    let total = |count: fn(&SplitSummary) -> u64| summaries.iter().map(count).sum::<u64>() as f64;
    let is_rejected = !options.dry_run && summaries.iter().any(|split| split.rejected_records > 0);
    Summary {
        fingerprint: (!options.dry_run).then(|| manifest.fingerprint.clone()),
        missing: Split::ALL.into_iter().filter(|split| !manifest.splits.contains_key(split)).collect(),
        rejects: is_rejected.then_some(rejects),
        seconds,
        questions_per_second: total(|split| split.questions as u64) / seconds,
        tokens_per_second: total(|split| split.tokens as u64) / seconds,
        raw_bytes_per_second: total(|split| split.raw_bytes) / seconds,
        threads: options.threads.get(),
        unchanged: false,
        peak_memory_bytes: super::stages::peak_memory(),
        stages: stages.seconds(),
        shards: (!options.dry_run).then_some(shards),
        splits: summaries,
    }
}

/// What is said of a data set that is what would be written.
pub(super) fn unchanged(manifest: &Manifest, options: &IngestOptions, started: Instant) -> Result<Summary, IngestError> {
    let of_split = |(&split, content): (&Split, &SplitManifest)| {
        let raw: Vec<_> = reuse::raw_files(manifest, split).collect();
        SplitSummary {
            split,
            files: raw.iter().map(|raw| raw.file.clone()).collect(),
            raw_bytes: raw.iter().map(|raw| raw.bytes).sum(),
            records: raw.iter().map(|raw| raw.records).sum(),
            rejected_records: raw.iter().map(|raw| raw.rejects).sum(),
            rejected_questions: 0,
            questions: content.rows,
            choices: content.choices,
            tokens: content.tokens,
            shards: content.shards.len(),
            shard_bytes: content.shards.iter().map(|shard| shard.bytes).sum(),
            seconds: 0.0,
            questions_per_second: 0.0,
        }
    };
    let splits: Vec<_> = manifest.splits.iter().map(of_split).collect();
    let rejected = splits.iter().map(|split| split.rejected_records).sum();
    let records = splits.iter().map(|split| split.records).sum();
    let shards = options.dir.join(SHARDS_FOLDER);
    let list = shards.join(REJECTS_FILE);
    if !options.max_rejects.allows(rejected, records) {
        let first = format!("listed in {}", list.display());
        return Err(IngestError::TooManyRejects { rejected, records, limit: options.max_rejects, first });
    }
    let seconds = started.elapsed().as_secs_f64();
    let raw_bytes: u64 = splits.iter().map(|split| split.raw_bytes).sum();
    Ok(Summary {
        shards: Some(shards),
        fingerprint: Some(manifest.fingerprint.clone()),
        missing: Split::ALL.into_iter().filter(|split| !manifest.splits.contains_key(split)).collect(),
        rejects: (rejected > 0).then_some(list),
        seconds,
        questions_per_second: 0.0,
        tokens_per_second: 0.0,
        raw_bytes_per_second: raw_bytes as f64 / seconds,
        threads: options.threads.get(),
        unchanged: true,
        peak_memory_bytes: super::stages::peak_memory(),
        stages: Stages::default().seconds(),
        splits,
    })
}
