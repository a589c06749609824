//! What plain runs and merges have in common: from sorted splits to a published data set.

use std::path::PathBuf;
use std::time::Instant;

use glm_schemas::SCHEMA_VERSION;
use glm_schemas::manifest::{MANIFEST_FILE, Manifest, RawFile, SHARDS_FOLDER, Split, SplitManifest};

use super::order::{Counts, OrderedStage};
use super::records::FileDigest;
use super::rejects::RejectLog;
use super::spool::{Spool, SpoolWriter};
use super::stages::Stages;
use super::{IngestError, IngestOptions, Progress, SplitSummary, Summary, write};
use crate::choices::DISTRACTOR_SEED;
use crate::shard::publish::{REJECTS_FILE, Staging};
use crate::shard::{self};
use crate::tokenize::Tokenizer;

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
    pub(super) stages: Stages,
}

impl<'a> Run<'a> {
    pub(super) fn begin(
        options: &'a IngestOptions,
        tokenizer: &'a Tokenizer,
        progress: &'a dyn Progress,
        started: Instant,
    ) -> Result<Self, IngestError> {
        let staging = if options.dry_run { None } else { Some(Staging::create(&options.dir)?) };
        let rejects = RejectLog::new(staging.as_ref().map(Staging::path));
        Ok(Self { options, tokenizer, progress, started, staging, rejects, splits: Vec::new(), stages: Stages::default() })
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
        let Self { options, tokenizer, progress, started, staging, rejects, splits, stages } = self;
        let Some(staging) = staging else {
            let manifest = manifest(&splits, Default::default(), options, tokenizer);
            return Ok(summary(&splits, &manifest, options, &stages, started));
        };
        rejects.finish()?;
        let plan: Vec<_> = splits.iter().filter_map(|split| Some((split.split, split.spool.as_ref()?))).collect();
        let job = write::Job { splits: &plan, options, tokenizer, folder: staging.path(), progress, stages: &stages };
        let manifest = manifest(&splits, job.run()?, options, tokenizer);
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
        tool: TOOL.to_owned(),
        fingerprint: String::new(),
        tokenizer: tokenizer.identity().clone(),
        special_ids: tokenizer.special(),
        splits: content.collect(),
        raw_files: raw_files.collect(),
        settings: options.settings(),
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
        peak_memory_bytes: super::stages::peak_memory(),
        stages: stages.seconds(),
        shards: (!options.dry_run).then_some(shards),
        splits: summaries,
    }
}
