//! Part files of a partitioned ingest: the prepared batches of one part, for the merge.
//!
//! A part file is one Zstandard stream with a checksum. It consists of messages: a length (u32, little-endian) and that many bytes
//! in postcard's format. The first message is the [`Plan`] and the last one is [`Frame::End`], so that truncation is detected.
//! Part files are only read by the version of the program that wrote them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use glm_schemas::manifest::{self, IngestSettings, Split};
use glm_support::files::atomic::{self, Sink};
use glm_support::files::checksum::FileDigest;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use zstd::stream::write::Encoder;

use super::error::IngestError;
use super::options::Partition;
use super::prepare::PreparedBatch;
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
    pub(super) parts: usize,
    pub(super) settings: IngestSettings,
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

/// A message of a part file, after the plan. `B` is [`PreparedBatch`] or a reference to it.
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

/// Writes a part file with the batches that `fill` passes to the writer. Nothing is left of it after an error.
pub(super) fn write(
    dir: &Path,
    partition: Partition,
    plan: &Plan,
    fill: impl FnOnce(&mut PartWriter<'_>) -> Result<(), IngestError>,
) -> Result<PathBuf, IngestError> {
    /// Error of `fill` or of the file itself.
    #[derive(Debug, Error)]
    enum Failure {
        #[error(transparent)]
        Ingest(#[from] IngestError),
        #[error(transparent)]
        Io(#[from] io::Error),
    }

    fs::create_dir_all(folder(dir)).map_err(WriteError::io(&folder(dir)))?;
    let path = path(dir, partition.index, partition.count.get());
    let written = atomic::write(&path, |file| {
        let mut out = Encoder::new(file, COMPRESSION_LEVEL)?;
        out.include_checksum(true)?;
        let mut writer = PartWriter { path: path.clone(), out, message: Vec::new() };
        writer.message(&serde_json::to_string(plan).map_err(io::Error::from)?)?;
        fill(&mut writer)?;
        writer.message(&Frame::<()>::End)?;
        writer.out.finish()?;
        Ok::<_, Failure>(())
    });
    match written {
        Ok(()) => Ok(path),
        Err(Failure::Ingest(error)) => Err(error),
        Err(Failure::Io(error)) => Err(WriteError::io(&path)(error).into()),
    }
}

/// Writes the messages of a part file.
pub(super) struct PartWriter<'a> {
    path: PathBuf,
    out: Encoder<'static, &'a mut dyn Sink>,
    message: Vec<u8>,
}

impl PartWriter<'_> {
    /// Appends the next batch.
    pub(super) fn batch(&mut self, batch: &PreparedBatch) -> Result<(), WriteError> {
        self.message(&Frame::Batch(batch)).map_err(WriteError::io(&self.path))
    }

    /// Appends the end of a split.
    pub(super) fn end_split(&mut self, end: SplitEnd) -> Result<(), WriteError> {
        self.message(&Frame::<()>::SplitEnd(end)).map_err(WriteError::io(&self.path))
    }

    fn message(&mut self, value: &impl Serialize) -> io::Result<()> {
        self.message.clear();
        self.message = postcard::to_extend(value, std::mem::take(&mut self.message)).map_err(io::Error::other)?;
        let length = u32::try_from(self.message.len()).map_err(io::Error::other)?;
        self.out.write_all(&length.to_le_bytes())?;
        self.out.write_all(&self.message)
    }
}

/// Reads a part file.
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
            // JSON, because some settings are left out of their serialized form, which postcard cannot represent.
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
    pub(super) fn next(&mut self) -> Result<Frame<PreparedBatch>, IngestError> {
        self.read().map_err(|e| IngestError::Part { path: self.path.clone(), reason: e.to_string() })
    }

    fn read(&mut self) -> io::Result<Frame<PreparedBatch>> {
        let frame: Frame<PreparedBatch> = read_message(&mut self.file)?;
        match &frame {
            Frame::Batch(batch) if !batch.is_consistent() => Err(invalid("a question has an answer that is not a candidate")),
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
