//! Search with one sequence: greedy, or drawn at random.

use glm_kernels::dropout::mix;
use glm_schemas::vocab::TokenId;

use super::beam::{Hypothesis, Step};
use super::candidates::{Candidate, Wanted, repeated};
use super::filter::{Filter, normalize};

/// Way to choose a token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Choice {
    /// The most probable token.
    Greedy,
    /// A token drawn at random.
    Sample {
        /// Distribution that is drawn from.
        filter: Filter,
        /// Key of the random numbers: the token with number `i` of a piece is drawn with the number that is a function of key and `i`.
        key: u64,
    },
}

/// Limits of a piece.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Size of n-grams that may not occur twice in a piece; 0: no limit.
    pub ngram: usize,
    /// Number of tokens before a piece may end.
    pub min_length: usize,
    /// Maximum number of tokens.
    pub max_length: usize,
}

/// State of the search for one piece.
#[derive(Debug)]
pub struct SingleSearch {
    choice: Choice,
    limits: Limits,
    ends: Vec<TokenId>,
    piece: Hypothesis,
    sum: f64,
}

impl SingleSearch {
    /// Starts a search for a piece that ends with one of `ends`.
    pub fn new(choice: Choice, limits: Limits, ends: Vec<TokenId>) -> Self {
        Self { choice, limits, ends, piece: Hypothesis::default(), sum: 0.0 }
    }

    /// Tokens that may not come next.
    fn blocked(&self) -> Vec<TokenId> {
        let mut blocked = repeated(&self.piece.tokens, self.limits.ngram);
        if self.piece.tokens.len() < self.limits.min_length {
            blocked.extend(&self.ends);
        }
        blocked
    }

    /// Candidates that the next step needs of the distribution of the next token.
    pub fn wanted(&self) -> Wanted {
        let blocked = self.blocked().len();
        match self.choice {
            Choice::Greedy => Wanted::Best(1 + blocked),
            Choice::Sample { filter: Filter { top_k: 0, .. }, .. } => Wanted::All,
            Choice::Sample { filter, .. } => Wanted::Best(filter.top_k + blocked),
        }
    }

    /// Chooses the next token from candidates, best first. The score of the result is the sum of its log probabilities.
    pub fn step(&mut self, mut row: Vec<Candidate>) -> Step {
        let blocked = self.blocked();
        row.retain(|candidate| !blocked.contains(&candidate.token));
        let Some(next) = self.choose(row) else { return self.done(None) };
        self.sum += next.log_prob;
        if self.ends.contains(&next.token) {
            return self.done(Some(next));
        }
        self.piece.tokens.push(next.token);
        self.piece.log_probs.push(next.log_prob);
        if self.piece.tokens.len() >= self.limits.max_length { self.done(None) } else { Step::Feed(vec![(0, next.token)]) }
    }

    /// Chooses a candidate; its log probability is that of the model.
    fn choose(&self, row: Vec<Candidate>) -> Option<Candidate> {
        let Choice::Sample { filter, key } = self.choice else { return row.first().copied() };
        let mut kept = filter.apply(row.clone());
        normalize(&mut kept);
        let number = uniform(key, self.piece.tokens.len() as u64);
        let mut below = 0.0;
        let drawn = kept.iter().find(|candidate| {
            below += candidate.log_prob.exp();
            number < below
        });
        let token = drawn.or(kept.last())?.token;
        row.into_iter().find(|candidate| candidate.token == token)
    }

    fn done(&mut self, end: Option<Candidate>) -> Step {
        Step::Done(vec![Hypothesis { end, score: self.sum, ..std::mem::take(&mut self.piece) }])
    }
}

/// A number in [0, 1) that is a function of a key and a counter.
fn uniform(key: u64, counter: u64) -> f64 {
    (mix(mix(key) ^ counter) >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { ngram: 0, min_length: 0, max_length: 4 };

    /// Log probabilities of four tokens, best first.
    fn row() -> Vec<Candidate> {
        let probabilities = [0.4_f64, 0.3, 0.2, 0.1];
        (5..).zip(probabilities).map(|(token, p)| Candidate { token, log_prob: p.ln() }).collect()
    }

    #[test]
    fn draws_follow_the_distribution() {
        let draws = 20_000;
        let mut counts = [0_u32; 4];
        for key in 0..draws {
            let mut search = SingleSearch::new(Choice::Sample { filter: Filter::NONE, key }, LIMITS, vec![]);
            let Step::Feed(fed) = search.step(row()) else { panic!("one token") };
            counts[fed[0].1 as usize - 5] += 1;
        }
        let chi_squared: f64 = counts
            .iter()
            .zip([0.4, 0.3, 0.2, 0.1])
            .map(|(&count, p)| (f64::from(count) - p * draws as f64).powi(2) / (p * draws as f64))
            .sum();
        // The 99.9 % quantile for 3 degrees of freedom.
        assert!(chi_squared < 16.27, "{counts:?}");
    }

    #[test]
    fn a_key_gives_the_same_tokens() {
        let piece = |key| {
            let mut search = SingleSearch::new(Choice::Sample { filter: Filter::NONE, key }, LIMITS, vec![]);
            loop {
                if let Step::Done(mut found) = search.step(row()) {
                    return found.remove(0);
                }
            }
        };
        assert_eq!(piece(3), piece(3));
        assert!((0..20).any(|key| piece(key).tokens != piece(3).tokens));
        let score = piece(3).log_probs.iter().sum::<f64>();
        assert!((piece(3).score - score).abs() < 1e-12 && piece(3).end.is_none());
    }

    #[test]
    fn greedy_search_keeps_its_limits() {
        let limits = Limits { ngram: 1, min_length: 1, max_length: 9 };
        let mut search = SingleSearch::new(Choice::Greedy, limits, vec![5]);
        assert_eq!(search.wanted(), Wanted::Best(2));
        assert_eq!(search.step(row()), Step::Feed(vec![(0, 6)]));
        let Step::Done(found) = search.step(row()) else { panic!("the end is the most probable token") };
        assert_eq!((found[0].tokens.as_slice(), found[0].end.map(|end| end.token)), (&[6][..], Some(5)));
        assert!((found[0].score - (0.3_f64 * 0.4).ln()).abs() < 1e-12);
        // Nothing is left: the piece ends.
        let mut search = SingleSearch::new(Choice::Greedy, Limits { min_length: 9, ..limits }, vec![5, 6, 7, 8]);
        assert!(matches!(search.step(row()), Step::Done(found) if found[0].tokens.is_empty()));
    }
}
