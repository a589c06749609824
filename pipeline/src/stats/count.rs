//! Counts the rows of a split batch by batch.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch};
use glm_schemas::cloze::encoding::{ChoiceEncoder, Question};
use glm_schemas::cloze::{self, ClozeView, TOKEN_COLUMNS, ViewError};
use glm_schemas::manifest::{Manifest, Split};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::error::StatsError;
use super::lengths::LengthCounter;
use super::passages::Passages;
use super::summary::{Share, Source, SplitStats, Truncation};

/// A column with one number per mention, for the length of its lists.
const MENTIONS: &str = "entities.list.element.char_start";
const BATCH_ROWS: usize = 256;

/// Counts one split.
pub(super) struct SplitCounter<'a> {
    split: Split,
    unk: i32,
    /// Truncation to several sequence lengths.
    truncations: Vec<(usize, ChoiceEncoder, Truncation)>,
    /// Passages of the split that should not share any.
    other: Option<&'a Passages>,
    passages: Passages,
    questions: usize,
    single_choice: usize,
    indistinguishable: usize,
    choices: LengthCounter,
    context: LengthCounter,
    choice: LengthCounter,
    mentions: LengthCounter,
    tokens: usize,
    unknown: usize,
    sources: HashMap<String, usize>,
}

impl<'a> SplitCounter<'a> {
    pub(super) fn new(split: Split, manifest: &Manifest, lengths: &[usize], other: Option<&'a Passages>) -> Self {
        let (special, cloze) = (manifest.special_ids, manifest.cloze());
        Self {
            split,
            unk: special.unk,
            truncations: lengths
                .iter()
                .map(|&length| (length, cloze.encoder(special, length), Truncation::default()))
                .collect(),
            other,
            passages: Passages::default(),
            questions: 0,
            single_choice: 0,
            indistinguishable: 0,
            choices: LengthCounter::default(),
            context: LengthCounter::default(),
            choice: LengthCounter::default(),
            mentions: LengthCounter::default(),
            tokens: 0,
            unknown: 0,
            sources: HashMap::new(),
        }
    }

    /// Counts the rows of one shard.
    pub(super) fn add_shard(&mut self, path: &Path) -> Result<(), StatsError> {
        let damaged = |source| StatsError::Parquet { path: path.to_owned(), source };
        let file = File::open(path).map_err(|source| StatsError::Read { path: path.to_owned(), source })?;
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(damaged)?;
        let columns = TOKEN_COLUMNS.into_iter().chain(["passage_id", "source", "passage", "query", MENTIONS]);
        let columns = ProjectionMask::columns(builder.parquet_schema(), columns);
        for batch in builder.with_projection(columns).with_batch_size(BATCH_ROWS).build().map_err(damaged)? {
            let batch = batch.map_err(|source| StatsError::Arrow { path: path.to_owned(), source })?;
            self.add_batch(&batch).map_err(|source| StatsError::NotAShard { path: path.to_owned(), source })?;
        }
        Ok(())
    }

    fn add_batch(&mut self, batch: &RecordBatch) -> Result<(), ViewError> {
        let view = ClozeView::try_new(batch)?;
        let text = cloze::strings("passage", cloze::column(batch, "passage")?)?;
        let queries = cloze::strings("query", cloze::column(batch, "query")?)?;
        let index = cloze::int64("passage_id", cloze::column(batch, "passage_id")?)?;
        let mentions = cloze::column(batch, "entities")?.as_list_opt::<i32>().ok_or(ViewError::Missing("entities"))?;
        for row in 0..view.len() {
            self.mentions.add(mentions.value_length(row) as usize);
            self.questions += 1;
            // Questions without a passage have only their query in common.
            let passage = Some(text.value(row)).filter(|text| !text.is_empty()).unwrap_or(queries.value(row));
            self.passages.add(passage, index.value(row), view.example_id(row), self.other);
            let question = view.question(row);
            self.context.add(question.context_tokens());
            question.segments.iter().for_each(|segment| self.count_unknown(segment.ids));
            let choices = view.choices(row);
            self.choices.add(choices.len());
            self.single_choice += usize::from(choices.len() == 1);
            let mut tokens = HashSet::with_capacity(choices.len());
            self.indistinguishable += usize::from(!view.choices(row).all(|choice| tokens.insert(choice.ids)));
            let mut longest = 0;
            for choice in choices {
                self.choice.add(choice.ids.len());
                self.count_unknown(choice.ids);
                longest = longest.max(choice.ids.len());
            }
            self.count_truncation(&question, longest);
        }
        self.count_sources(batch)
    }

    fn count_unknown(&mut self, ids: &[i32]) {
        self.tokens += ids.len();
        self.unknown += ids.iter().filter(|&&id| id == self.unk).count();
    }

    /// Counts truncation, which is largest for the longest choice.
    fn count_truncation(&mut self, question: &Question<'_>, longest: usize) {
        for (_, encoder, truncation) in &mut self.truncations {
            match encoder.excess(question, longest) {
                Ok(lost) => {
                    truncation.questions += usize::from(lost > 0);
                    truncation.tokens_lost += lost;
                }
                Err(_) => truncation.do_not_fit += 1,
            }
        }
    }

    /// Counts sources by dictionary key, to avoid a look-up by name per row.
    fn count_sources(&mut self, batch: &RecordBatch) -> Result<(), ViewError> {
        let column = cloze::dictionary("source", cloze::column(batch, "source")?)?;
        let names = cloze::strings("source", column.values().as_ref())?;
        let mut counts = vec![0; names.len()];
        for key in column.keys_iter() {
            let count = key.and_then(|key| counts.get_mut(key)).ok_or(ViewError::Null("source"))?;
            *count += 1;
        }
        for (i, count) in counts.into_iter().enumerate().filter(|&(_, count)| count > 0) {
            *self.sources.entry(names.value(i).to_owned()).or_default() += count;
        }
        Ok(())
    }

    /// Returns the statistics with up to `max_sources` sources, and the passages for comparison with other splits.
    pub(super) fn finish(self, max_sources: usize) -> (SplitStats, Passages) {
        let distinct_sources = self.sources.len();
        let mut sources: Vec<_> = self.sources.into_iter().map(|(name, questions)| Source { name, questions }).collect();
        sources.sort_by(|a, b| b.questions.cmp(&a.questions).then_with(|| a.name.cmp(&b.name)));
        sources.truncate(max_sources);
        let share = |truncation: Truncation| Share::new(truncation.questions, self.questions).share;
        let truncations = self.truncations.into_iter();
        let mut truncations: Vec<(usize, Truncation)> = truncations
            .map(|(length, _, truncation)| (length, Truncation { share: share(truncation), ..truncation }))
            .collect();
        let truncation = truncations.first().map_or_else(Truncation::default, |(_, truncation)| *truncation);
        truncations.sort_unstable_by_key(|(length, _)| *length);
        truncations.dedup_by_key(|(length, _)| *length);
        let stats = SplitStats {
            split: self.split,
            questions: self.questions,
            single_choice: self.single_choice,
            indistinguishable: self.indistinguishable,
            passages: self.passages.indices(),
            distinct_passages: self.passages.distinct(),
            duplicates: self.passages.duplicates.clone(),
            choices: self.choices.finish(),
            context: self.context.finish(),
            choice: self.choice.finish(),
            mentions: self.mentions.finish(),
            truncation,
            truncations,
            unknown: Share::new(self.unknown, self.tokens),
            sources,
            distinct_sources,
        };
        (stats, self.passages)
    }
}
