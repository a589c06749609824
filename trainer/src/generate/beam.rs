//! Beam search over the tokens of one piece.

use glm_schemas::vocab::TokenId;

use super::candidates::{Candidate, Wanted, repeated};
use super::filter::Filter;

/// Settings of a beam search.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BeamSettings {
    /// Number of beams, at least 1.
    pub beams: usize,
    /// Exponent of the length by which the sum of log probabilities is divided.
    pub length_penalty: f64,
    /// Size of n-grams that may not occur twice in a piece; 0: no limit.
    pub ngram: usize,
    /// Number of tokens before a piece may end.
    pub min_length: usize,
    /// Maximum number of tokens.
    pub max_length: usize,
    /// True if the start of piece counts in the lengths of scores, as in the published interactive program; in its evaluation of
    /// sequence-to-sequence tasks it does not.
    pub count_start: bool,
    /// Change of the distributions before log probabilities are added up.
    pub filter: Filter,
}

impl Default for BeamSettings {
    fn default() -> Self {
        Self {
            beams: 5,
            length_penalty: 1.0,
            ngram: 0,
            min_length: 0,
            max_length: 128,
            count_start: false,
            filter: Filter::NONE,
        }
    }
}

/// A generated piece.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Hypothesis {
    /// Tokens, without start and end of piece.
    pub tokens: Vec<TokenId>,
    /// Log probability of each token.
    pub log_probs: Vec<f64>,
    /// The token that ended the piece; `None` if it ends at the maximum length.
    pub end: Option<Candidate>,
    /// Sum of all log probabilities, including that of the end, divided by `length ^ length_penalty`.
    pub score: f64,
}

impl Hypothesis {
    /// Sum of the log probabilities, including that of the end.
    pub fn log_prob(&self) -> f64 {
        self.log_probs.iter().sum::<f64>() + self.end.map_or(0.0, |end| end.log_prob)
    }
}

/// A beam: a piece that has not ended.
#[derive(Debug, Clone, Default)]
struct Open {
    tokens: Vec<TokenId>,
    log_probs: Vec<f64>,
    sum: f64,
}

/// A candidate for a longer piece.
#[derive(Debug, Clone, Copy)]
struct Extension {
    beam: usize,
    next: Candidate,
    sum: f64,
}

/// State of the search for one piece.
///
/// Each step takes the `2 n` most probable extensions of the `n` beams, so that `n` remain if all beams could end. The search is over when
/// `n` pieces have ended whose scores are not below that of the best extension, as if it ended without getting longer.
#[derive(Debug)]
pub struct BeamSearch {
    settings: BeamSettings,
    ends: Vec<TokenId>,
    open: Vec<Open>,
    /// Ended pieces, in the order in which they were added.
    closed: Vec<Hypothesis>,
    /// Lowest score of the closed pieces.
    worst: f64,
    length: usize,
}

/// Outcome of a step of a search.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Tokens to feed: for each beam, the number of the beam that it continues and its token.
    Feed(Vec<(usize, TokenId)>),
    /// The search is over.
    Done(Vec<Hypothesis>),
}

impl BeamSearch {
    /// Starts a search for a piece that ends with one of `ends`.
    pub fn new(settings: BeamSettings, ends: Vec<TokenId>) -> Self {
        let settings = BeamSettings { beams: settings.beams.max(1), ..settings };
        Self { settings, ends, open: vec![Open::default()], closed: Vec::new(), worst: 1e9, length: 0 }
    }

    /// Candidates that the next step needs of each beam's distribution.
    pub fn wanted(&self) -> Wanted {
        let BeamSettings { beams, ngram, min_length, filter, .. } = self.settings;
        if filter.top_k > 0 {
            return Wanted::Best(filter.top_k);
        }
        if filter.removes() || filter.temperature != 1.0 {
            return Wanted::All;
        }
        let blocked = self.open.iter().map(|beam| repeated(&beam.tokens, ngram).len()).max().unwrap_or(0);
        let ends = if self.length < min_length { self.ends.len() } else { 0 };
        Wanted::Best(2 * beams + blocked + ends)
    }

    /// Extends the beams; `rows` holds the candidates for the next token of each beam, best first. At first there is one beam.
    pub fn step(&mut self, rows: Vec<Vec<Candidate>>) -> Step {
        let n = self.settings.beams;
        let extensions = self.extensions(rows);
        let Some(&Extension { sum: most, .. }) = extensions.first() else { return self.finish() };
        let mut open = Vec::with_capacity(n);
        let mut fed = Vec::with_capacity(n);
        for (rank, Extension { beam, next, sum }) in extensions.into_iter().enumerate() {
            let Open { tokens, log_probs, .. } = &self.open[beam];
            if self.ends.contains(&next.token) {
                if rank < n {
                    let (tokens, log_probs) = (tokens.clone(), log_probs.clone());
                    self.close(tokens, log_probs, Some(next), sum);
                }
                continue;
            }
            let (mut tokens, mut log_probs) = (tokens.clone(), log_probs.clone());
            tokens.push(next.token);
            log_probs.push(next.log_prob);
            open.push(Open { tokens, log_probs, sum });
            fed.push((beam, next.token));
            if open.len() == n {
                break;
            }
        }
        // The length before this step, as published.
        let is_done = self.closed.len() >= n && self.worst >= self.score(most, self.length);
        self.length += 1;
        if is_done {
            return self.done();
        }
        self.open = open;
        if fed.is_empty() || self.length >= self.settings.max_length { self.finish() } else { Step::Feed(fed) }
    }

    /// The most probable `2 n` extensions, best first; of equals the first by beam and token.
    fn extensions(&self, rows: Vec<Vec<Candidate>>) -> Vec<Extension> {
        let BeamSettings { beams, ngram, min_length, filter, .. } = self.settings;
        let mut found = Vec::new();
        for (beam, (open, row)) in self.open.iter().zip(rows).enumerate() {
            let mut blocked = repeated(&open.tokens, ngram);
            if self.length < min_length {
                blocked.extend(&self.ends);
            }
            let allowed = filter.apply(row).into_iter().filter(|next| !blocked.contains(&next.token));
            found.extend(allowed.take(2 * beams).map(|next| Extension { beam, next, sum: open.sum + next.log_prob }));
        }
        found.sort_by(|a, b| b.sum.total_cmp(&a.sum).then(a.beam.cmp(&b.beam)).then(a.next.token.cmp(&b.next.token)));
        found.truncate(2 * beams);
        found
    }

    /// Score of a piece of `tokens` tokens.
    fn score(&self, sum: f64, tokens: usize) -> f64 {
        let length = tokens + usize::from(self.settings.count_start);
        sum / (length.max(1) as f64).powf(self.settings.length_penalty)
    }

    /// Adds a piece to the closed ones, of which the best `n` stay.
    fn close(&mut self, tokens: Vec<TokenId>, log_probs: Vec<f64>, end: Option<Candidate>, sum: f64) {
        let (n, score) = (self.settings.beams, self.score(sum, tokens.len()));
        if self.closed.len() >= n && score <= self.worst {
            return;
        }
        self.closed.push(Hypothesis { tokens, log_probs, end, score });
        if self.closed.len() <= n {
            self.worst = self.worst.min(score);
            return;
        }
        let lowest = (0..self.closed.len()).min_by(|&a, &b| self.closed[a].score.total_cmp(&self.closed[b].score));
        if let Some(lowest) = lowest {
            self.closed.remove(lowest);
        }
        self.worst = self.closed.iter().map(|hypothesis| hypothesis.score).fold(f64::INFINITY, f64::min);
    }

    /// Ends the search before it is done: open beams count as pieces without an end.
    fn finish(&mut self) -> Step {
        for Open { tokens, log_probs, sum } in std::mem::take(&mut self.open) {
            self.close(tokens, log_probs, None, sum);
        }
        self.done()
    }

    /// Hypotheses, best first; of equals the one added last.
    fn done(&mut self) -> Step {
        let mut hypotheses = std::mem::take(&mut self.closed);
        hypotheses.reverse();
        hypotheses.sort_by(|a, b| b.score.total_cmp(&a.score));
        Step::Done(hypotheses)
    }
}
