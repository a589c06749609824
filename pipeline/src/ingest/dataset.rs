//! Data set under construction: sorts the rows of each split, then writes and publishes all shards.

use std::collections::BTreeMap;
use std::time::Instant;

use glm_schemas::SCHEMA_VERSION;
use glm_schemas::manifest::{
    ClozeManifest, IngestSettings, MANIFEST_FILE, Manifest, ManifestError, RawFile, Shard, Split, SplitManifest, TaskName,
};
use glm_support::files::checksum::FileDigest;
use glm_support::files::progress::Progress;
use glm_support::provenance::Provenance;
use glm_text::tokenize::Tokenizer;

use super::error::IngestError;
use super::holdout::Holdout;
use super::kind::{RowCounts, RowKind, SplitRows};
use super::options::{Fraction, IngestOptions, tool};
use super::order::{FileCounts, Ordered, OrderedStage};
use super::reasons::Reasons;
use super::rejects::RejectLog;
use super::report::Summary;
use super::spool::{Spool, SpoolWriter};
use super::stages::Stages;
use super::write;
use crate::shard::publish::{PROVENANCE_FILE, Staging};
use crate::shard::upload::Upload;
use crate::shard::{self, WriteError};
use crate::source::recognise::FormatName;

/// Maximum number of files in a message.
const SHOWN_FILES: usize = 5;

/// A split whose rows are sorted and counted.
struct SortedSplit {
    split: Split,
    /// Names of the files.
    files: Vec<String>,
    /// Digests of the files that were read; fewer than `files` if `--limit` was reached, none if the files are those of another split.
    digests: Vec<FileDigest>,
    /// Counts per file.
    file_counts: Vec<FileCounts>,
    rejected_parts: usize,
    left_out: usize,
    /// `None` in a dry run.
    spool: Option<Spool>,
    rows: RowCounts,
    seconds: f64,
}

impl SortedSplit {
    /// Returns the rows to write; `None` in a dry run.
    fn to_write(&self) -> Option<write::SplitRows<'_>> {
        Some(write::SplitRows { split: self.split, files: &self.files, spool: self.spool.as_ref()? })
    }
}

/// Builder of a data set, from sorted splits to published shards.
pub(super) struct DataSetBuilder<'a, R: RowKind> {
    options: &'a IngestOptions,
    tokenizer: &'a Tokenizer,
    progress: &'a dyn Progress,
    started: Instant,
    /// `None` in a dry run.
    staging: Option<Staging>,
    /// Data set in an object store that is written instead of a local one.
    upload: Option<Upload>,
    rejects: RejectLog,
    data_set: R::DataSet,
    splits: Vec<SortedSplit>,
    /// Format of the raw files.
    pub(super) format: String,
    pub(super) stages: Stages,
}

impl<'a, R: RowKind> DataSetBuilder<'a, R> {
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
        let upload = options.publish.as_ref().filter(|_| !options.dry_run).map(Upload::begin).transpose()?;
        let rejects = RejectLog::new(staging.as_ref().map(Staging::path), options.max_rejects);
        Ok(Self {
            options,
            tokenizer,
            progress,
            started,
            staging,
            upload,
            rejects,
            data_set: R::data_set(options),
            splits: Vec::new(),
            format: String::new(),
            stages: Stages::default(),
        })
    }

    /// Returns the ordered stage for the files of a split. Some passages of the training split may go to the validation split.
    pub(super) fn ordered_stage<'b>(
        &'b mut self,
        split: Split,
        files: &'b [String],
    ) -> Result<OrderedStage<'b, R>, IngestError> {
        let fraction = self.options.val_fraction.filter(|_| split == Split::Train);
        let holdout = fraction.map(|Fraction(fraction)| Holdout::new(fraction, self.options.val_seed));
        let splits = if holdout.is_some() { vec![split, Split::Val] } else { vec![split] };
        let rows_of = |split| {
            let spool = self.staging.as_ref().map(|staging| SpoolWriter::create(staging.path())).transpose()?;
            Ok(SplitRows::new(split, spool))
        };
        let splits = splits.into_iter().map(rows_of).collect::<Result<_, WriteError>>()?;
        let files = files.iter().map(String::as_str).collect();
        Ok(OrderedStage::new(files, splits, holdout, &mut self.data_set, &mut self.rejects))
    }

    /// Adds the result of an ordered stage that began at `started`.
    pub(super) fn add(&mut self, ordered: Ordered, files: &[String], digests: Vec<FileDigest>, started: Instant) {
        let seconds = started.elapsed().as_secs_f64();
        let Ordered { files: file_counts, rejected_parts, left_out, splits } = ordered;
        let mut counted = Some((digests, file_counts, rejected_parts, left_out));
        for (split, spool, rows) in splits {
            // The files belong to the first split; rows of the second come from the same files.
            let (digests, file_counts, rejected_parts, left_out) = counted.take().unwrap_or_default();
            let files = files.to_vec();
            self.splits.push(SortedSplit {
                split,
                files,
                digests,
                file_counts,
                rejected_parts,
                left_out,
                spool,
                rows,
                seconds,
            });
        }
    }

    /// Writes the shards and publishes them.
    pub(super) fn publish(self) -> Result<Summary, IngestError> {
        self.check_limits()?;
        let Self { options, tokenizer, progress, started, staging, upload, rejects, splits, format, stages, .. } = self;
        let Some(staging) = staging else {
            let manifest = manifest::<R>(&splits, BTreeMap::new(), options, tokenizer, format);
            return Ok(summary(&splits, &rejects.reasons, &manifest, options, &stages, started));
        };
        let (reasons, rejects) = rejects.finish()?;
        let plan: Vec<_> = splits.iter().filter_map(SortedSplit::to_write).collect();
        let folder = &staging.data();
        upload.as_ref().map(Upload::replace).transpose()?;
        let job = write::Job { splits: &plan, options, tokenizer, folder, upload: upload.as_ref(), progress, stages: &stages };
        let shards = job.run::<R>()?;
        options.stop.check()?;
        let mut manifest = manifest::<R>(&splits, shards, options, tokenizer, format);
        manifest.rejects = rejects;
        let provenance = Provenance::of_process(tool(), SCHEMA_VERSION, options.threads.get());
        shard::write_file(
            &staging.path().join(PROVENANCE_FILE),
            &serde_json::to_vec_pretty(&provenance).map_err(ManifestError::from)?,
        )?;
        match upload {
            Some(upload) => upload.finish(staging.path(), &manifest)?,
            None => {
                shard::write_file(&staging.path().join(MANIFEST_FILE), manifest.to_json()?.as_bytes())?;
                staging.publish()?;
            }
        }
        Ok(summary(&splits, &reasons, &manifest, options, &stages, started))
    }

    fn check_limits(&self) -> Result<(), IngestError> {
        if self.splits.iter().all(|split| split.rows.rows == 0) {
            let mut names: Vec<_> = self.splits.iter().flat_map(|split| &split.files).map(String::as_str).collect();
            names.dedup();
            names.truncate(SHOWN_FILES);
            let reasons = self.rejects.reasons.to_string();
            let rows = R::TASK.rows();
            return Err(IngestError::Empty { rows, files: names.join(", "), rejected: self.rejects.rejected(), reasons });
        }
        self.rejects.check()?;
        let empty = self.splits.iter().find(|split| split.rows.rows == 0 && self.options.val_fraction.is_some());
        match (empty, self.options.val_fraction) {
            (Some(split), Some(fraction)) => Err(IngestError::EmptyHoldout { task: R::TASK, split: split.split, fraction }),
            _ => Ok(()),
        }
    }
}

fn manifest<R: RowKind>(
    splits: &[SortedSplit],
    mut shards: BTreeMap<Split, Vec<Shard>>,
    options: &IngestOptions,
    tokenizer: &Tokenizer,
    format: String,
) -> Manifest {
    let content = splits.iter().map(|sorted| {
        let RowCounts { rows, choices, tokens, .. } = sorted.rows;
        (
            sorted.split,
            SplitManifest {
                rows,
                choices: (R::TASK == TaskName::Cloze).then_some(choices),
                tokens,
                shards: shards.remove(&sorted.split).unwrap_or_default(),
            },
        )
    });
    let raw_files = splits.iter().flat_map(|sorted| {
        let files = sorted.files.iter().zip(&sorted.digests).zip(&sorted.file_counts);
        files.map(|((file, digest), counts)| RawFile {
            file: file.clone(),
            split: sorted.split,
            bytes: digest.bytes,
            sha256: digest.sha256.clone(),
            records: counts.records,
            rejects: counts.rejected_records,
        })
    });
    let of_pattern = options.pattern.as_ref().map(|pattern| pattern.manifest());
    let mut manifest = Manifest {
        schema_version: SCHEMA_VERSION,
        task: R::TASK,
        tool: tool(),
        fingerprint: String::new(),
        tokenizer: tokenizer.identity().clone(),
        special_ids: tokenizer.special(),
        blank: FormatName::named(&format).unwrap_or(FormatName::first(R::TASK)).format().content().blank().to_owned(),
        cloze: (R::TASK == TaskName::Cloze).then(|| of_pattern.unwrap_or_else(|| ClozeManifest::record(&format))),
        splits: content.collect(),
        raw_files: raw_files.collect(),
        rejects: None,
        settings: IngestSettings { format, ..options.settings() },
    };
    manifest.fingerprint = manifest.compute_fingerprint();
    manifest
}

fn summary(
    splits: &[SortedSplit],
    reasons: &Reasons,
    manifest: &Manifest,
    options: &IngestOptions,
    stages: &Stages,
    started: Instant,
) -> Summary {
    let mut summary = Summary::of_manifest(manifest, options, reasons, stages, started);
    for (split, sorted) in summary.splits.iter_mut().zip(splits) {
        split.files = sorted.files.clone();
        split.rejected_questions = sorted.rejected_parts;
        split.left_out = sorted.left_out;
        split.dropped = sorted.rows.dropped;
        split.single_choice_questions = sorted.rows.single_choice;
        split.indistinguishable_questions = sorted.rows.indistinguishable;
        split.questions_in_train = sorted.rows.in_train;
        split.passages_in_train = sorted.rows.passages_in_train;
        split.seconds = sorted.seconds;
        split.questions_per_second = split.questions as f64 / sorted.seconds;
    }
    summary
}
