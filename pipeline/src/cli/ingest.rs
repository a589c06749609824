//! Arguments of `glm-prep ingest` and `glm-prep merge`.

use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use glm_remote::Location;
use glm_remote::cache::Cache;
use glm_schemas::cloze::encoding::PUBLISHED_SEQUENCE_LENGTH;
use glm_schemas::manifest::{Split, TaskName};
use glm_schemas::seq2seq::encoding::Keep;
use glm_support::command::positive::positive;
use glm_support::files::progress;
use serde::Serialize;

use super::error::CliError;
use super::interrupt;
use super::task::{PatternArg, TaskArg};
use crate::ingest::{
    self, DEFAULT_ROWS_PER_SHARD, DEFAULT_VAL_SEED, Dedup, Fraction, IngestError, IngestOptions, MAX_RECORD_BYTES,
    MergeOptions, Outcome, Partition, RejectLimit, Stop, Summary,
};
use crate::pattern::PatternTask;
use crate::shard::ShardCompression;
use crate::source::input::Selection;
use crate::source::recognise::FormatName;

/// Exit code of an ingest that rejected some records, within `--max-rejects`.
const SOME_REJECTED: u8 = 3;

/// Arguments of `glm-prep ingest`.
#[derive(Debug, Args)]
#[command(after_help = "\
Raw files may be uncompressed, .gz, .zst or .bz2, or members of a .zip or .tar(.gz|.bz2|.zst) archive in DIR.

Examples:
  glm-prep ingest data/record
  glm-prep ingest out --train 'raw/train-*.jsonl.zst' --val raw/dev.jsonl
  zcat big.jsonl.gz | glm-prep ingest out --train - --format plain
  glm-prep ingest own --train own/data.jsonl --val-fraction 0.1
  glm-prep ingest books --task text --val-fraction 0.01    # documents
  glm-prep ingest books --task text --tokenizer gpt2    # GLM-2B and GLM-10B
  glm-prep ingest data/boolq --task superglue/boolq
  glm-prep ingest data/MNLI --task glue/mnli
  glm-prep ingest own --pattern my.toml    # JSON lines, CSV or TSV
  glm-prep ingest data/record --dry-run --limit 1000
  glm-prep ingest data/record --partition 0/8    # part 1 of 8, then merge
  glm-prep ingest s3://bucket/raw --out s3://bucket/record    # object stores

Exit codes:
  0  success; no record was rejected
  1  failure; nothing was published
  2  invalid usage
  3  success, but some records were rejected, within --max-rejects:
     shards/rejects.jsonl lists them
  130  stopped by Ctrl-C or SIGTERM; nothing was published")]
pub(super) struct IngestArgs {
    /// Folder of the raw data: {train,val,test}.jsonl in DIR/ReCoRD (or the task's files in its folder) or in DIR, one folder per
    /// split, or an archive in DIR; or the URL of such a folder or file: s3://, gs://, az://, https:// or hf://
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Write the shards to OUT/shards [default: DIR]; OUT can be a URL: s3://, gs:// or az://
    #[arg(long, value_name = "OUT")]
    out: Option<PathBuf>,
    /// What the raw data holds: cloze (questions), text (documents), seq2seq (pairs), or a task that `glm-prep patterns` lists, such
    /// as superglue/boolq [default: that of --format, or cloze]
    #[arg(long, value_name = "TASK")]
    task: Option<TaskArg>,
    /// Number of a pattern of the task, from 0, or a pattern file of your own, whose name ends in .toml
    #[arg(long, value_name = "N|FILE")]
    pattern: Option<PatternArg>,
    /// Predict an end of piece after the words of a pattern, which can then have several tokens
    #[arg(long)]
    multi_token: bool,
    /// Raw data of the training split: a file, a glob, an archive, or - for standard input; can be repeated
    #[arg(long, value_name = "PATH")]
    train: Vec<String>,
    /// Raw data of the validation split; as --train
    #[arg(long, value_name = "PATH")]
    val: Vec<String>,
    /// Raw data of the test split; as --train
    #[arg(long, value_name = "PATH")]
    test: Vec<String>,
    /// Ingest only these splits, for example train,val
    #[arg(long, value_name = "SPLITS", value_delimiter = ',')]
    splits: Vec<Split>,
    /// Format of the raw data [default: detected from its first bytes]
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<FormatName>,
    /// Column of the text in Parquet files, with --task text [default: text]
    #[arg(long, value_name = "NAME")]
    column: Option<String>,
    /// Drop documents whose text an earlier one has, with --task text
    #[arg(long, value_enum, value_name = "KIND")]
    dedup: Option<Dedup>,
    /// Part of a source that training keeps if it is too long, start or end, with --task seq2seq [default: that of the format]
    #[arg(long, value_name = "SIDE", value_parser = keep)]
    keep: Option<Keep>,
    /// Read [gMASK] and [sMASK] in texts as tokens, for weights that were trained with them, with --task seq2seq
    #[arg(long)]
    task_mask: bool,
    /// Tokenizer: bert-large-uncased or gpt2, which are built in, or the path of a vocab.txt, tokenizer.json, vocab.json (with merges.txt next to it) or SentencePiece .model [default: bert-large-uncased]
    #[arg(long, value_name = "PATH|NAME")]
    tokenizer: Option<PathBuf>,
    /// Number of threads; does not affect the output [default: number of cores]
    #[arg(long, value_name = "N", value_parser = positive)]
    threads: Option<NonZeroUsize>,
    /// Reject questions whose query and longest choice exceed this many tokens; passages are never truncated
    #[arg(long, value_name = "N", default_value_t = PUBLISHED_SEQUENCE_LENGTH)]
    max_seq_len: usize,
    /// Maximum size of a document in MiB, with --task text; larger ones are rejected [default: 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    max_record_mib: Option<u16>,
    /// Maximum number of records to read per split
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Number of questions or documents per Parquet file
    #[arg(long, value_name = "N", value_parser = positive, default_value_t = NonZeroUsize::new(DEFAULT_ROWS_PER_SHARD).unwrap_or(NonZeroUsize::MIN))]
    rows_per_shard: NonZeroUsize,
    /// Compression of the shards: zstd (zstd:1 to zstd:22), snappy or none
    #[arg(long, value_name = "CODEC", default_value_t)]
    compression: ShardCompression,
    /// Move about this share of the training passages or documents, such as 0.1, to a validation split
    #[arg(long, value_name = "FRACTION")]
    val_fraction: Option<Fraction>,
    /// Seed for choosing what --val-fraction moves
    #[arg(long, value_name = "N", default_value_t = DEFAULT_VAL_SEED, requires = "val_fraction")]
    val_seed: u64,
    /// Keep fields that the formats `plain`, `jsonl` and `openwebtext` do not define, as JSON in the column `extra`
    #[arg(long)]
    keep_fields: bool,
    /// Maximum number of rejected records: a number, or a percentage such as 0.5% [default: 1%, at least 1 and at most 100]
    #[arg(long, value_name = "N|P%")]
    max_rejects: Option<RejectLimit>,
    /// Prepare only part I of N (from 0), for `glm-prep merge`; DIR can be shared by several machines
    #[arg(long, value_name = "I/N", conflicts_with = "dry_run")]
    partition: Option<Partition>,
    /// Read and count, but write nothing
    #[arg(long)]
    dry_run: bool,
    /// Ingest even if the published data set, or the part, is up to date
    #[arg(long)]
    force: bool,
    /// Print the summary as one JSON object
    #[arg(long)]
    json: bool,
}

/// Arguments of `glm-prep merge`.
#[derive(Debug, Args)]
#[command(after_help = "\
The result is byte-identical to that of a single `glm-prep ingest`. The exit codes are those of `glm-prep ingest`.

Examples:
  glm-prep ingest data/record --partition 0/2
  glm-prep ingest data/record --partition 1/2    # on this or another machine
  glm-prep merge data/record")]
pub(super) struct MergeArgs {
    /// Folder of the raw data, as given to `ingest --partition`
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Tokenizer of the parts, as for `ingest` [default: bert-large-uncased]
    #[arg(long, value_name = "PATH|NAME")]
    tokenizer: Option<PathBuf>,
    /// Number of threads [default: number of cores]
    #[arg(long, value_name = "N", value_parser = positive)]
    threads: Option<NonZeroUsize>,
    /// Maximum number of rejected records in all parts together [default: 1%, at least 1 and at most 100]
    #[arg(long, value_name = "N|P%")]
    max_rejects: Option<RejectLimit>,
    /// Print the summary as one JSON object
    #[arg(long)]
    json: bool,
}

impl IngestArgs {
    fn options(&self) -> Result<IngestOptions, CliError> {
        let out = self.out.as_ref().unwrap_or(&self.dir);
        let publish = Location::of_path(out)?;
        if let Some(url) = &publish {
            if self.out.is_none() && !self.dry_run {
                return Err(CliError::NoOut { url: url.to_string() });
            }
            if let Some(part) = self.partition {
                return Err(CliError::PartOfUrl { part: part.to_string(), url: url.to_string() });
            }
        }
        let publish = publish.filter(|_| self.out.is_some());
        let dir = match &publish {
            // One folder per URL, so that its lock keeps two ingests of this machine apart.
            Some(url) => Cache::of_user()?.folder_of("ingest", &url.to_string()),
            None => out.clone(),
        };
        let source = self.out.as_ref().map(|_| self.dir.clone());
        let defaults = IngestOptions { source, publish, ..IngestOptions::new(dir) };
        let pattern = self.pattern_task()?;
        let format = if pattern.is_some() { self.format.or(FormatName::pattern()) } else { self.format };
        let task_files = pattern.as_ref().map(PatternTask::raw_files);
        let named = [(Split::Train, &self.train), (Split::Val, &self.val), (Split::Test, &self.test)];
        let named = named.into_iter().flat_map(|(split, paths)| paths.iter().map(move |path| (split, path.clone()))).collect();
        Ok(IngestOptions {
            selection: Selection { named, splits: self.splits.clone(), task: task_files },
            task: match &self.task {
                Some(TaskArg::Kind(task)) => Some(*task),
                Some(TaskArg::Pattern(_)) => Some(TaskName::Cloze),
                None => pattern.as_ref().map(|_| TaskName::Cloze),
            },
            format,
            pattern: pattern.map(Arc::new),
            column: self.column.clone(),
            dedup: self.dedup,
            keep: self.keep,
            task_mask: self.task_mask,
            tokenizer: self.tokenizer.clone(),
            threads: self.threads.unwrap_or(defaults.threads),
            max_seq_len: self.max_seq_len,
            max_record_bytes: self.max_record_mib.map_or(MAX_RECORD_BYTES, |mib| usize::from(mib) << 20),
            limit: self.limit,
            rows_per_shard: self.rows_per_shard,
            compression: self.compression,
            val_fraction: self.val_fraction,
            val_seed: self.val_seed,
            keep_fields: self.keep_fields,
            max_rejects: self.max_rejects.unwrap_or_default(),
            partition: self.partition,
            dry_run: self.dry_run,
            force: self.force,
            ..defaults
        })
    }

    /// Returns the pattern, if one is given.
    fn pattern_task(&self) -> Result<Option<PatternTask>, CliError> {
        let number = match &self.pattern {
            Some(PatternArg::Number(number)) => Some(*number),
            Some(PatternArg::File(_)) | None => None,
        };
        let name = match (&self.task, &self.pattern) {
            (Some(TaskArg::Pattern(name)), Some(PatternArg::File(file))) => {
                return Err(CliError::TwoPatterns { task: name.clone(), file: file.clone() });
            }
            (Some(TaskArg::Pattern(name)), _) => name,
            (None | Some(TaskArg::Kind(TaskName::Cloze)), Some(PatternArg::File(file))) => file,
            (_, Some(_)) => return Err(CliError::NoPatternTask { option: "--pattern" }),
            (_, None) if self.multi_token => return Err(CliError::NoPatternTask { option: "--multi-token" }),
            (_, None) => return Ok(None),
        };
        let task = PatternTask::open(name, number, self.multi_token).map_err(IngestError::from)?;
        Ok(Some(task))
    }

    pub(super) fn run(&self, quiet: bool, out: &mut dyn Write) -> Result<ExitCode, CliError> {
        let options = self.options()?;
        interrupt::stop_on_signals(&options.stop)?;
        let outcome = ingest::run(&options, progress::of(quiet).as_ref());
        if options.publish.is_some() {
            // It is empty, unless another ingest to the same URL works there.
            let _ = std::fs::remove_dir(&options.dir);
        }
        match outcome {
            Err(IngestError::Stopped(_)) => Ok(interrupt::report()),
            Err(error) => Err(error.into()),
            Ok(Outcome::Done(summary)) => print_summary(&summary, self.json, quiet, out),
            Ok(Outcome::Part(part)) => {
                if self.json {
                    print_json(&part, out)?;
                } else if !quiet {
                    write!(out, "{part}")?;
                }
                out.flush()?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

impl MergeArgs {
    pub(super) fn run(&self, quiet: bool, out: &mut dyn Write) -> Result<ExitCode, CliError> {
        let options = MergeOptions {
            dir: self.dir.clone(),
            tokenizer: self.tokenizer.clone(),
            threads: self.threads.unwrap_or(IngestOptions::new("").threads),
            max_rejects: self.max_rejects.unwrap_or_default(),
            stop: Stop::default(),
        };
        interrupt::stop_on_signals(&options.stop)?;
        match ingest::merge(&options, progress::of(quiet).as_ref()) {
            Err(IngestError::Stopped(_)) => Ok(interrupt::report()),
            summary => print_summary(&summary?, self.json, quiet, out),
        }
    }
}

/// Parses a side of a source.
fn keep(name: &str) -> Result<Keep, String> {
    let sides = [Keep::Start, Keep::End];
    sides.into_iter().find(|side| side.name() == name).ok_or_else(|| "expected start or end".to_owned())
}

fn print_summary(summary: &Summary, json: bool, quiet: bool, out: &mut dyn Write) -> Result<ExitCode, CliError> {
    if json {
        print_json(summary, out)?;
    } else if !quiet {
        write!(out, "{summary}")?;
    }
    out.flush()?;
    summary.warnings().iter().for_each(|warning| tracing::warn!("{warning}"));
    Ok(if summary.rejected_records() > 0 { ExitCode::from(SOME_REJECTED) } else { ExitCode::SUCCESS })
}

fn print_json(value: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Arguments {
        #[command(flatten)]
        args: IngestArgs,
    }

    #[test]
    fn defaults_match_the_library() {
        let options = Arguments::try_parse_from(["ingest", "there"]).expect("parsed").args.options().expect("valid");
        assert_eq!(format!("{options:?}"), format!("{:?}", IngestOptions::new("there")));
    }

    #[test]
    fn files_and_splits_are_parsed() {
        let arguments =
            ["ingest", "d", "--val", "v", "--train", "a", "--train", "b*", "--splits", "val,train", "--partition", "1/3"];
        let options = Arguments::try_parse_from(arguments).expect("parsed").args.options().expect("valid");
        let named =
            [(Split::Train, "a"), (Split::Train, "b*"), (Split::Val, "v")].map(|(split, path)| (split, path.to_owned()));
        assert_eq!(options.selection, Selection { named: named.to_vec(), splits: vec![Split::Val, Split::Train], task: None });
        assert_eq!(options.partition.map(|part| part.to_string()).as_deref(), Some("1/3"));
    }

    #[test]
    fn patterns_are_chosen_by_task_and_number() {
        let options = |arguments: &[&str]| {
            let arguments = ["ingest", "d"].iter().chain(arguments);
            Arguments::try_parse_from(arguments).expect("parsed").args.options().map_err(|error| error.to_string())
        };
        let found = options(&["--task", "superglue/boolq", "--pattern", "1", "--multi-token"]).expect("a pattern");
        let pattern = found.pattern.as_ref().expect("a pattern");
        assert_eq!((pattern.manifest().pattern.as_deref(), pattern.multi_token()), (Some("1"), true));
        let folder = found.selection.task.as_ref().and_then(|task| task.folder.as_deref());
        assert_eq!((found.task(), folder), (TaskName::Cloze, Some("BoolQ")));
        for (arguments, expected) in [
            (&["--task", "superglue/bool"][..], "there is no pattern `superglue/bool`"),
            (&["--task", "superglue/boolq", "--pattern", "6"], "its patterns are 0 to 5"),
            (&["--pattern", "1"], "--pattern has no effect"),
            (&["--multi-token"], "--multi-token has no effect"),
            (&["--task", "text", "--pattern", "my.toml"], "--pattern has no effect"),
            (&["--task", "superglue/rte", "--pattern", "my.toml"], "both superglue/rte and my.toml"),
            (&["--pattern", "no/such.toml"], "cannot read the pattern file no/such.toml"),
        ] {
            let error = options(arguments).expect_err("refused");
            assert!(error.contains(expected), "{arguments:?}: {error}");
        }
    }

    #[test]
    fn invalid_arguments_are_refused() {
        for invalid in [
            &["--threads", "0"][..],
            &["--rows-per-shard", "0"],
            &["--max-rejects", "x"],
            &["--max-rejects", "101%"],
            &["--compression", "zstd:23"],
            &["--compression", "gzip"],
            &["--partition", "8/8"],
            &["--partition", "0/2", "--dry-run"],
            &["--splits", "dev"],
            &["--val-fraction", "1"],
            &["--val-seed", "3"],
            &["--format", "boolq"],
            &["--keep", "around"],
            &["--task", "boolq"],
            &["--pattern", "x"],
            &["--pattern", "-1"],
        ] {
            assert!(Arguments::try_parse_from(["ingest", "there"].iter().chain(invalid)).is_err(), "{invalid:?}");
        }
    }
}
