//! The loop between searches and a model: sequences of different lengths are decoded together, and a request that is done makes room
//! for the next one.

use std::collections::BTreeMap;

use glm_kernels::dropout::mix;
use glm_schemas::vocab::TokenId;
use tch::{TchError, Tensor};

use super::beam::{BeamSearch, Hypothesis, Step};
use super::candidates::{Candidate, Wanted};
use super::request::{Event, Receiver, Request, Search, Settings};
use super::scores::LogProbs;
use super::single::{Choice, SingleSearch};
use super::{Context, GenerateError};
use crate::batch::out_of_memory::is_out_of_memory;
use crate::model::{Glm, KeyValueCache, NewToken, Pass};

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

    /// The way to choose tokens for a request.
    fn search_of<'r>(&'r self, request: &'r Request) -> &'r Search {
        request.search.as_ref().unwrap_or(&self.settings.search)
    }

    /// Fills the blanks of all requests. Those with the same number of beams start in their order, and may end in another one.
    ///
    /// # Errors
    /// A [`GenerateError`], before anything is generated if settings or a context do not fit the model.
    pub fn run(&self, requests: &[Request], receiver: &mut Receiver<'_>) -> Result<(), GenerateError> {
        let mut by_beams: BTreeMap<usize, Vec<(usize, &Request)>> = BTreeMap::new();
        for (number, request) in requests.iter().enumerate() {
            self.search_of(request).check(self.model.config().positions)?;
            self.check(number, &request.context)?;
            by_beams.entry(self.search_of(request).beams()).or_default().push((number, request));
        }
        for (beams, requests) in by_beams {
            self.run_together(beams, &requests, receiver)?;
        }
        Ok(())
    }

    /// Fills the blanks of requests with the same number of beams.
    fn run_together(
        &self,
        beams: usize,
        requests: &[(usize, &Request)],
        receiver: &mut Receiver<'_>,
    ) -> Result<(), GenerateError> {
        let device = self.model.parameters().device();
        let cache = KeyValueCache::new(self.model.config(), self.pass.kind, device, beams);
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
    fn admit(&self, waiting: &[(usize, &Request)], active: usize) -> usize {
        let room = self.settings.sequences.max(1).saturating_sub(active);
        let mut tokens = 0;
        let fitting = waiting.iter().take(room).enumerate().take_while(|(number, (_, request))| {
            tokens += request.context.ids.len() + 1;
            *number == 0 || tokens <= self.settings.batch_tokens
        });
        fitting.count()
    }

    /// Starts the search for a piece.
    fn search(&self, request: &Request, blank: usize) -> State {
        let ends = self.settings.ends.clone();
        match *self.search_of(request) {
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
    /// Index among the requests.
    index: usize,
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
struct Decoding<'a, 'r, 'e> {
    generator: &'a Generator<'a>,
    /// Requests with their numbers.
    requests: &'a [(usize, &'a Request)],
    cache: KeyValueCache,
    active: Vec<Active>,
    receiver: &'r mut Receiver<'e>,
}

impl Decoding<'_, '_, '_> {
    /// Starts requests.
    fn start(&mut self, first: usize, count: usize) -> Result<(), GenerateError> {
        let Generator { model, pass, settings } = self.generator;
        let requests = &self.requests[first..first + count];
        let contexts = requests.iter().map(|(_, Request { context, .. })| {
            let start = NewToken { id: settings.start, position: context.blanks[0], block_position: 1 };
            (context.ids.as_slice(), start)
        });
        let logits = model.start_sequences(contexts, pass, &mut self.cache);
        let logits = logits.map_err(|error| self.explain(error, requests))?;
        let before = self.active.len();
        for (index, (_, request)) in requests.iter().enumerate() {
            self.active.push(Active {
                index: first + index,
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
        for Active { index, blank, fed, reported, .. } in &self.active {
            let position = self.requests[*index].1.context.blanks[*blank];
            // Beams that do not exist repeat the last one.
            for beam in 0..beams {
                let (parent, id) = fed[beam.min(fed.len() - 1)];
                parents.push(parent);
                tokens.push(NewToken { id, position, block_position: 1 + reported });
            }
        }
        let logits = self.cache.reorder(&parents).and_then(|()| model.append_to_beams(&tokens, pass, &mut self.cache));
        let logits = logits.map_err(|error| self.explain(error, &[]))?;
        self.choose(0, &logits, beams)
    }

    /// Explains an error of libtorch, if it is out of memory, where `new` requests were to be started.
    fn explain(&self, error: TchError, new: &[(usize, &Request)]) -> GenerateError {
        if !is_out_of_memory(&error) {
            return error.into();
        }
        let lengths = self.cache.shared_lengths().iter().zip(self.cache.own_lengths()).map(|(shared, own)| shared + own);
        let tokens = new.iter().map(|(_, request)| request.context.ids.len() + 1).chain(lengths).max().unwrap_or(0);
        let (texts, beams) = (self.active.len() + new.len(), self.cache.beams());
        let setting = self.generator.settings.sequences_setting;
        GenerateError::OutOfMemory { texts, beams, tokens, setting, source: error }
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
            let Active { index, blank, .. } = self.active[sequence];
            let (number, request) = self.requests[index];
            if candidates.iter().all(Vec::is_empty) {
                return Err(GenerateError::NotANumber { request: number });
            }
            let active = &mut self.active[sequence];
            let hypotheses = match active.search.step(candidates) {
                Step::Feed(fed) => {
                    if let State::Single(_) = active.search {
                        for &(_, token) in &fed {
                            (self.receiver)(Event::Token { request: number, blank, token })?;
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
                (self.receiver)(Event::Token { request: number, blank, token })?;
            }
            active.pieces.push(hypotheses);
            let context = &request.context;
            let Some(&next) = context.blanks.get(blank + 1) else {
                active.is_done = true;
                let pieces = std::mem::take(&mut active.pieces);
                return Ok((self.receiver)(Event::Done { request: number, pieces })?);
            };
            let position = context.blanks[blank];
            let piece = best.iter().zip(2..).map(|(&id, block_position)| NewToken { id, position, block_position });
            let start = NewToken { id: settings.start, position: next, block_position: 1 };
            let tokens: Vec<_> = piece.chain([start]).collect();
            let logits = model.append_shared(sequence, &tokens, pass, &mut self.cache)?;
            active.search = self.generator.search(request, blank + 1);
            (active.blank, active.reported) = (blank + 1, 0);
            active.fed.clear();
            let wanted = active.search.wanted();
            candidates = vec![LogProbs::new(&logits, wanted)?.row(0, wanted)?];
        }
    }
}
