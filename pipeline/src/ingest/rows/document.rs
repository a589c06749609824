//! Rows of text: one per document, in the order of the raw data.

use std::borrow::Cow;
use std::collections::HashSet;

use glm_schemas::document::{DocumentBatchBuilder, DocumentRow};
use glm_schemas::manifest::{Split, TaskName};
use glm_schemas::origin::Origin;
use glm_schemas::vocab::TokenId;
use glm_text::standard::standardise;
use glm_text::tokenize::Session;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::token_ids;
use super::train_texts::TrainTexts;
use crate::ingest::holdout::hash;
use crate::ingest::kind::{Context, Items, Place, PrepareError, RowKind, SplitRows};
use crate::ingest::options::IngestOptions;
use crate::ingest::stages::{Clock, Stage};
use crate::shard::{ShardWriter, WriteError};
use crate::source::{Content, Document, RecordError};

/// Documents.
pub(in crate::ingest) struct Documents;

/// A tokenized document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::ingest) struct Text {
    id: Option<String>,
    source: String,
    prompt: Option<String>,
    text: String,
    #[serde(with = "token_ids")]
    prompt_ids: Vec<TokenId>,
    #[serde(with = "token_ids")]
    ids: Vec<TokenId>,
    #[serde(with = "token_ids")]
    sentence_ends: Vec<i32>,
    /// Hash of prompt and text.
    hash: u64,
}

/// A row of a shard.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::ingest) struct Row<'a> {
    example_id: Cow<'a, str>,
    file: u32,
    line: Option<u64>,
    extra: Option<Cow<'a, str>>,
    text: Cow<'a, Text>,
}

/// Documents of the data set so far, by hash. A document takes about 16 bytes.
pub(in crate::ingest) struct Seen {
    /// True if documents that are in `all` are dropped.
    drops: bool,
    /// Documents of all splits; empty if none are dropped.
    all: HashSet<u64>,
    /// Documents of the training split.
    train: TrainTexts,
}

/// Numbering of the documents of a split's files.
#[derive(Default)]
pub(in crate::ingest) struct Numbering {
    documents: usize,
    /// Ids of the raw data so far, by hash.
    ids: HashSet<u64>,
}

impl RowKind for Documents {
    const TASK: TaskName = TaskName::Text;
    const HAS_COMMANDS: bool = false;
    type Item = Text;
    type Stored = Row<'static>;
    type Table = DocumentBatchBuilder;
    type DataSet = Seen;
    type Files = Numbering;
    type Rows = ();

    fn data_set(options: &IngestOptions) -> Seen {
        Seen { drops: options.dedup.is_some(), all: HashSet::new(), train: TrainTexts::default() }
    }

    fn prepare(
        context: &Context<'_>,
        session: &mut Session<'_>,
        record: &str,
        clock: &mut Clock,
    ) -> Result<Items<Text>, PrepareError> {
        let Content::Documents(format) = context.format.content() else {
            return Err(PrepareError::Reject(format!("the format `{}` has no documents", context.format.name())));
        };
        let mut documents = format.documents(record)?;
        if format.is_english() {
            for document in documents.iter_mut().flatten() {
                document.text = standardise(&document.text);
                document.prompt = document.prompt.take().map(|prompt| standardise(&prompt));
            }
        }
        clock.lap(Stage::Parse);
        let all = documents.len();
        let documents = documents.into_iter().flatten();
        let items = documents.map(|document| text(context, session, document)).collect::<Result<Vec<_>, _>>();
        clock.lap(Stage::Tokenize);
        items.map(|items| Items { left_out: all - items.len(), items, rejected: None })
    }

    fn damage(text: &Text) -> Option<&'static str> {
        text.ids.is_empty().then_some("a document has no tokens")
    }

    fn hash(text: &Text) -> u64 {
        text.hash
    }

    fn skip(numbering: &mut Numbering) {
        numbering.documents += 1;
    }

    fn order(
        text: &Text,
        place: &Place<'_>,
        (seen, numbering): (&mut Seen, &mut Numbering),
        rows: &mut SplitRows<Self>,
    ) -> Result<Vec<String>, WriteError> {
        let number = numbering.documents;
        numbering.documents += 1;
        if seen.drops && !seen.all.insert(text.hash) {
            rows.counts.dropped += 1;
            return Ok(Vec::new());
        }
        rows.counts.in_train += usize::from(seen.train.overlaps(rows.split, text.hash));
        rows.counts.rows += 1;
        rows.counts.tokens += text.prompt_ids.len() + text.ids.len();
        // Corpora put together from several sources repeat ids; only the first document with an id is named after it.
        let new_id = text.id.as_ref().filter(|id| numbering.ids.insert(hash(&[id.as_bytes()])));
        let name = new_id.cloned().unwrap_or_else(|| format!("d{number}"));
        let (file, line) = (place.file, place.line);
        let (example_id, extra) = (format!("{}-{name}", rows.split).into(), place.extra.map(Cow::Borrowed));
        rows.push(0, &Row { example_id, file, line, extra, text: Cow::Borrowed(text) })?;
        Ok(Vec::new())
    }

    fn append(
        row: &Row<'static>,
        split: Split,
        files: &[String],
        writer: &mut ShardWriter<DocumentBatchBuilder>,
    ) -> Option<Result<(), WriteError>> {
        let Text { id, source, prompt, text, prompt_ids, ids, sentence_ends, .. } = &*row.text;
        let origin = Origin {
            split,
            source_id: id.as_deref(),
            raw_file: files.get(row.file as usize)?,
            raw_line: row.line,
            extra: row.extra.as_deref(),
        };
        let (example_id, prompt) = (&*row.example_id, prompt.as_deref());
        Some(writer.append(&DocumentRow { example_id, origin, source, prompt, text, prompt_ids, ids, sentence_ends }))
    }
}

/// Tokenizes a document. Prompt and text are tokenized apart.
fn text(context: &Context<'_>, session: &mut Session<'_>, document: Document) -> Result<Text, PrepareError> {
    let Document { id, source, prompt, text } = document;
    let ids = session.encode(&text)?.ids;
    if ids.is_empty() {
        return Err(RecordError::NoTokens.into());
    }
    let prompt_ids = prompt.as_ref().map(|prompt| session.encode(prompt)).transpose()?.unwrap_or_default().ids;
    let sentence_ends = context.tokenizer.sentence_ends(&ids);
    let prompt_digest = Sha256::digest(prompt.as_deref().unwrap_or_default());
    let hash = hash(&[&prompt_digest, text.as_bytes()]);
    Ok(Text { id, source, prompt, text, prompt_ids, ids, sentence_ends, hash })
}
