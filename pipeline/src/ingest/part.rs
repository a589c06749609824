//! Part files of a partitioned ingest: the prepared batches of one part, for the merge.
//!
//! A part file is one Zstandard stream with a checksum. It consists of messages: a length (u32, little-endian) and that many bytes
//! in postcard's format. The first message is the [`Plan`] and the last one is [`Frame::End`], so that truncation is detected.
//! Part files are only read by the version of the program that wrote them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use glm_schemas::manifest::{self, IngestSettings, Split, TaskName};
use glm_support::files::atomic::Draft;
use glm_support::files::checksum::FileDigest;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zstd::stream::write::Encoder;

use super::error::IngestError;
use super::kind::RowKind;
use super::options::Partition;
use super::prepare::PreparedBatch;
use crate::pattern::task::PatternSource;
use crate::shard::WriteError;

/// Name of the folder of the parts, inside the folder of the raw data.
const FOLDER: &str = ".shards.parts";
/// Maximum length of a message. Far above the length of a batch, which has bounded records.
const MAX_MESSAGE_BYTES: usize = 1 << 30;
/// Fast: part files are temporary.
const COMPRESSION_LEVEL: i32 = 1;

/// Properties that all parts of an ingest must share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Plan {
    pub(super) tool: String,
    pub(super) task: TaskName,
    pub(super) parts: usize,
    pub(super) settings: IngestSettings,
    /// Pattern of the rows.
    pub(super) pattern: Option<PatternSource>,
    pub(super) tokenizer: manifest::Tokenizer,
    /// File names per split.
    pub(super) files: BTreeMap<Split, Vec<String>>,
}

/// Format and checksums of a split's files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct SplitEnd {
    pub(super) format: String,
    pub(super) digests: Vec<FileDigest>,
}

/// A message of a part file, after the plan. `B` is a [`PreparedBatch`] or a reference to it.
#[derive(Serialize, Deserialize)]
pub(super) enum Frame<B> {
    Batch(B),
    SplitEnd(SplitEnd),
    End,
}

/// Returns the folder of the parts of an ingest into `dir`.
pub(super) fn folder(dir: &Path) -> PathBuf {
    dir.join(FOLDER)
}

/// Returns the path of a part file.
pub(super) fn path(dir: &Path, index: usize, count: usize) -> PathBuf {
    folder(dir).join(format!("part-{index:05}-of-{count:05}"))
}

/// Writer of a part file. Nothing is left of the file if the writer is dropped before [`PartWriter::finish`].
pub(super) struct PartWriter {
    dir: PathBuf,
    path: PathBuf,
    out: Encoder<'static, Draft>,
    message: Vec<u8>,
}

impl PartWriter {
    /// Creates the part file with its plan.
    pub(super) fn create(dir: &Path, partition: Partition, plan: &Plan) -> Result<Self, IngestError> {
        fs::create_dir_all(folder(dir)).map_err(WriteError::io(&folder(dir)))?;
        let path = path(dir, partition.index, partition.count.get());
        let create = || -> io::Result<_> {
            let mut out = Encoder::new(Draft::create(&path)?, COMPRESSION_LEVEL)?;
            out.include_checksum(true)?;
            // JSON, because some settings are left out of their serialized form, which postcard cannot represent.
            Ok((out, serde_json::to_string(plan)?))
        };
        let (out, plan) = create().map_err(part_error(dir, &path))?;
        let mut writer = Self { dir: dir.to_owned(), path, out, message: Vec::new() };
        writer.write(&plan)?;
        Ok(writer)
    }

    /// Appends the next batch.
    pub(super) fn batch(&mut self, batch: &PreparedBatch<impl Serialize>) -> Result<(), WriteError> {
        self.write(&Frame::Batch(batch))
    }

    /// Appends the end of a split.
    pub(super) fn end_split(&mut self, end: SplitEnd) -> Result<(), WriteError> {
        self.write(&Frame::<()>::SplitEnd(end))
    }

    /// Completes the file and gives it its name; returns its path.
    pub(super) fn finish(mut self) -> Result<PathBuf, IngestError> {
        self.write(&Frame::<()>::End)?;
        let Self { dir, path, out, .. } = self;
        out.finish().and_then(Draft::publish).map_err(part_error(&dir, &path))?;
        Ok(path)
    }

    fn write(&mut self, value: &impl Serialize) -> Result<(), WriteError> {
        let Self { path, out, message, .. } = self;
        let mut write = || -> io::Result<()> {
            message.clear();
            *message = postcard::to_extend(value, std::mem::take(message)).map_err(io::Error::other)?;
            let length = u32::try_from(message.len()).map_err(io::Error::other)?;
            out.write_all(&length.to_le_bytes())?;
            out.write_all(message)
        };
        write().map_err(WriteError::io(path))
    }
}

/// Converts an error of creating or renaming the part file `path`. Its folder is missing if the parts were merged meanwhile.
fn part_error<'a>(dir: &'a Path, path: &'a Path) -> impl FnOnce(io::Error) -> IngestError + 'a {
    move |error| match error.kind() {
        io::ErrorKind::NotFound => IngestError::PartsMerged(folder(dir)),
        _ => WriteError::io(path)(error).into(),
    }
}

/// Reader of a part file.
pub(super) struct PartReader {
    path: PathBuf,
    file: zstd::Decoder<'static, BufReader<File>>,
    pub(super) plan: Plan,
}

impl PartReader {
    /// Opens a part file; returns `None` if it does not exist.
    pub(super) fn open(dir: &Path, index: usize, count: usize) -> Result<Option<Self>, IngestError> {
        let path = path(dir, index, count);
        let open = || -> io::Result<_> {
            let mut file = zstd::Decoder::new(File::open(&path)?)?;
            let plan: String = read_message(&mut file)?;
            Ok((file, serde_json::from_str(&plan)?))
        };
        match open() {
            Ok((file, plan)) => Ok(Some(Self { path, file, plan })),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(IngestError::Part { path, reason: e.to_string() }),
        }
    }

    /// Reads the next message.
    pub(super) fn next<R: RowKind>(&mut self) -> Result<Frame<PreparedBatch<R::Item>>, IngestError> {
        self.read::<R>().map_err(|e| IngestError::Part { path: self.path.clone(), reason: e.to_string() })
    }

    fn read<R: RowKind>(&mut self) -> io::Result<Frame<PreparedBatch<R::Item>>> {
        let frame: Frame<PreparedBatch<R::Item>> = read_message(&mut self.file)?;
        match &frame {
            Frame::Batch(batch) => match batch.records.iter().flat_map(|record| &record.items).find_map(R::damage) {
                Some(damage) => Err(invalid(damage)),
                None => Ok(frame),
            },
            // The decoder verifies the checksum when it reaches the end of the stream.
            Frame::End if io::copy(&mut self.file, &mut io::sink())? > 0 => Err(invalid("data follows the last message")),
            _ => Ok(frame),
        }
    }
}

fn read_message<T: DeserializeOwned>(file: &mut impl Read) -> io::Result<T> {
    let mut length = [0; 4];
    file.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_MESSAGE_BYTES {
        return Err(invalid("a message exceeds the maximum length"));
    }
    let mut bytes = Vec::new();
    // Memory grows as bytes arrive, so a damaged length allocates nothing.
    if file.take(length as u64).read_to_end(&mut bytes)? < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    match postcard::take_from_bytes(&bytes) {
        Ok((value, [])) => Ok(value),
        Ok(_) => Err(invalid("a message is longer than its content")),
        Err(e) => Err(io::Error::new(io::ErrorKind::InvalidData, e)),
    }
}

fn invalid(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
    use super::super::options::IngestOptions;
    use super::*;
    use crate::shard::publish;

    #[test]
    fn a_part_that_is_prepared_while_the_parts_are_merged_says_so() {
        let dir = tempfile::tempdir().expect("folder");
        let settings = IngestOptions::new(dir.path()).settings();
        let tokenizer = manifest::Tokenizer { name: "t".into(), sha256: "ab".into(), vocab_size: 30 };
        let plan = Plan {
            tool: "t".into(),
            task: TaskName::Cloze,
            parts: 1,
            settings,
            pattern: None,
            tokenizer,
            files: BTreeMap::new(),
        };
        let partition = || "0/1".parse::<Partition>().expect("a part");
        let path = PartWriter::create(dir.path(), partition(), &plan).and_then(PartWriter::finish).expect("written");
        assert!(path.is_file());
        let writer = PartWriter::create(dir.path(), partition(), &plan).expect("created");
        publish::discard(dir.path(), &folder(dir.path())).expect("removed");
        let error = writer.finish().expect_err("its folder is gone");
        assert!(matches!(error, IngestError::PartsMerged(_)), "{error}");
        let message = error.to_string();
        assert!(message.contains("`glm-prep merge`") && message.contains("the data set is complete"), "{message}");
    }
}
