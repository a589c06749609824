//! Objectives, and what a sample predicts under each.

use glm_schemas::vocab::{SpecialIds, TokenId};

use super::draws::{Draws, Use};
use super::layout::Blanks;
use super::settings::InfillSettings;
use super::spans::{Lengths, part_of, place, place_in_documents, sentences};
use super::text::{Marks, Span, Text};

/// Objective of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Objective {
    /// Short spans.
    Token,
    /// One short span.
    SingleSpan,
    /// Whole sentences.
    Sentence,
    /// A long span, or the end of the text.
    Document,
}

/// Draws for a sample as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Drawn {
    /// The objective.
    pub(super) objective: Objective,
    /// True if the sample is cut into short pieces.
    pub(super) short: bool,
}

impl Drawn {
    /// Draws the objective of a sample, in the order of the published code.
    pub(super) fn of(key: u64, settings: &InfillSettings) -> Self {
        let mut draws = Draws::new(key, Use::Objective, 0);
        let short = draws.chance(settings.short_pieces);
        let objective = match (draws.chance(settings.single_span), draws.share()) {
            (true, _) => Objective::SingleSpan,
            (_, share) if share < settings.token => Objective::Token,
            (_, share) if share < settings.token + settings.sentence => Objective::Sentence,
            _ => Objective::Document,
        };
        Self { objective, short }
    }
}

impl Objective {
    /// Index of the objective in sums by objective: a single span is of the token level.
    pub(super) fn level(self) -> usize {
        match self {
            Self::Token | Self::SingleSpan => 0,
            Self::Sentence => 1,
            Self::Document => 2,
        }
    }

    /// Token in the place of a blank.
    pub(super) fn mask(self, special: SpecialIds, settings: &InfillSettings) -> TokenId {
        match self {
            Self::Sentence if settings.task_mask => special.masks().sentence,
            Self::Document if settings.task_mask => special.masks().document,
            _ => special.mask,
        }
    }

    /// Draws what a text predicts: at least one token, unless nothing but the prompt is left of it.
    ///
    /// A text without the end of a sentence has no sentence to predict, so spans are drawn from it.
    pub(super) fn blanks(
        self,
        text: &Text<'_>,
        marks: &Marks,
        settings: &InfillSettings,
        lengths: &Lengths,
        draws: &mut Draws,
    ) -> Blanks {
        let share = settings.mask_ratio;
        let mut spans = match self {
            Self::SingleSpan => {
                let length = lengths.draw(draws);
                place_in_documents(text, &[length], share, &mut |n| draws.below(n))
            }
            Self::Sentence => sentences(text, marks, share, &mut |candidates| draws.shuffle(candidates)),
            Self::Document => return document(text, settings.min_ratio, draws),
            Self::Token => Vec::new(),
        };
        if spans.is_empty() {
            let lengths = lengths.draw_many(part_of(text.ids.len(), share), draws);
            spans = place_in_documents(text, &lengths, share, &mut |n| draws.below(n));
        }
        if spans.is_empty() {
            return Blanks::Suffix(1);
        }
        draws.shuffle(&mut spans);
        Blanks::Spans(spans)
    }
}

/// A suffix if the sample has several documents, and else with probability one half; otherwise one span. Both have a length of at least
/// `min_ratio` of the sample.
///
/// The published code draws the length once per batch, for its shortest and longest sample; here each sample has its own.
fn document(text: &Text<'_>, min_ratio: f64, draws: &mut Draws) -> Blanks {
    let tokens = text.ids.len();
    let most = tokens.saturating_sub(2).max(1);
    let least = part_of(tokens, min_ratio).clamp(1, most);
    let length = least + draws.below(most - least + 1);
    let suffix = text.has_inner_end() || draws.chance(0.5);
    let room = text.documents().into_iter().max_by_key(Span::len).filter(|room| room.len() > 0);
    match room {
        Some(room) if !suffix => {
            let length = length.min(room.len());
            Blanks::Spans(place(&[length], room.start, room.len(), &mut |n| draws.below(n)))
        }
        _ => Blanks::Suffix(length),
    }
}
