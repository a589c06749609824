//! Rules for questions, and those that all rows share.

use std::collections::{BTreeSet, HashSet};

use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use arrow_array::{Array, Int32Array, ListArray, RecordBatch, StringArray};
use glm_schemas::cloze::encoding::{ChoiceEncoder, Question};
use glm_schemas::cloze::{self, CharSpan, ClozeView, ViewError};
use glm_schemas::manifest::Split;
use glm_schemas::origin::OriginView;
use glm_schemas::vocab::{SpecialIds, TokenId};

use serde::de::IgnoredAny;

use super::fault::Violation;
use glm_text::standard::CharOffsets;

/// Maximum length of a text in a message, in code points.
const SHOWN_CHARS: usize = 60;

/// Columns of a batch.
pub(super) struct Columns<'a> {
    pub(super) view: ClozeView<'a>,
    passage: &'a StringArray,
    entities: &'a ListArray,
    entity_text: &'a StringArray,
    /// `char_start`, `char_end`, `token_start`, `token_end`.
    entity_spans: [&'a Int32Array; 4],
    origins: OriginView<'a>,
    label: &'a Int32Array,
    blank: &'a Int32Array,
    group_b: &'a Int32Array,
    context_tokens: &'a Int32Array,
    choice_tokens: &'a Int32Array,
    num_choices: &'a Int32Array,
}

impl<'a> Columns<'a> {
    pub(super) fn try_new(batch: &'a RecordBatch) -> Result<Self, ViewError> {
        let wrong_type =
            |column, array: &dyn Array, expected| ViewError::Type { column, found: array.data_type().to_string(), expected };
        let int32 = |name| {
            let array = cloze::column(batch, name)?;
            array.as_primitive_opt::<Int32Type>().ok_or_else(|| wrong_type(name, array, "int32"))
        };
        let lists = cloze::column(batch, "entities")?;
        let entities = lists.as_list_opt::<i32>().ok_or_else(|| wrong_type("entities", lists, "list"))?;
        let fields = entities.values().as_struct_opt().ok_or_else(|| wrong_type("entities", lists, "list<struct>"))?;
        let field = |name: &'static str| fields.column_by_name(name).ok_or(ViewError::Missing(name));
        let span = |name| {
            let array = field(name)?;
            array.as_primitive_opt::<Int32Type>().ok_or_else(|| wrong_type(name, array, "int32"))
        };
        Ok(Self {
            view: ClozeView::try_new(batch)?,
            passage: cloze::strings("passage", cloze::column(batch, "passage")?)?,
            entities,
            entity_text: cloze::strings("entities.text", field("text")?)?,
            entity_spans: [span("char_start")?, span("char_end")?, span("token_start")?, span("token_end")?],
            origins: OriginView::try_new(batch)?,
            label: int32("label")?,
            blank: int32("blank")?,
            group_b: int32("group_b")?,
            context_tokens: int32("context_tokens")?,
            choice_tokens: int32("choice_tokens")?,
            num_choices: int32("num_choices")?,
        })
    }
}

/// Contribution of a row to the totals of its split.
pub(super) struct Counted {
    pub(super) choices: usize,
    pub(super) tokens: usize,
}

/// Parameters of the rules, from the manifest.
pub(super) struct Rules {
    pub(super) vocab_size: usize,
    pub(super) special: SpecialIds,
    pub(super) max_seq_len: usize,
    /// Encoder of the choices.
    pub(super) encoder: ChoiceEncoder,
    /// Split of the shard.
    pub(super) split: Split,
    /// Names of the raw files.
    pub(super) raw_files: BTreeSet<String>,
}

/// Violation of a row with fewer choices than the row before it.
pub(super) fn out_of_order(found: usize, before: usize) -> Violation {
    Violation::new(
        "num_choices",
        found,
        format!("at least {before}, as in the row before (rows are sorted by number of choices)"),
    )
}

impl Rules {
    /// Checks the rules for one row, in a fixed order.
    pub(super) fn check(&self, columns: &Columns<'_>, row: usize) -> Result<Counted, Violation> {
        let (choices, choice_tokens) = self.check_choices(columns, row)?;
        let question = columns.view.question(row);
        self.check_segments(columns, &question, row)?;
        let context_tokens = question.context_tokens();
        for (column, found, expected) in [
            ("context_tokens", columns.context_tokens, context_tokens),
            ("choice_tokens", columns.choice_tokens, choice_tokens),
        ] {
            equal(column, found.value(row), expected)?;
        }
        self.check_label(columns, row)?;
        self.check_length(columns, row)?;
        self.check_origin(&columns.origins, row)?;
        check_entities(columns, row)?;
        Ok(Counted { choices, tokens: context_tokens + choice_tokens })
    }

    fn check_segments(&self, columns: &Columns<'_>, question: &Question<'_>, row: usize) -> Result<(), Violation> {
        for (number, segment) in question.segments.iter().enumerate() {
            self.check_ids("segments.ids", segment.ids)
                .map_err(|violation| Violation { found: format!("segment {number}: {}", violation.found), ..violation })?;
        }
        let last = question.segments.len();
        for (column, found) in [("blank", columns.blank.value(row)), ("group_b", columns.group_b.value(row))] {
            if usize::try_from(found).map_or(true, |found| found > last) {
                return Err(Violation::new(column, found, format!("a number from 0 to {last}, the number of segments")));
            }
        }
        Ok(())
    }

    /// Returns the number of choices and of the tokens that they predict.
    fn check_choices(&self, columns: &Columns<'_>, row: usize) -> Result<(usize, usize), Violation> {
        let choices = columns.view.choices(row);
        let count = choices.len();
        if count == 0 {
            return Err(Violation::new("choices", "no choice", "at least one"));
        }
        equal("num_choices", columns.num_choices.value(row), count)?;
        let mut tokens = 0;
        let mut indices = HashSet::with_capacity(count);
        for (number, choice) in choices.enumerate() {
            if !choice.index.is_some_and(|index| indices.insert(index)) {
                let found = choice.index.map_or("a negative index".to_owned(), |index| format!("{index} again"));
                let expected = "an index of its own, at least 0, for every choice";
                return Err(Violation::new("choices.choice_index", format!("choice {number}: {found}"), expected));
            }
            self.check_ids("choices.ids", choice.ids)
                .map_err(|violation| Violation { found: format!("choice {number}: {}", violation.found), ..violation })?;
            tokens += self.encoder.targets(choice.ids.len());
        }
        Ok((count, tokens))
    }

    pub(super) fn check_ids(&self, column: &'static str, ids: &[TokenId]) -> Result<(), Violation> {
        match ids.iter().position(|&id| usize::try_from(id).map_or(true, |id| id >= self.vocab_size)) {
            None => Ok(()),
            Some(at) => {
                let found = format!("id {} at position {at}", ids[at]);
                Err(Violation::new(column, found, format!("ids from 0 to below vocab_size = {}", self.vocab_size)))
            }
        }
    }

    fn check_label(&self, columns: &Columns<'_>, row: usize) -> Result<(), Violation> {
        let found = (!columns.label.is_null(row)).then(|| columns.label.value(row));
        let shown = found.map_or("null".to_owned(), |label| label.to_string());
        if self.split == Split::Test {
            return if found.is_none() { Ok(()) } else { Err(Violation::new("label", shown, "null in the test split")) };
        }
        let first = columns.view.choices(row).position(|choice| choice.correct);
        // Of a pattern, the label can be unknown, or that of none of the choices.
        if first.is_none() && found.is_none() && columns.view.choices(row).all(|choice| choice.name.is_some()) {
            return if self.split != Split::Train {
                Ok(())
            } else {
                Err(Violation::new("label", shown, "a label in the training split"))
            };
        }
        let Some(first) = first else {
            return Err(Violation::new("choices.correct", "no correct choice", "at least one outside the test split"));
        };
        if found.and_then(|label| usize::try_from(label).ok()) != Some(first) {
            return Err(Violation::new("label", shown, format!("{first}, the first correct choice")));
        }
        Ok(())
    }

    pub(super) fn check_origin(&self, origins: &OriginView<'_>, row: usize) -> Result<(), Violation> {
        let origin = match origins.get(row) {
            Ok(origin) => origin,
            Err(ViewError::Value { column, found, expected }) => return Err(Violation::new(column, found, expected)),
            Err(error) => return Err(Violation::new("split", error, "a split and a raw file")),
        };
        if origin.split != self.split {
            return Err(Violation::new("split", origin.split, format!("{}, the split of the shard", self.split)));
        }
        if !self.raw_files.contains(origin.raw_file) {
            return Err(Violation::new("raw_file", shown(origin.raw_file), "one of raw_files in the manifest"));
        }
        let is_object = |text: &str| text.starts_with('{') && serde_json::from_str::<IgnoredAny>(text).is_ok();
        match origin.extra {
            Some(extra) if !is_object(extra) => Err(Violation::new("extra", shown(extra), "null or a JSON object")),
            _ => Ok(()),
        }
    }

    /// Checks that the question fits the sequence length; `ingest` rejects questions that do not.
    fn check_length(&self, columns: &Columns<'_>, row: usize) -> Result<(), Violation> {
        let longest = columns.view.choices(row).map(|choice| choice.ids.len()).max().unwrap_or(0);
        match self.encoder.excess(&columns.view.question(row), longest) {
            Ok(_) => Ok(()),
            Err(error) => Err(Violation::new("choices.ids", error, "a question that fits max_seq_len of the manifest")),
        }
    }
}

fn check_entities(columns: &Columns<'_>, row: usize) -> Result<(), Violation> {
    let offsets = columns.entities.offsets();
    let entities = offsets[row] as usize..offsets[row + 1] as usize;
    if entities.is_empty() {
        return Ok(());
    }
    let passage = CharOffsets::new(columns.passage.value(row));
    // Mentions are of the passage, the first segment.
    let tokens = columns.view.question(row).segments.first().map_or(0, |passage| passage.ids.len());
    for (number, at) in entities.enumerate() {
        let [char_start, char_end, token_start, token_end] = columns.entity_spans.map(|span| span.value(at));
        let chars = span(char_start, char_end).and_then(|(start, end)| passage.slice(CharSpan { start, end }));
        let Some(text) = chars else {
            let found = format!("entity {number} from {char_start} to {char_end}");
            let expected = format!("code points of the passage, which has {}", passage.chars());
            return Err(Violation::new("entities.char_start", found, expected));
        };
        let found = columns.entity_text.value(at);
        if found != text {
            let found = format!("entity {number} {}", shown(found));
            let expected = format!("{}, code points {char_start} to {char_end} of the passage", shown(text));
            return Err(Violation::new("entities.text", found, expected));
        }
        let covered = span(token_start, token_end).is_some_and(|(_, end)| end <= tokens);
        if !covered && (token_start, token_end) != (-1, -1) {
            let found = format!("entity {number} from {token_start} to {token_end}");
            let expected = format!("-1 to -1, or tokens of the passage, which has {tokens}");
            return Err(Violation::new("entities.token_start", found, expected));
        }
    }
    Ok(())
}

/// Returns a non-empty span.
fn span(start: i32, end: i32) -> Option<(usize, usize)> {
    let (start, end) = (usize::try_from(start).ok()?, usize::try_from(end).ok()?);
    (start < end).then_some((start, end))
}

fn equal(column: &'static str, found: i32, expected: usize) -> Result<(), Violation> {
    if usize::try_from(found) == Ok(expected) { Ok(()) } else { Err(Violation::new(column, found, expected)) }
}

fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}…", &text[..end]),
    }
}
