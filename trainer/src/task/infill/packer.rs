//! Packing of documents.

use arrow_array::RecordBatch;
use glm_schemas::document::DocumentView;
use glm_schemas::vocab::TokenId;

use super::Infill;
use super::draws::{Draws, Use};
use super::layout::{Blanks, Row};
use super::objective::{Drawn, Objective};
use super::text::Text;
use super::window::{Document, pieces};
use crate::batch::packed::Batch;
use crate::batch::work::Work;
use crate::task::{RowError, RowPacker, RowSize};

/// Shortest of the short pieces, without `[CLS]`.
const SHORTEST_PIECE: usize = 32;

/// A sample with what it predicts.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) objective: Objective,
    /// One, or several short pieces.
    rows: Vec<SampleRow>,
    key: u64,
}

/// Row of a sample.
#[derive(Debug)]
struct SampleRow {
    ids: Vec<TokenId>,
    /// Number of tokens before the text.
    before: usize,
    blanks: Blanks,
}

impl SampleRow {
    /// Returns true for tokens that are targets if they are predicted: those of the text.
    fn is_text(&self) -> impl Fn(usize) -> bool + use<> {
        let before = self.before;
        move |index| index >= before
    }
}

impl Infill {
    /// Draws the sample with this key from a document.
    pub(super) fn sample(&self, view: &DocumentView<'_>, row: usize, key: u64) -> Sample {
        let (prompt, text, ends) = (view.prompt_ids(row), view.ids(row), view.sentence_ends(row));
        let document = Document { prompt, text, ends };
        let mut draws = Draws::new(key, Use::Window, 0);
        let window = document.window(self.max_seq_len, &mut |n| draws.below(n));
        let mut ids = vec![self.special.cls];
        let tokens = prompt.iter().chain(text).chain([&self.special.pad]).skip(window.start).take(window.len());
        ids.extend(tokens);
        let prompt_left = prompt.len().saturating_sub(window.start).min(window.len());
        // Ends in the sample, after `[CLS]`.
        let marks = ends.iter().map(|end| prompt.len() + *end as usize).filter(|end| *end > window.start && *end <= window.end);
        let marks: Vec<usize> = marks.map(|end| end - window.start + 1).collect();
        let whole = (ids, 1 + prompt_left, marks);

        let Drawn { objective, short } = Drawn::of(key, &self.settings);
        let parts = if short { self.short_pieces(whole, key) } else { vec![whole] };
        let blanked = |(number, (ids, before, marks)): (usize, (Vec<TokenId>, usize, Vec<usize>))| {
            let text = Text { ids: &ids, before, special: self.special };
            let mut draws = Draws::new(key, Use::Spans, number);
            let blanks = objective.blanks(&text, &marks, &self.settings, &self.lengths, &mut draws);
            SampleRow { ids, before, blanks }
        };
        Sample { objective, rows: parts.into_iter().enumerate().map(blanked).collect(), key }
    }

    /// Cuts a sample into short pieces: tokens, number of tokens before the text, and ends of sentences of each.
    fn short_pieces(
        &self,
        (ids, before, marks): (Vec<TokenId>, usize, Vec<usize>),
        key: u64,
    ) -> Vec<(Vec<TokenId>, usize, Vec<usize>)> {
        let mut draws = Draws::new(key, Use::Pieces, 0);
        let longest = self.max_seq_len.saturating_sub(2).max(1);
        let shortest = SHORTEST_PIECE.min(longest);
        let length = shortest + draws.below(longest - shortest + 1);
        let tokens = &ids[1..];
        // As many as cover a full sequence; fewer for a short sample, which would else be repeated.
        let count = (self.max_seq_len.saturating_sub(1) / length).min(tokens.len().div_ceil(length)).max(1);
        let mut ends: Vec<usize> = marks.iter().map(|end| end - 1).collect();
        if tokens.last() == Some(&self.special.pad) {
            ends.push(tokens.len());
        }
        let piece = |range: std::ops::Range<usize>| {
            let own = std::iter::once(self.special.cls).chain(tokens[range.clone()].iter().copied()).collect();
            let before_text = (before - 1).saturating_sub(range.start).min(range.len());
            let own_marks = marks.iter().map(|end| end - 1).filter(|end| *end > range.start && *end <= range.end);
            (own, 1 + before_text, own_marks.map(|end| end - range.start + 1).collect())
        };
        pieces(tokens, self.special.pad, &ends, length, count, &mut |n| draws.below(n)).into_iter().map(piece).collect()
    }
}

impl Sample {
    fn rows(&self, task: &Infill) -> impl Iterator<Item = (&SampleRow, Row<'_>)> {
        let mask = self.objective.mask(task.special, &task.settings);
        self.rows.iter().map(move |row| (row, Row { ids: &row.ids, blanks: &row.blanks, mask }))
    }

    /// Size of the sample in a batch.
    pub(super) fn size(&self, task: &Infill) -> RowSize {
        let mut size = RowSize { work: Work { examples: 1, groups: 1, ..Work::default() }, longest_row: 0 };
        for (row, laid_out) in self.rows(task) {
            let work = laid_out.work(row.is_text());
            size.longest_row = size.longest_row.max(work.tokens);
            size.work += work;
        }
        size
    }

    /// Appends the sample to a batch as the sample with number `ordinal`; it is the next group.
    pub(super) fn push(&self, task: &Infill, ordinal: u64, batch: &mut Batch) {
        let group = batch.targets.groups;
        let hides = matches!(self.objective, Objective::Token | Objective::SingleSpan);
        for (number, (row, laid_out)) in self.rows(task).enumerate() {
            let mut draws = Draws::new(self.key, Use::Hidden, number);
            let hidden = |_| (hides && draws.chance(task.settings.input_masking)).then(|| task.special.masks().block);
            laid_out.push(task.special, group, row.is_text(), hidden, batch);
            batch.end_row(ordinal, number);
        }
    }
}

/// Packer of documents.
pub(super) struct DocumentPacker<'a> {
    task: &'a Infill,
    /// Measured samples.
    samples: Vec<Sample>,
}

impl<'a> DocumentPacker<'a> {
    pub(super) fn new(task: &'a Infill) -> Self {
        Self { task, samples: Vec::new() }
    }
}

impl<'a> RowPacker<'a> for DocumentPacker<'a> {
    fn measure(&mut self, rows: &'a RecordBatch, row: usize, key: u64) -> Result<RowSize, RowError> {
        let sample = self.task.sample(&DocumentView::try_new(rows)?, row, key);
        let size = sample.size(self.task);
        self.samples.push(sample);
        Ok(size)
    }

    /// # Panics
    /// If no sample has this number.
    fn pack(&mut self, number: usize, ordinal: u64, batch: &mut Batch) -> Result<usize, RowError> {
        self.samples[number].push(self.task, ordinal, batch);
        Ok(1)
    }

    fn finish(&mut self, _: &mut Batch) {}
}
