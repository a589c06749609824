//! The file that one part of a shared ingest leaves for the merge: prepared batches, packed, with what they come from.
//!
//! Private to one version of the program. Frames of a tag (one byte), a length (u32, little-endian) and that many bytes, all in
//! one Zstandard stream with a checksum; the last frame is [`END`], so that a file that was cut is known.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use glm_schemas::manifest::{self, IngestSettings, Split};
use serde::{Deserialize, Serialize};
use zstd::stream::write::Encoder;

use super::prepare::{PreparedBatch, PreparedCandidate, PreparedPassage, PreparedQuestion, PreparedRecord, Reject};
use super::row::{Fields, put_i64, put_text, put_u32};
use super::{IngestError, Partition};
use crate::shard::WriteError;
use glm_support::files::checksum::FileDigest;

/// The folder of the parts, inside the folder of the raw data.
const FOLDER: &str = ".shards.parts";
const HEADER: u8 = 1;
const BATCH: u8 = 2;
const SPLIT_END: u8 = 3;
const END: u8 = 4;
/// More than any frame has: a batch has at least one record, and records are bounded.
const MAX_FRAME: usize = 1 << 30;

/// Everything that all parts of one ingest must have in common.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Plan {
    pub(super) tool: String,
    pub(super) parts: usize,
    pub(super) settings: IngestSettings,
    pub(super) tokenizer: manifest::Tokenizer,
    /// The names of the files.
    pub(super) files: BTreeMap<Split, Vec<String>>,
}

/// What a split's files were.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct SplitEnd {
    pub(super) format: String,
    pub(super) digests: Vec<FileDigest>,
}

/// Where the parts of an ingest into `dir` lie.
pub(super) fn folder(dir: &Path) -> PathBuf {
    dir.join(FOLDER)
}

pub(super) fn path(dir: &Path, index: usize, count: usize) -> PathBuf {
    folder(dir).join(format!("part-{index:05}-of-{count:05}"))
}

/// Writes a part. Dropped before [`PartWriter::finish`], it leaves nothing.
pub(super) struct PartWriter {
    path: PathBuf,
    temporary: PathBuf,
    out: Option<Encoder<'static, File>>,
    frame: Vec<u8>,
}

impl PartWriter {
    pub(super) fn create(dir: &Path, partition: Partition, plan: &Plan) -> Result<Self, IngestError> {
        let path = path(dir, partition.index, partition.count.get());
        fs::create_dir_all(folder(dir)).map_err(WriteError::io(&folder(dir)))?;
        let temporary = path.with_extension(format!("tmp-{}", std::process::id()));
        let open = || -> io::Result<_> {
            let mut out = Encoder::new(File::create(&temporary)?, 1)?;
            out.include_checksum(true)?;
            Ok(out)
        };
        let out = open().map_err(WriteError::io(&temporary))?;
        let mut writer = Self { path, temporary, out: Some(out), frame: Vec::new() };
        writer.json(HEADER, plan)?;
        Ok(writer)
    }

    pub(super) fn batch(&mut self, batch: &PreparedBatch) -> Result<(), WriteError> {
        self.frame.clear();
        put_batch(&mut self.frame, batch);
        self.write(BATCH)
    }

    pub(super) fn end_split(&mut self, end: &SplitEnd) -> Result<(), WriteError> {
        self.json(SPLIT_END, end)
    }

    /// Gives the file its name when all of it is on the disk.
    pub(super) fn finish(mut self) -> Result<PathBuf, WriteError> {
        self.frame.clear();
        self.write(END)?;
        let Some(out) = self.out.take() else { return Ok(self.path.clone()) };
        let write = || -> io::Result<()> {
            out.finish()?.sync_all()?;
            fs::rename(&self.temporary, &self.path)?;
            File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all()
        };
        write().map_err(WriteError::io(&self.path))?;
        Ok(self.path.clone())
    }

    fn json(&mut self, tag: u8, value: &impl Serialize) -> Result<(), WriteError> {
        self.frame = serde_json::to_vec(value).map_err(|e| WriteError::io(&self.path)(e.into()))?;
        self.write(tag)
    }

    fn write(&mut self, tag: u8) -> Result<(), WriteError> {
        let Some(out) = &mut self.out else { return Ok(()) };
        let mut head = vec![tag];
        put_u32(&mut head, self.frame.len());
        out.write_all(&head).and_then(|()| out.write_all(&self.frame)).map_err(WriteError::io(&self.temporary))
    }
}

impl Drop for PartWriter {
    fn drop(&mut self) {
        if self.out.take().is_some() {
            // What cannot be removed is overwritten by the next run of this part, and removed by the merge.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// A frame of a part.
pub(super) enum Frame {
    Batch(PreparedBatch),
    SplitEnd(SplitEnd),
    End,
}

/// Reads a part.
pub(super) struct PartReader {
    path: PathBuf,
    file: zstd::Decoder<'static, BufReader<File>>,
    pub(super) plan: Plan,
}

impl PartReader {
    /// `None` where the part is not there.
    pub(super) fn open(dir: &Path, index: usize, count: usize) -> Result<Option<Self>, IngestError> {
        let path = path(dir, index, count);
        let file = match File::open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|source| IngestError::Part { path: path.clone(), reason: source.to_string() })?,
        };
        let damaged = |reason: String| IngestError::Part { path: path.clone(), reason };
        let mut file = zstd::Decoder::new(file).map_err(|e| damaged(e.to_string()))?;
        let (tag, bytes) = read_frame(&mut file).map_err(|e| damaged(e.to_string()))?;
        let plan = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
        if tag != HEADER {
            return Err(damaged("it does not begin as a part does".to_owned()));
        }
        Ok(Some(Self { path, file, plan }))
    }

    pub(super) fn next(&mut self) -> Result<Frame, IngestError> {
        let damaged = |reason: String| IngestError::Part { path: self.path.clone(), reason };
        let (tag, bytes) = read_frame(&mut self.file).map_err(|e| damaged(e.to_string()))?;
        match tag {
            BATCH => take_batch(&bytes).map(Frame::Batch).ok_or_else(|| damaged("a batch of it is damaged".to_owned())),
            SPLIT_END => serde_json::from_slice(&bytes).map(Frame::SplitEnd).map_err(|e| damaged(e.to_string())),
            END => {
                // Past the last frame is the checksum, which the decoder looks at.
                let rest = io::copy(&mut self.file, &mut io::sink()).map_err(|e| damaged(e.to_string()))?;
                if rest == 0 { Ok(Frame::End) } else { Err(damaged("it goes on behind its end".to_owned())) }
            }
            other => Err(damaged(format!("it holds a frame of the unknown kind {other}"))),
        }
    }
}

fn read_frame(file: &mut impl Read) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 5];
    file.read_exact(&mut head)?;
    let [tag, length @ ..] = head;
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_FRAME {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame is longer than any can be"));
    }
    let mut bytes = Vec::new();
    // Grows as the bytes come, so that a wrong length asks for no memory.
    if file.take(length as u64).read_to_end(&mut bytes)? < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok((tag, bytes))
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u32(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn put_option<T>(out: &mut Vec<u8>, value: Option<T>, put: impl FnOnce(&mut Vec<u8>, T)) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        put(out, value);
    }
}

fn put_batch(out: &mut Vec<u8>, batch: &PreparedBatch) {
    put_i64(out, batch.sequence as i64);
    put_i64(out, batch.raw_bytes as i64);
    put_u32(out, batch.file);
    put_u32(out, batch.records.len());
    for record in &batch.records {
        put_i64(out, record.line as i64);
        put_option(out, record.reject.as_ref(), |out, reject| {
            put_u32(out, reject.questions);
            put_text(out, &reject.reason);
            put_text(out, &reject.raw);
        });
        put_u32(out, record.passages.len());
        for passage in &record.passages {
            put_option(out, passage.id, put_i64);
            put_u32(out, passage.asked);
            put_bytes(out, &passage.encoded);
            put_u32(out, passage.tokens);
            put_u32(out, passage.candidates.len());
            for candidate in &passage.candidates {
                put_bytes(out, &candidate.encoded);
                put_u32(out, candidate.tokens);
            }
            put_u32(out, passage.questions.len());
            for question in &passage.questions {
                put_option(out, question.id, put_i64);
                put_option(out, question.name.as_deref(), put_text);
                put_u32(out, question.position);
                put_bytes(out, &question.encoded);
                put_u32(out, question.tokens);
                put_u32(out, question.answers.len());
                question.answers.iter().for_each(|&answer| put_u32(out, answer));
            }
        }
    }
}

fn take_option<'a, T>(fields: &mut Fields<'a>, take: impl FnOnce(&mut Fields<'a>) -> Option<T>) -> Option<Option<T>> {
    match fields.take(1)? {
        [0] => Some(None),
        _ => take(fields).map(Some),
    }
}

fn take_bytes(fields: &mut Fields<'_>) -> Option<Vec<u8>> {
    let length = fields.u32()?;
    fields.take(length).map(<[u8]>::to_vec)
}

fn take_list<T>(fields: &mut Fields<'_>, mut take: impl FnMut(&mut Fields<'_>) -> Option<T>) -> Option<Vec<T>> {
    (0..fields.u32()?).map(|_| take(fields)).collect()
}

fn take_batch(bytes: &[u8]) -> Option<PreparedBatch> {
    let mut fields = Fields { bytes };
    let (sequence, raw_bytes, file) = (fields.i64()? as u64, fields.i64()? as u64, fields.u32()?);
    let records = take_list(&mut fields, |fields| {
        let line = fields.i64()? as u64;
        let reject = take_option(fields, |fields| {
            let questions = fields.u32()?;
            let reason = fields.text()?.to_owned();
            Some(Reject { questions, reason, raw: fields.text()?.to_owned() })
        })?;
        Some(PreparedRecord { line, reject, passages: take_list(fields, take_passage)? })
    })?;
    Some(PreparedBatch { sequence, file, raw_bytes, records })
}

fn take_passage(fields: &mut Fields<'_>) -> Option<PreparedPassage> {
    let id = take_option(fields, Fields::i64)?;
    let (asked, encoded, tokens) = (fields.u32()?, take_bytes(fields)?, fields.u32()?);
    let candidates =
        take_list(fields, |fields| Some(PreparedCandidate { encoded: take_bytes(fields)?, tokens: fields.u32()? }))?;
    let questions = take_list(fields, |fields| {
        let id = take_option(fields, Fields::i64)?;
        let name = take_option(fields, |fields| fields.text().map(str::to_owned))?;
        let (position, encoded, tokens) = (fields.u32()?, take_bytes(fields)?, fields.u32()?);
        let answers = take_list(fields, |fields| fields.u32().filter(|&answer| answer < candidates.len()))?;
        Some(PreparedQuestion { id, name, position, encoded, tokens, answers })
    })?;
    Some(PreparedPassage { id, asked, encoded, tokens, candidates, questions })
}
