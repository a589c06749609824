//! The loop between searches and a model: sequences of different lengths are decoded together, and a request that is done makes room
//! for the next one.

use std::io;

use glm_kernels::dropout::mix;
use glm_schemas::vocab::TokenId;
use tch::Tensor;

use super::beam::{BeamSearch, BeamSettings, Hypothesis, Step};
use super::candidates::{Candidate, Wanted};
use super::filter::Filter;
use super::scores::LogProbs;
use super::single::{Choice, Limits, SingleSearch};
use super::{Context, GenerateError};
use crate::model::{Glm, KeyValueCache, NewToken, Pass};

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

/// Settings of a [`Generator`].
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Way to choose tokens.
    pub search: Search,
    /// Start of piece.
    pub start: TokenId,
    /// Tokens that end a piece.
    pub ends: Vec<TokenId>,
    /// Maximum number of requests that are decoded together.
    pub sequences: usize,
    /// Maximum number of tokens of contexts in one forward pass, which holds one context at least.
    pub batch_tokens: usize,
}

impl Default for Settings {
    fn default() -> Self {
        let limits = Limits { ngram: 0, min_length: 0, max_length: 128 };
        Self { search: Search::Greedy(limits), start: 0, ends: Vec::new(), sequences: 32, batch_tokens: 16384 }
    }
}

/// A context whose blanks are to be filled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The context.
    pub context: Context,
    /// Key of the request's random numbers.
    pub key: u64,
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

/// A model that fills blanks.
#[derive(Debug)]
pub struct Generator<'a> {
    model: &'a Glm,
    pass: Pass,
    settings: Settings,
}

impl<'a> Generator<'a> {
    /// Generation with a model.
    pub fn new(model: &'a Glm, pass: Pass, settings: Settings) -> Self {
        Self { model, pass, settings }
    }

    /// Returns the settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Checks that a context fits the model.
    ///
    /// # Errors
    /// [`GenerateError::TooLong`], [`GenerateError::NoBlank`] or [`GenerateError::BlankOutside`] with the index of the request.
    pub fn check(&self, request: usize, context: &Context) -> Result<(), GenerateError> {
        let (tokens, positions) = (context.ids.len(), self.model.config().positions);
        if tokens > positions {
            return Err(GenerateError::TooLong { request, tokens, positions });
        }
        if context.blanks.is_empty() {
            return Err(GenerateError::NoBlank { request });
        }
        match context.blanks.iter().find(|&&blank| blank >= tokens) {
            Some(&blank) => Err(GenerateError::BlankOutside { request, blank, tokens }),
            None => Ok(()),
        }
    }

    /// Checks that settings can be used with the model.
    ///
    /// # Errors
    /// [`GenerateError::Settings`] with the setting and the allowed range.
    pub fn check_settings(&self) -> Result<(), GenerateError> {
        let invalid = |text: String| Err(GenerateError::Settings(text));
        let Limits { min_length, max_length, .. } = self.limits();
        // The last token of a piece that is followed by another one has the block position after its number.
        let most = self.model.config().positions.saturating_sub(2);
        if max_length == 0 || max_length > most {
            return invalid(format!(
                "the maximum number of tokens is {max_length}; it must be 1 to {most}, because the weights have {} block positions",
                self.model.config().positions
            ));
        }
        if min_length > max_length {
            return invalid(format!("the minimum number of tokens, {min_length}, is above the maximum, {max_length}"));
        }
        let filter = match self.settings.search {
            Search::Greedy(_) => Filter::NONE,
            Search::Sample { filter, .. } => filter,
            Search::Beam(BeamSettings { filter, length_penalty, .. }) => {
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

    fn limits(&self) -> Limits {
        match self.settings.search {
            Search::Greedy(limits) | Search::Sample { limits, .. } => limits,
            Search::Beam(BeamSettings { ngram, min_length, max_length, .. }) => Limits { ngram, min_length, max_length },
        }
    }

    fn beams(&self) -> usize {
        match self.settings.search {
            Search::Beam(settings) => settings.beams.max(1),
            Search::Greedy(_) | Search::Sample { .. } => 1,
        }
    }

    /// Fills the blanks of all requests, which start in their order and may end in another one.
    ///
    /// # Errors
    /// A [`GenerateError`], before anything is generated if settings or a context do not fit the model.
    pub fn run(&self, requests: &[Request], receiver: &mut Receiver<'_>) -> Result<(), GenerateError> {
        self.check_settings()?;
        for (number, request) in requests.iter().enumerate() {
            self.check(number, &request.context)?;
        }
        let device = self.model.parameters().device();
        let cache = KeyValueCache::new(self.model.config(), self.pass.kind, device, self.beams());
        let mut decoding = Decoding { generator: self, requests, cache, active: Vec::new(), receiver };
        let mut waiting = requests;
        loop {
            let admitted = self.admit(waiting, decoding.active.len());
            let first = requests.len() - waiting.len();
            waiting = &waiting[admitted..];
            if admitted > 0 {
                decoding.start(first, admitted)?;
            }
            if decoding.active.is_empty() {
                if waiting.is_empty() {
                    return Ok(());
                }
                continue;
            }
            decoding.step()?;
        }
    }

    /// Number of waiting requests that start now, beside `active` ones.
    fn admit(&self, waiting: &[Request], active: usize) -> usize {
        let room = self.settings.sequences.max(1).saturating_sub(active);
        let mut tokens = 0;
        let fitting = waiting.iter().take(room).enumerate().take_while(|(number, request)| {
            tokens += request.context.ids.len() + 1;
            *number == 0 || tokens <= self.settings.batch_tokens
        });
        fitting.count()
    }

    /// Starts the search for a piece.
    fn search(&self, request: &Request, blank: usize) -> State {
        let ends = self.settings.ends.clone();
        match self.settings.search {
            Search::Beam(settings) => State::Beam(BeamSearch::new(settings, ends)),
            Search::Greedy(limits) => State::Single(SingleSearch::new(Choice::Greedy, limits, ends)),
            Search::Sample { filter, seed, limits } => {
                let key = mix(mix(mix(seed) ^ request.key) ^ blank as u64);
                State::Single(SingleSearch::new(Choice::Sample { filter, key }, limits, ends))
            }
        }
    }
}

/// Search for one piece.
#[derive(Debug)]
enum State {
    Single(SingleSearch),
    Beam(BeamSearch),
}

impl State {
    fn wanted(&self) -> Wanted {
        match self {
            Self::Single(search) => search.wanted(),
            Self::Beam(search) => search.wanted(),
        }
    }

    fn step(&mut self, rows: Vec<Vec<Candidate>>) -> Step {
        match self {
            Self::Single(search) => search.step(rows.into_iter().next().unwrap_or_default()),
            Self::Beam(search) => search.step(rows),
        }
    }
}

/// A request that is being decoded: sequence `i` of the cache is entry `i` of the active requests.
#[derive(Debug)]
struct Active {
    request: usize,
    blank: usize,
    search: State,
    /// For each open beam, the beam that it continues and the token to feed.
    fed: Vec<(usize, TokenId)>,
    /// Number of tokens of the piece that were reported.
    reported: usize,
    pieces: Vec<Vec<Hypothesis>>,
    is_done: bool,
}

/// State of a run.
struct Decoding<'a, 'r> {
    generator: &'a Generator<'a>,
    requests: &'a [Request],
    cache: KeyValueCache,
    active: Vec<Active>,
    receiver: &'r mut Receiver<'r>,
}

impl Decoding<'_, '_> {
    /// Starts requests.
    fn start(&mut self, first: usize, count: usize) -> Result<(), GenerateError> {
        let Generator { model, pass, settings } = self.generator;
        let requests = &self.requests[first..first + count];
        let contexts = requests.iter().map(|Request { context, .. }| {
            let start = NewToken { id: settings.start, position: context.blanks[0], block_position: 1 };
            (context.ids.as_slice(), start)
        });
        let logits = model.start_sequences(contexts, pass, &mut self.cache)?;
        let before = self.active.len();
        for (number, request) in requests.iter().enumerate() {
            self.active.push(Active {
                request: first + number,
                blank: 0,
                search: self.generator.search(request, 0),
                fed: Vec::new(),
                reported: 0,
                pieces: Vec::new(),
                is_done: false,
            });
        }
        self.choose(before, &logits, 1)
    }

    /// Feeds the chosen tokens and chooses the next ones.
    fn step(&mut self) -> Result<(), GenerateError> {
        let Generator { model, pass, .. } = self.generator;
        let beams = self.cache.beams();
        let (mut tokens, mut parents) = (Vec::new(), Vec::new());
        for Active { request, blank, fed, reported, .. } in &self.active {
            let position = self.requests[*request].context.blanks[*blank];
            // Beams that do not exist repeat the last one.
            for beam in 0..beams {
                let (parent, id) = fed[beam.min(fed.len() - 1)];
                parents.push(parent);
                tokens.push(NewToken { id, position, block_position: 1 + reported });
            }
        }
        self.cache.reorder(&parents)?;
        let logits = model.append_to_beams(&tokens, pass, &mut self.cache)?;
        self.choose(0, &logits, beams)
    }

    /// Chooses tokens for the active requests from `first` on, whose logits have `rows` rows each, and removes requests that are done.
    fn choose(&mut self, first: usize, logits: &Tensor, rows: usize) -> Result<(), GenerateError> {
        let wanted = self.active[first..].iter().map(|active| active.search.wanted()).max().unwrap_or(Wanted::Best(0));
        let log_probs = LogProbs::new(logits, wanted)?;
        for sequence in first..self.active.len() {
            let active = &self.active[sequence];
            let (wanted, open) = (active.search.wanted(), active.fed.len().max(1));
            let row = (sequence - first) * rows;
            let candidates = (row..row + open).map(|row| log_probs.row(row, wanted)).collect::<Result<Vec<_>, _>>()?;
            self.advance(sequence, candidates)?;
        }
        for sequence in (first..self.active.len()).rev() {
            if self.active[sequence].is_done {
                self.active.swap_remove(sequence);
                self.cache.remove(sequence)?;
            }
        }
        Ok(())
    }

    /// Chooses the next tokens of a request from candidates for each of its beams; starts the next piece if this one has ended.
    fn advance(&mut self, sequence: usize, mut candidates: Vec<Vec<Candidate>>) -> Result<(), GenerateError> {
        let Generator { model, pass, settings } = self.generator;
        loop {
            let Active { request, blank, .. } = self.active[sequence];
            if candidates.iter().all(Vec::is_empty) {
                return Err(GenerateError::NotANumber { request });
            }
            let active = &mut self.active[sequence];
            let hypotheses = match active.search.step(candidates) {
                Step::Feed(fed) => {
                    if let State::Single(_) = active.search {
                        for &(_, token) in &fed {
                            (self.receiver)(Event::Token { request, blank, token })?;
                        }
                    }
                    active.reported += 1;
                    active.fed = fed;
                    return Ok(());
                }
                Step::Done(hypotheses) => hypotheses,
            };
            let best = hypotheses.first().map(|best| best.tokens.clone()).unwrap_or_default();
            let unreported = if let State::Single(_) = active.search { active.reported } else { 0 };
            for &token in &best[unreported.min(best.len())..] {
                (self.receiver)(Event::Token { request, blank, token })?;
            }
            active.pieces.push(hypotheses);
            let context = &self.requests[request].context;
            let Some(&next) = context.blanks.get(blank + 1) else {
                active.is_done = true;
                let pieces = std::mem::take(&mut active.pieces);
                return Ok((self.receiver)(Event::Done { request, pieces })?);
            };
            let position = context.blanks[blank];
            let piece = best.iter().zip(2..).map(|(&id, block_position)| NewToken { id, position, block_position });
            let start = NewToken { id: settings.start, position: next, block_position: 1 };
            let tokens: Vec<_> = piece.chain([start]).collect();
            let logits = model.append_shared(sequence, &tokens, pass, &mut self.cache)?;
            active.search = self.generator.search(&self.requests[request], blank + 1);
            (active.blank, active.reported) = (blank + 1, 0);
            active.fed.clear();
            let wanted = active.search.wanted();
            candidates = vec![LogProbs::new(&logits, wanted)?.row(0, wanted)?];
        }
    }
}
