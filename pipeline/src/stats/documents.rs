//! Statistics of a data set of documents.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use arrow_array::RecordBatch;
use glm_schemas::column::ViewError;
use glm_schemas::document::{DocumentView, TOKEN_COLUMNS};
use glm_schemas::manifest::{Manifest, Split};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::error::StatsError;
use super::lengths::{LengthCounter, Lengths};
use super::near::NearDuplicates;
use super::summary::Share;

const BATCH_ROWS: usize = 64;
/// Maximum number of examples.
const MAX_EXAMPLES: usize = 5;

/// Half a sha256, long enough to make collisions practically impossible.
type Key = [u8; 16];

/// Statistics of a data set of documents.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DocumentStats {
    /// Folder of the shards.
    pub shards: PathBuf,
    /// Fingerprint of the data set.
    pub fingerprint: String,
    /// Splits, in order.
    pub splits: Vec<DocumentSplit>,
    /// Documents of the validation split that are also in the training split; they make the validation loss too low.
    pub in_train_and_val: Copies,
}

/// Statistics of a split of documents.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DocumentSplit {
    /// Split.
    pub split: Split,
    /// Number of documents (rows).
    pub documents: usize,
    /// Number of documents with a prompt.
    pub prompts: usize,
    /// Number of tokens of prompts and texts; in JSON it is that of `unknown`.
    #[serde(skip)]
    pub tokens: usize,
    /// Tokens per document, prompt included.
    pub tokens_per_document: Lengths,
    /// Sentences per document.
    pub sentences_per_document: Lengths,
    /// Share of `[UNK]` among the tokens.
    pub unknown: Share,
    /// Documents whose prompt and text an earlier document of the data set has; `ingest --dedup exact` drops them.
    pub exact_duplicates: Copies,
    /// Other documents that share most of their text with an earlier document of the data set.
    pub near_duplicates: Copies,
    /// The sources with the most documents, in descending order.
    pub sources: Vec<DocumentSource>,
    /// Number of distinct sources.
    pub distinct_sources: usize,
}

/// Documents that are copies of others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Copies {
    /// Number of documents.
    pub documents: usize,
    /// The first few of them.
    pub example_ids: Vec<String>,
}

impl Copies {
    fn add(&mut self, example_id: &str) {
        self.documents += 1;
        if self.example_ids.len() < MAX_EXAMPLES {
            self.example_ids.push(example_id.to_owned());
        }
    }
}

/// Origin of documents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DocumentSource {
    /// Name of the source.
    pub name: String,
    /// Number of its documents.
    pub documents: usize,
}

/// Documents of all splits so far.
#[derive(Default)]
struct Seen {
    /// First split of every text. A text takes about 20 bytes.
    exact: HashMap<Key, Split>,
    near: NearDuplicates,
}

/// Counts a data set. Memory holds one batch of rows and some bytes per document.
pub(super) fn count(shards: &Path, manifest: Manifest, max_sources: usize) -> Result<DocumentStats, StatsError> {
    let mut seen = Seen::default();
    let mut in_train_and_val = Copies::default();
    let mut splits = Vec::new();
    // Splits are in the order of `Split::ALL`: the training split precedes the validation split.
    for (&split, content) in &manifest.splits {
        let mut counter = Counter::new(split, manifest.special_ids.unk);
        for shard in &content.shards {
            counter.add_shard(&shard.path(shards), &mut seen, &mut in_train_and_val)?;
        }
        splits.push(counter.finish(max_sources));
    }
    Ok(DocumentStats { shards: shards.to_owned(), fingerprint: manifest.fingerprint, splits, in_train_and_val })
}

/// Counts one split.
struct Counter {
    unk: i32,
    unknown: usize,
    tokens: LengthCounter,
    sentences: LengthCounter,
    sources: HashMap<String, usize>,
    stats: DocumentSplit,
}

impl Counter {
    fn new(split: Split, unk: i32) -> Self {
        let stats = DocumentSplit {
            split,
            documents: 0,
            prompts: 0,
            tokens: 0,
            tokens_per_document: Lengths::default(),
            sentences_per_document: Lengths::default(),
            unknown: Share::default(),
            exact_duplicates: Copies::default(),
            near_duplicates: Copies::default(),
            sources: Vec::new(),
            distinct_sources: 0,
        };
        let (tokens, sentences) = (LengthCounter::default(), LengthCounter::default());
        Self { unk, unknown: 0, tokens, sentences, sources: HashMap::new(), stats }
    }

    fn add_shard(&mut self, path: &Path, seen: &mut Seen, in_train_and_val: &mut Copies) -> Result<(), StatsError> {
        let damaged = |source| StatsError::Parquet { path: path.to_owned(), source };
        let file = File::open(path).map_err(|source| StatsError::Read { path: path.to_owned(), source })?;
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(damaged)?;
        let columns = TOKEN_COLUMNS.into_iter().chain(["source", "prompt", "text"]);
        let columns = ProjectionMask::columns(builder.parquet_schema(), columns);
        for batch in builder.with_projection(columns).with_batch_size(BATCH_ROWS).build().map_err(damaged)? {
            let batch = batch.map_err(|source| StatsError::Arrow { path: path.to_owned(), source })?;
            self.add_batch(&batch, seen, in_train_and_val)
                .map_err(|source| StatsError::NotAShard { path: path.to_owned(), source })?;
        }
        Ok(())
    }

    fn add_batch(&mut self, batch: &RecordBatch, seen: &mut Seen, in_train_and_val: &mut Copies) -> Result<(), ViewError> {
        let view = DocumentView::try_new(batch)?;
        for row in 0..view.len() {
            let (prompt_ids, ids, ends) = (view.prompt_ids(row), view.ids(row), view.sentence_ends(row));
            let stats = &mut self.stats;
            stats.documents += 1;
            stats.prompts += usize::from(!prompt_ids.is_empty());
            stats.tokens += prompt_ids.len() + ids.len();
            self.tokens.add(prompt_ids.len() + ids.len());
            // What follows the last end is a sentence too.
            let unfinished = ends.last().is_none_or(|&end| end as usize != ids.len());
            self.sentences.add(ends.len() + usize::from(unfinished));
            self.unknown += prompt_ids.iter().chain(ids).filter(|&&id| id == self.unk).count();
            let source = view.source(row).ok_or(ViewError::Null("source"))?;
            match self.sources.get_mut(source) {
                Some(count) => *count += 1,
                None => {
                    self.sources.insert(source.to_owned(), 1);
                }
            }
            let (example_id, split) = (view.example_id(row), stats.split);
            let is_near = seen.near.add(ids);
            match seen.exact.get(&key(&view, row)) {
                Some(first) => {
                    stats.exact_duplicates.add(example_id);
                    if (*first, split) == (Split::Train, Split::Val) {
                        in_train_and_val.add(example_id);
                    }
                }
                None => {
                    seen.exact.insert(key(&view, row), split);
                    if is_near {
                        stats.near_duplicates.add(example_id);
                    }
                }
            }
        }
        Ok(())
    }

    fn finish(self, max_sources: usize) -> DocumentSplit {
        let distinct_sources = self.sources.len();
        let mut sources: Vec<_> =
            self.sources.into_iter().map(|(name, documents)| DocumentSource { name, documents }).collect();
        sources.sort_by(|a, b| b.documents.cmp(&a.documents).then_with(|| a.name.cmp(&b.name)));
        sources.truncate(max_sources);
        DocumentSplit {
            tokens_per_document: self.tokens.finish(),
            sentences_per_document: self.sentences.finish(),
            unknown: Share::new(self.unknown, self.stats.tokens),
            sources,
            distinct_sources,
            ..self.stats
        }
    }
}

/// Hash of prompt and text.
fn key(view: &DocumentView<'_>, row: usize) -> Key {
    let mut hash = Sha256::new();
    hash.update(Sha256::digest(view.prompt(row).unwrap_or_default()));
    hash.update(view.text(row).unwrap_or_default());
    let mut key = Key::default();
    key.copy_from_slice(&hash.finalize()[..16]);
    key
}
