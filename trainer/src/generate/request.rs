//! Requests to a generator, and its reports.

use std::io;

use glm_schemas::vocab::TokenId;

use super::beam::{BeamSettings, Hypothesis};
use super::filter::Filter;
use super::single::Limits;
use super::{Context, GenerateError};

/// Way to choose the tokens of a piece.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Search {
    /// The most probable token at each place.
    Greedy(Limits),
    /// Tokens drawn at random.
    Sample {
        /// Distribution that is drawn from.
        filter: Filter,
        /// Seed; a request's tokens depend on it and on the request's key, not on the other requests.
        seed: u64,
        /// Limits of a piece.
        limits: Limits,
    },
    /// Beam search.
    Beam(BeamSettings),
}

impl Search {
    /// Limits of a piece.
    pub fn limits(&self) -> Limits {
        match *self {
            Self::Greedy(limits) | Self::Sample { limits, .. } => limits,
            Self::Beam(BeamSettings { ngram, min_length, max_length, .. }) => Limits { ngram, min_length, max_length },
        }
    }

    /// Number of beams.
    pub fn beams(&self) -> usize {
        match self {
            Self::Beam(settings) => settings.beams.max(1),
            Self::Greedy(_) | Self::Sample { .. } => 1,
        }
    }

    /// Checks that the search can be used with weights of a number of positions.
    ///
    /// # Errors
    /// [`GenerateError::Settings`] with the setting and the allowed range.
    pub fn check(&self, positions: usize) -> Result<(), GenerateError> {
        let invalid = |text: String| Err(GenerateError::Settings(text));
        let Limits { min_length, max_length, .. } = self.limits();
        // The last token of a piece that is followed by another one has the block position after its number.
        let most = positions.saturating_sub(2);
        if max_length == 0 || max_length > most {
            return invalid(format!(
                "the maximum number of tokens is {max_length}; it must be 1 to {most}, because the weights have {positions} block positions"
            ));
        }
        if min_length > max_length {
            return invalid(format!("the minimum number of tokens, {min_length}, is above the maximum, {max_length}"));
        }
        let filter = match *self {
            Self::Greedy(_) => Filter::NONE,
            Self::Sample { filter, .. } => filter,
            Self::Beam(BeamSettings { filter, length_penalty, .. }) => {
                if !length_penalty.is_finite() {
                    return invalid(format!("the length penalty is {length_penalty}; it must be a number"));
                }
                filter
            }
        };
        if !(filter.temperature > 0.0 && filter.temperature.is_finite()) {
            return invalid(format!("the temperature is {}; it must be above 0", filter.temperature));
        }
        if !(0.0..=1.0).contains(&filter.top_p) {
            return invalid(format!("top-p is {}; it must be between 0 and 1", filter.top_p));
        }
        Ok(())
    }
}

/// Settings of a [`Generator`](super::Generator).
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Way to choose tokens, for requests without one of their own.
    pub search: Search,
    /// Start of piece.
    pub start: TokenId,
    /// Tokens that end a piece.
    pub ends: Vec<TokenId>,
    /// Maximum number of requests that are decoded together.
    pub sequences: usize,
    /// Name of the option or setting of that number, for the message if memory runs out.
    pub sequences_setting: &'static str,
    /// Maximum number of tokens of contexts in one forward pass, which holds one context at least.
    pub batch_tokens: usize,
}

impl Default for Settings {
    fn default() -> Self {
        let limits = Limits { ngram: 0, min_length: 0, max_length: 128 };
        Self {
            search: Search::Greedy(limits),
            start: 0,
            ends: Vec::new(),
            sequences: 32,
            sequences_setting: "--batch-size",
            batch_tokens: 16384,
        }
    }
}

/// A context whose blanks are to be filled.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The context.
    pub context: Context,
    /// Key of the request's random numbers.
    pub key: u64,
    /// Way to choose tokens; `None`: that of the [`Settings`].
    pub search: Option<Search>,
}

/// Progress of generation.
#[derive(Debug, PartialEq)]
pub enum Event {
    /// The next token of a piece: as soon as it is chosen, or with beam search when the piece is.
    Token {
        /// Index of the request.
        request: usize,
        /// Number of the blank.
        blank: usize,
        /// Token id.
        token: TokenId,
    },
    /// All blanks of a request are filled.
    Done {
        /// Index of the request.
        request: usize,
        /// Hypotheses for each blank, best first.
        pieces: Vec<Vec<Hypothesis>>,
    },
}

/// Receiver of events.
pub type Receiver<'a> = dyn FnMut(Event) -> io::Result<()> + 'a;
