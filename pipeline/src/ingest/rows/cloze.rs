//! Rows of multi-token cloze: one per question, in the training split one per right answer.

mod order;
mod prepare;
mod row;

use glm_schemas::cloze::builder::ClozeBatchBuilder;
use glm_schemas::manifest::{Split, TaskName};
use glm_text::tokenize::Session;

use self::order::{Draws, Numbering};
use self::prepare::PreparedPassage;
use self::row::Row;
use super::train_texts::TrainTexts;
use crate::ingest::kind::{Context, Items, Place, PrepareError, RowKind, SplitRows};
use crate::ingest::options::IngestOptions;
use crate::ingest::stages::Clock;
use crate::shard::{ShardWriter, WriteError};

/// Questions of multi-token cloze.
pub(in crate::ingest) struct Questions;

impl RowKind for Questions {
    const TASK: TaskName = TaskName::Cloze;
    const HAS_COMMANDS: bool = true;
    type Item = PreparedPassage;
    type Stored = Row<'static>;
    type Table = ClozeBatchBuilder;
    type DataSet = TrainTexts;
    type Files = Numbering;
    type Rows = Draws;

    fn data_set(_: &IngestOptions) -> TrainTexts {
        TrainTexts::default()
    }

    fn prepare(
        context: &Context<'_>,
        session: &mut Session<'_>,
        record: &str,
        clock: &mut Clock,
    ) -> Result<Items<PreparedPassage>, PrepareError> {
        prepare::prepare(context, session, record, clock)
    }

    fn damage(passage: &PreparedPassage) -> Option<&'static str> {
        (!passage.is_consistent()).then_some("a question has an answer that is not a candidate")
    }

    fn hash(passage: &PreparedPassage) -> u64 {
        passage.hash
    }

    fn skip(numbering: &mut Numbering) {
        numbering.passages += 1;
    }

    fn order(
        passage: &PreparedPassage,
        place: &Place<'_>,
        (train, numbering): (&mut TrainTexts, &mut Numbering),
        rows: &mut SplitRows<Self>,
    ) -> Result<Vec<String>, WriteError> {
        order::order(passage, place, train, numbering, rows)
    }

    fn append(
        row: &Row<'static>,
        split: Split,
        files: &[String],
        writer: &mut ShardWriter<ClozeBatchBuilder>,
    ) -> Option<Result<(), WriteError>> {
        row.with_cloze_row(split, files, |row| writer.append(row))
    }
}
