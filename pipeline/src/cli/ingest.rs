//! `glm-prep ingest` and `glm-prep merge` as they are typed.

use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use glm_schemas::encoding::PUBLISHED_SEQUENCE_LENGTH;
use glm_schemas::manifest::Split;
use serde::Serialize;

use super::{CliError, progress};
use crate::ingest::{self, DEFAULT_ROWS_PER_SHARD, IngestOptions, MergeOptions, Outcome, Partition, RejectLimit, Summary};
use crate::shard::ShardCompression;
use crate::source::input::Selection;
use crate::source::recognise::FormatName;

/// Exit code of an ingest that left some records out, within `--max-rejects`.
const SOME_REJECTED: u8 = 3;

/// The arguments of `glm-prep ingest`.
#[derive(Debug, Args)]
#[command(after_help = "\
Raw data may be plain, .gz, .zst or .bz2, or lie in a .zip or .tar(.gz|.bz2|.zst) in DIR.

Examples:
  glm-prep ingest data/record
  glm-prep ingest out --train 'raw/train-*.jsonl.zst' --val raw/dev.jsonl
  zcat big.jsonl.gz | glm-prep ingest out --train - --format plain
  glm-prep ingest data/record --dry-run --limit 1000
  glm-prep ingest data/record --partition 0/8    # part 1 of 8, then merge

Exit codes:
  0  every record was taken
  1  the run failed and nothing was published
  2  the command line makes no sense
  3  some were rejected, no more than --max-rejects: the data set is written,
     and shards/rejects.jsonl lists them")]
pub(super) struct IngestArgs {
    /// The folder of the raw data: {train,val,test}.jsonl in DIR/ReCoRD or in DIR, folders of splits, or an archive in DIR
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Raw data of the training split: a file, a glob, an archive, or - for standard input; may be given several times
    #[arg(long, value_name = "PATH")]
    train: Vec<String>,
    /// The same for the validation split
    #[arg(long, value_name = "PATH")]
    val: Vec<String>,
    /// The same for the test split
    #[arg(long, value_name = "PATH")]
    test: Vec<String>,
    /// Ingest these splits only, for example train,val
    #[arg(long, value_name = "SPLITS", value_delimiter = ',')]
    splits: Vec<Split>,
    /// The format of the raw data [default: told from its first bytes]
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<FormatName>,
    /// A vocab.txt or tokenizer.json [default: the built-in BERT-large-uncased vocabulary]
    #[arg(long, value_name = "PATH")]
    tokenizer: Option<PathBuf>,
    /// Threads that parse, tokenize and write; the output does not depend on it [default: all cores]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Reject a question whose query and longest choice do not fit this many tokens; passages are never cut
    #[arg(long, value_name = "N", default_value_t = PUBLISHED_SEQUENCE_LENGTH)]
    max_seq_len: usize,
    /// Read this many records of every split only
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Questions in one Parquet file
    #[arg(long, value_name = "N", default_value_t = NonZeroUsize::new(DEFAULT_ROWS_PER_SHARD).unwrap_or(NonZeroUsize::MIN))]
    rows_per_shard: NonZeroUsize,
    /// How shards are compressed: zstd (zstd:1 to zstd:22), snappy or none
    #[arg(long, value_name = "CODEC", default_value_t)]
    compression: ShardCompression,
    /// Fail if more records than this are rejected: a number, or a share such as 0.5% [default: 100 or 1%, whichever is more]
    #[arg(long, value_name = "N|P%")]
    max_rejects: Option<RejectLimit>,
    /// Prepare part I of N only (from 0), for `glm-prep merge`; DIR may be a folder that several machines share
    #[arg(long, value_name = "I/N", conflicts_with = "dry_run")]
    partition: Option<Partition>,
    /// Do everything but write: count, and say what would be rejected
    #[arg(long)]
    dry_run: bool,
    /// Ingest also where the published set, or the part, is already what would be written
    #[arg(long)]
    force: bool,
    /// Print the summary as one JSON object
    #[arg(long)]
    json: bool,
}

/// The arguments of `glm-prep merge`.
#[derive(Debug, Args)]
#[command(after_help = "\
The result is the same to the byte as that of one `glm-prep ingest`. Exit codes as of `glm-prep ingest`.

Examples:
  glm-prep ingest data/record --partition 0/2    # here
  glm-prep ingest data/record --partition 1/2    # or on another machine
  glm-prep merge data/record")]
pub(super) struct MergeArgs {
    /// The folder of the raw data, as given to `ingest --partition`
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// The tokenizer that the parts were made with [default: the built-in BERT-large-uncased vocabulary]
    #[arg(long, value_name = "PATH")]
    tokenizer: Option<PathBuf>,
    /// Threads that write shards [default: all cores]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Fail if more records than this are rejected, over all parts [default: 100 or 1%, whichever is more]
    #[arg(long, value_name = "N|P%")]
    max_rejects: Option<RejectLimit>,
    /// Print the summary as one JSON object
    #[arg(long)]
    json: bool,
}

impl IngestArgs {
    fn options(&self) -> IngestOptions {
        let defaults = IngestOptions::new(&self.dir);
        let named = [(Split::Train, &self.train), (Split::Val, &self.val), (Split::Test, &self.test)];
        let named = named.into_iter().flat_map(|(split, paths)| paths.iter().map(move |path| (split, path.clone()))).collect();
        IngestOptions {
            selection: Selection { named, splits: self.splits.clone() },
            format: self.format,
            tokenizer: self.tokenizer.clone(),
            threads: self.threads.unwrap_or(defaults.threads),
            max_seq_len: self.max_seq_len,
            limit: self.limit,
            rows_per_shard: self.rows_per_shard,
            compression: self.compression,
            max_rejects: self.max_rejects.unwrap_or_default(),
            partition: self.partition,
            dry_run: self.dry_run,
            force: self.force,
            ..defaults
        }
    }

    pub(super) fn run(&self, quiet: bool, out: &mut dyn Write) -> Result<ExitCode, CliError> {
        match ingest::run(&self.options(), progress::of(quiet).as_ref())? {
            Outcome::Done(summary) => print_summary(&summary, self.json, quiet, out),
            Outcome::Part(part) => {
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
        };
        let summary = ingest::merge(&options, progress::of(quiet).as_ref())?;
        print_summary(&summary, self.json, quiet, out)
    }
}

fn print_summary(summary: &Summary, json: bool, quiet: bool, out: &mut dyn Write) -> Result<ExitCode, CliError> {
    if json {
        print_json(summary, out)?;
    } else if !quiet {
        write!(out, "{summary}")?;
    }
    out.flush()?;
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
    struct Typed {
        #[command(flatten)]
        args: IngestArgs,
    }

    #[test]
    fn ingest_defaults_are_those_of_the_library() {
        let typed = Typed::try_parse_from(["ingest", "there"]).expect("parsed").args.options();
        assert_eq!(format!("{typed:?}"), format!("{:?}", IngestOptions::new("there")));
    }

    #[test]
    fn files_and_splits_are_taken_as_typed() {
        let words =
            ["ingest", "d", "--val", "v", "--train", "a", "--train", "b*", "--splits", "val,train", "--partition", "1/3"];
        let options = Typed::try_parse_from(words).expect("parsed").args.options();
        let named =
            [(Split::Train, "a"), (Split::Train, "b*"), (Split::Val, "v")].map(|(split, path)| (split, path.to_owned()));
        assert_eq!(options.selection, Selection { named: named.to_vec(), splits: vec![Split::Val, Split::Train] });
        assert_eq!(options.partition.map(|part| part.to_string()).as_deref(), Some("1/3"));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for wrong in [
            &["--threads", "0"][..],
            &["--rows-per-shard", "0"],
            &["--max-rejects", "x"],
            &["--max-rejects", "101%"],
            &["--compression", "zstd:23"],
            &["--compression", "gzip"],
            &["--partition", "8/8"],
            &["--partition", "0/2", "--dry-run"],
            &["--splits", "dev"],
            &["--format", "squad"],
        ] {
            assert!(Typed::try_parse_from(["ingest", "there"].iter().chain(wrong)).is_err(), "{wrong:?}");
        }
    }
}
