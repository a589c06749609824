//! Rows of filled patterns: one per example, in the order of the raw data.

use std::borrow::Cow;
use std::collections::HashSet;

use glm_schemas::cloze::builder::{ChoiceRow, ClozeBatchBuilder, ClozeRow};
use glm_schemas::cloze::encoding::{Question, Segment};
use glm_schemas::manifest::{Split, TaskName};
use glm_schemas::origin::Origin;
use glm_schemas::vocab::TokenId;
use glm_text::tokenize::Session;
use serde::{Deserialize, Serialize};

use super::token_ids;
use super::train_texts::TrainTexts;
use crate::ingest::holdout::hash;
use crate::ingest::kind::{Context, Items, Place, PrepareError, RowKind, SplitRows};
use crate::ingest::options::IngestOptions;
use crate::ingest::stages::{Clock, Stage};
use crate::pattern::example::{Example, ExampleChoice, ExampleIds, Use};
use crate::pattern::{ExampleError, PatternTask};
use crate::shard::{ShardWriter, WriteError};

/// Maximum number of rejected examples of a record whose reasons are listed.
const LISTED_EXAMPLES: usize = 5;

/// Filled patterns.
pub(in crate::ingest) struct Examples;

/// A tokenized segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Ids {
    #[serde(with = "token_ids")]
    ids: Vec<TokenId>,
    truncatable: bool,
}

/// A tokenized choice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Choice {
    text: String,
    #[serde(with = "token_ids")]
    ids: Vec<TokenId>,
    name: String,
    correct: bool,
    index: u32,
}

/// A tokenized example.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::ingest) struct Tokenized {
    /// Name of the row, without its split; `None` if it is numbered.
    name: Option<String>,
    group: Option<String>,
    idx: Option<String>,
    source_id: Option<String>,
    passage_id: Option<i64>,
    question_id: Option<i64>,
    passage: String,
    query: String,
    segments: Vec<Ids>,
    blank: u32,
    group_b: u32,
    choices: Vec<Choice>,
    label: Option<String>,
    end_of_piece: bool,
    /// Hash of the passage, or of the whole context if there is none.
    hash: u64,
}

/// A row of a shard.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::ingest) struct Row<'a> {
    example_id: Cow<'a, str>,
    /// Number of the example among those of its split.
    number: u64,
    file: u32,
    line: Option<u64>,
    extra: Option<Cow<'a, str>>,
    example: Cow<'a, Tokenized>,
}

/// Numbering of the examples of a split's files.
#[derive(Default)]
pub(in crate::ingest) struct Numbering {
    examples: u64,
    /// Names so far, by hash.
    names: HashSet<u64>,
}

impl RowKind for Examples {
    const TASK: TaskName = TaskName::Cloze;
    const HAS_COMMANDS: bool = true;
    type Item = Tokenized;
    type Stored = Row<'static>;
    type Table = ClozeBatchBuilder;
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
        let Some(task) = context.pattern else {
            return Err(PrepareError::Reject("records of this format need a pattern; name one with --pattern".to_owned()));
        };
        let purpose = match (context.trains, context.labelled) {
            (true, _) => Use::Train,
            (false, true) => Use::Evaluate,
            (false, false) => Use::Predict,
        };
        let found = task.examples(record, purpose).map_err(|error| PrepareError::Reject(error.to_string()))?;
        clock.lap(Stage::Parse);
        let mut rejected = Vec::new();
        let mut items = Vec::with_capacity(found.examples.len());
        for example in found.examples {
            let name = example.as_ref().ok().and_then(|example| example.ids.name.clone());
            let reason = match example {
                Ok(example) => match tokenized(task, context, session, example)? {
                    Ok(item) => {
                        items.push(item);
                        continue;
                    }
                    Err(reason) => reason,
                },
                Err(error) => error.to_string(),
            };
            rejected.push((name, reason));
        }
        clock.lap(Stage::Tokenize);
        let rejected = match &rejected[..] {
            [] => None,
            // Nothing else of the record is left.
            [(_, reason)] if items.is_empty() => Some((0, reason.clone())),
            rejected => Some((if items.is_empty() { 0 } else { rejected.len() }, listed(rejected))),
        };
        Ok(Items { items, left_out: found.left_out, rejected })
    }

    fn damage(example: &Tokenized) -> Option<&'static str> {
        let segments = example.segments.len();
        let is_outside = [example.blank, example.group_b].iter().any(|&place| place as usize > segments);
        is_outside.then_some("the blank of an example is outside of its context")
    }

    fn hash(example: &Tokenized) -> u64 {
        example.hash
    }

    fn skip(numbering: &mut Numbering) {
        numbering.examples += 1;
    }

    fn order(
        example: &Tokenized,
        place: &Place<'_>,
        (train, numbering): (&mut TrainTexts, &mut Numbering),
        rows: &mut SplitRows<Self>,
    ) -> Result<Vec<String>, WriteError> {
        let number = numbering.examples;
        numbering.examples += 1;
        if let Some(name) = &example.name
            && !numbering.names.insert(hash(&[name.as_bytes()]))
        {
            return Ok(vec![format!("another example has the id `{name}`")]);
        }
        let is_in_train = train.overlaps(rows.split, example.hash);
        rows.counts.in_train += usize::from(is_in_train && rows.split == Split::Val);
        let ends = if example.end_of_piece { example.choices.len() } else { 0 };
        rows.counts.rows += 1;
        rows.counts.choices += example.choices.len();
        rows.counts.tokens += example.question().context_tokens();
        rows.counts.tokens += example.choices.iter().map(|choice| choice.ids.len()).sum::<usize>() + ends;
        rows.counts.single_choice += usize::from(example.choices.len() == 1);
        let mut distinct = HashSet::with_capacity(example.choices.len());
        rows.counts.indistinguishable += usize::from(!example.choices.iter().all(|choice| distinct.insert(&choice.ids)));
        let name = example.name.clone().unwrap_or_else(|| number.to_string());
        let row = Row {
            example_id: format!("{}-{name}", rows.split.published_name()).into(),
            number,
            file: place.file,
            line: place.line,
            extra: place.extra.map(Cow::Borrowed),
            example: Cow::Borrowed(example),
        };
        rows.push(example.choices.len(), &row)?;
        Ok(Vec::new())
    }

    fn append(
        row: &Row<'static>,
        split: Split,
        files: &[String],
        writer: &mut ShardWriter<ClozeBatchBuilder>,
    ) -> Option<Result<(), WriteError>> {
        let example = &*row.example;
        let origin = Origin {
            split,
            source_id: example.source_id.as_deref(),
            raw_file: files.get(row.file as usize)?,
            raw_line: row.line,
            extra: row.extra.as_deref(),
        };
        let choices: Vec<_> = example.choices.iter().map(Choice::row).collect();
        let number = i64::try_from(row.number).ok()?;
        let passage_id = example.passage_id.unwrap_or(number);
        Some(writer.append(&ClozeRow {
            example_id: &row.example_id,
            origin,
            passage_id,
            question_id: example.question_id.unwrap_or(passage_id),
            group_id: example.group.as_deref(),
            idx: example.idx.as_deref(),
            source: "",
            passage: &example.passage,
            query: &example.query,
            tokens: &example.question(),
            entities: &[],
            choices: &choices,
            labelled: split != Split::Test,
            label_name: example.label.as_deref(),
            end_of_piece: example.end_of_piece,
        }))
    }
}

impl Choice {
    fn row(&self) -> ChoiceRow<'_> {
        let Self { text, ids, name, correct, index } = self;
        ChoiceRow { text, ids, correct: *correct, index: *index as usize, name: Some(name) }
    }
}

impl Tokenized {
    fn question(&self) -> Question<'_> {
        let segments = self.segments.iter().map(|Ids { ids, truncatable }| Segment { ids, truncatable: *truncatable });
        Question { segments: segments.collect(), blank: self.blank as usize, group_b: self.group_b as usize }
    }
}

/// Joins the reasons of rejected examples.
fn listed(rejected: &[(Option<String>, String)]) -> String {
    let reason = |(name, reason): &(Option<String>, String)| match name {
        Some(name) => format!("example {name}: {reason}"),
        None => reason.clone(),
    };
    let mut reasons: Vec<_> = rejected.iter().take(LISTED_EXAMPLES).map(reason).collect();
    let others = rejected.len() - reasons.len();
    reasons.extend((others > 0).then(|| format!("and {others} more examples")));
    reasons.join("; ")
}

/// Tokenizes an example. The inner error is the reason for which it is rejected.
fn tokenized(
    task: &PatternTask,
    context: &Context<'_>,
    session: &mut Session<'_>,
    example: Example,
) -> Result<Result<Tokenized, String>, PrepareError> {
    let Example { ids, passage, query, segments, blank, group_b, choices, label } = example;
    let ExampleIds { name, group, idx, source_id, record, question } = ids;
    let mut tokens = Vec::with_capacity(segments.len());
    for segment in segments {
        tokens.push(Ids { ids: session.encode(&segment.text)?.ids, truncatable: segment.truncatable });
    }
    let mut tokenized_choices = Vec::with_capacity(choices.len());
    for ExampleChoice { text, name, correct, index } in choices {
        let ids = session.encode(&text)?.ids;
        if !task.multi_token() && ids.len() != 1 {
            return Ok(Err(format!(
                "choice {index}, `{text}`, has {} tokens, but the choices of a task that is not multi-token have one each; ingest with \
                 --multi-token",
                ids.len()
            )));
        }
        if ids.is_empty() && !task.end_of_piece() {
            return Ok(Err(format!("choice {index}, `{text}`, has no tokens")));
        }
        tokenized_choices.push(Choice { text, ids, name, correct, index: index as u32 });
    }
    if tokenized_choices.is_empty() {
        return Ok(Err(ExampleError::NoChoices.to_string()));
    }
    let longest = tokenized_choices.iter().map(|choice| choice.ids.len()).max().unwrap_or(0);
    let item = Tokenized {
        name,
        group,
        idx,
        source_id,
        passage_id: record,
        question_id: question,
        hash: hash(&[if passage.is_empty() { &query } else { &passage }.as_bytes()]),
        passage,
        query,
        segments: tokens,
        blank: blank as u32,
        group_b: group_b as u32,
        choices: tokenized_choices,
        label,
        end_of_piece: task.end_of_piece(),
    };
    let encoder = task.encoder(context.tokenizer.special(), context.max_seq_len);
    match encoder.excess(&item.question(), longest) {
        Ok(_) => Ok(Ok(item)),
        Err(error) => Ok(Err(error.to_string())),
    }
}
