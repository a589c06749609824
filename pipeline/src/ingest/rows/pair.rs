//! Rows of pairs: one per pair of a source and a target, or per window of a source, in the order of the raw data.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use glm_schemas::manifest::{Split, TaskName};
use glm_schemas::origin::Origin;
use glm_schemas::seq2seq::encoding::{Keep, Pair, PairEncoder, PairLayout};
use glm_schemas::seq2seq::{PairBatchBuilder, PairRow};
use glm_schemas::vocab::TokenId;
use glm_text::pair::{PairText, PairTokens, Template, windows};
use glm_text::tokenize::Session;
use serde::{Deserialize, Serialize};

use super::token_ids;
use super::train_texts::TrainTexts;
use crate::ingest::holdout::hash;
use crate::ingest::kind::{Context, Items, Place, PrepareError, RowKind, SplitRows};
use crate::ingest::options::IngestOptions;
use crate::ingest::stages::{Clock, Stage};
use crate::shard::{ShardWriter, WriteError};
use crate::source::{Content, RawPair, References, Windows};

/// Pairs.
pub(in crate::ingest) struct Pairs;

/// A tokenized pair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::ingest) struct Tokenized {
    /// Name of the row, without its split; `None` if it is numbered.
    name: Option<String>,
    /// Id in the raw data.
    id: Option<String>,
    group: Option<String>,
    source: String,
    prompt: Option<String>,
    target: Option<String>,
    references: Vec<String>,
    #[serde(with = "token_ids")]
    prefix_ids: Vec<TokenId>,
    #[serde(with = "token_ids")]
    source_ids: Vec<TokenId>,
    #[serde(with = "token_ids")]
    suffix_ids: Vec<TokenId>,
    #[serde(with = "token_ids")]
    target_ids: Vec<TokenId>,
    keep: Keep,
    focus: Option<u32>,
    /// Hash of the source, of all windows if it has several.
    hash: u64,
}

/// A row of a shard.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::ingest) struct Row<'a> {
    example_id: Cow<'a, str>,
    file: u32,
    line: Option<u64>,
    extra: Option<Cow<'a, str>>,
    pair: Cow<'a, Tokenized>,
}

/// Numbering of the pairs of a split's files.
#[derive(Default)]
pub(in crate::ingest) struct Numbering {
    pairs: usize,
    /// Names so far, by hash.
    names: HashSet<u64>,
}

impl RowKind for Pairs {
    const TASK: TaskName = TaskName::Seq2seq;
    // Targets have [SEP] between sentences, corpora [UNK] for unknown words.
    const HAS_COMMANDS: bool = true;
    type Item = Tokenized;
    type Stored = Row<'static>;
    type Table = PairBatchBuilder;
    type DataSet = TrainTexts;
    type Files = Numbering;
    type Rows = ();

    fn data_set(_: &IngestOptions) -> TrainTexts {
        TrainTexts::default()
    }

    fn prepare(
        context: &Context<'_>,
        session: &mut Session<'_>,
        record: &str,
        clock: &mut Clock,
    ) -> Result<Items<Tokenized>, PrepareError> {
        let Content::Pairs(format) = context.format.content() else {
            return Err(PrepareError::Reject(format!("the format `{}` has no pairs", context.format.name())));
        };
        let raw = format.pairs(record, context.labelled)?;
        clock.lap(Stage::Parse);
        let (mut items, mut left_out, mut rejected) = (Vec::with_capacity(raw.len()), 0, Vec::new());
        let parts = raw.len();
        let mut repeats = HashMap::<String, usize>::new();
        for mut pair in raw {
            // The answers of a question have its id.
            let repeat = pair.id.clone().map_or(0, |id| {
                let count = repeats.entry(id).or_default();
                *count += 1;
                *count - 1
            });
            let id = pair.id.clone();
            if repeat > 0 {
                pair.id = id.as_ref().map(|id| format!("{id}-{repeat}"));
            }
            match tokenized(context, session, pair, id)? {
                Ok(found) if found.is_empty() => left_out += 1,
                Ok(found) => items.extend(found),
                Err(reason) => rejected.push(reason),
            }
        }
        clock.lap(Stage::Tokenize);
        let rejected = match rejected.first() {
            None => None,
            Some(first) if parts == 1 => Some((0, first.clone())),
            Some(first) => Some((rejected.len(), first.clone())),
        };
        Ok(Items { items, left_out, rejected })
    }

    fn damage(pair: &Tokenized) -> Option<&'static str> {
        let is_outside = pair.focus.is_some_and(|focus| focus as usize >= pair.source_ids.len());
        is_outside.then_some("the focus of a pair is not a token of its source")
    }

    fn hash(pair: &Tokenized) -> u64 {
        pair.hash
    }

    fn skip(numbering: &mut Numbering) {
        numbering.pairs += 1;
    }

    fn order(
        pair: &Tokenized,
        place: &Place<'_>,
        (train, numbering): (&mut TrainTexts, &mut Numbering),
        rows: &mut SplitRows<Self>,
    ) -> Result<Vec<String>, WriteError> {
        let number = numbering.pairs;
        numbering.pairs += 1;
        if let Some(name) = &pair.name
            && !numbering.names.insert(hash(&[name.as_bytes()]))
        {
            return Ok(vec![format!("another pair has the id `{}`", pair.id.as_deref().unwrap_or(name))]);
        }
        rows.counts.in_train += usize::from(train.overlaps(rows.split, pair.hash));
        rows.counts.rows += 1;
        rows.counts.tokens += pair.tokens().context_tokens() + pair.target_ids.len();
        let name = pair.name.clone().unwrap_or_else(|| number.to_string());
        let (file, line) = (place.file, place.line);
        let (example_id, extra) = (format!("{}-{name}", rows.split).into(), place.extra.map(Cow::Borrowed));
        rows.push(0, &Row { example_id, file, line, extra, pair: Cow::Borrowed(pair) })?;
        Ok(Vec::new())
    }

    fn append(
        row: &Row<'static>,
        split: Split,
        files: &[String],
        writer: &mut ShardWriter<PairBatchBuilder>,
    ) -> Option<Result<(), WriteError>> {
        let pair = &*row.pair;
        let origin = Origin {
            split,
            source_id: pair.id.as_deref(),
            raw_file: files.get(row.file as usize)?,
            raw_line: row.line,
            extra: row.extra.as_deref(),
        };
        Some(writer.append(&PairRow {
            example_id: &row.example_id,
            origin,
            group_id: pair.group.as_deref(),
            source: &pair.source,
            prompt: pair.prompt.as_deref(),
            target: pair.target.as_deref(),
            references: &pair.references,
            tokens: pair.tokens(),
        }))
    }
}

impl Tokenized {
    fn tokens(&self) -> Pair<'_> {
        Pair {
            prefix: &self.prefix_ids,
            source: &self.source_ids,
            suffix: &self.suffix_ids,
            keep: self.keep,
            focus: self.focus.map(|focus| focus as usize),
            target: &self.target_ids,
        }
    }
}

/// Tokenizes a pair: one item, or one per window of its source. The inner error is the reason for which the pair is rejected.
fn tokenized(
    context: &Context<'_>,
    session: &mut Session<'_>,
    pair: RawPair,
    id: Option<String>,
) -> Result<Result<Vec<Tokenized>, String>, PrepareError> {
    let hash = hash(&[pair.source.as_bytes()]);
    if pair.windows == Windows::One {
        return Ok(one(context, session, pair, id, None, hash)?.map(|item| vec![item]));
    }
    let only_answered = pair.windows == Windows::Answered && context.trains;
    let answer = pair.target.clone().unwrap_or_default();
    let found = windows(session, &pair.source, &pair.prompt, &answer, context.max_seq_len, only_answered)?;
    if found.is_empty() && !only_answered {
        return Ok(Err("the question leaves no room for the text; ingest with a larger --max-seq-len".to_owned()));
    }
    let mut items = Vec::with_capacity(found.len());
    for (number, window) in found.into_iter().enumerate() {
        let name = pair.id.as_ref().map(|id| format!("{id}-{number}"));
        let window = RawPair { id: name, source: window.text, target: Some(window.answer), ..pair.clone() };
        match one(context, session, window, id.clone(), pair.id.clone(), hash)? {
            Ok(item) => items.push(item),
            Err(reason) => return Ok(Err(reason)),
        }
    }
    Ok(Ok(items))
}

/// Tokenizes one pair; `id` is that of the raw data, `pair.id` the name of the row.
fn one(
    context: &Context<'_>,
    session: &mut Session<'_>,
    pair: RawPair,
    id: Option<String>,
    group: Option<String>,
    hash: u64,
) -> Result<Result<Tokenized, String>, PrepareError> {
    let text = PairText { source: &pair.source, prompt: &pair.prompt, target: pair.target.as_deref().unwrap_or_default() };
    let mut tokens = pair.template.tokens(session, &text)?;
    if pair.template == Template::ChineseAnswer {
        cut_question(&mut tokens, context.max_seq_len);
    }
    let references = match pair.references {
        References::Texts(texts) => texts,
        References::DecodedTarget if pair.target.is_none() => Vec::new(),
        References::DecodedTarget => vec![context.tokenizer.decode(&tokens.target)],
    };
    let encoder = PairEncoder::new(context.tokenizer.special(), context.max_seq_len, 1, PairLayout::Compact);
    if let Err(error) = encoder.size(&tokens.as_pair()) {
        return Ok(Err(format!("{error}; ingest with a larger --max-seq-len")));
    }
    let PairTokens { prefix, source, suffix, keep, focus, target } = tokens;
    let is_cloze = pair.template == Template::Blanks;
    if is_cloze && focus.is_none() {
        return Ok(Err("the source has no [MASK]; write [MASK] in place of each blank".to_owned()));
    }
    // A source with blanks of its own is kept around them.
    let keep = context.keep.filter(|_| !is_cloze).unwrap_or(keep);
    Ok(Ok(Tokenized {
        name: pair.id,
        id,
        group,
        source: pair.source,
        prompt: Some(pair.prompt).filter(|prompt| !prompt.is_empty()),
        target: pair.target,
        references,
        prefix_ids: prefix,
        source_ids: source,
        suffix_ids: suffix,
        target_ids: target,
        keep,
        focus: focus.map(|focus| focus as u32),
        hash,
    }))
}

/// Shortens a question before the source so that the blank fits.
fn cut_question(tokens: &mut PairTokens, max_seq_len: usize) {
    let room = max_seq_len.saturating_sub(1);
    if tokens.prefix.len() > room
        && let Some(blank) = tokens.prefix.pop()
    {
        tokens.prefix.truncate(room.saturating_sub(1));
        tokens.prefix.push(blank);
    }
}
