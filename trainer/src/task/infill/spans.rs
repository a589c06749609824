//! Spans of a sample that become blanks.

use super::draws::Draws;
use super::text::{Marks, Span, Text};

/// Longest span of the token-level objective.
const LONGEST: usize = 39;

/// Law of the length of a span: a Poisson law, restricted to 1..=39.
#[derive(Debug, Clone)]
pub(super) struct Lengths {
    /// Probability of a length of at most `index + 1`.
    cumulative: Vec<f64>,
}

impl Lengths {
    /// The law with this mean before the restriction, greater than 0.
    pub(super) fn new(mean: f64) -> Self {
        // In logarithms, since mean^k / k! overflows for large means.
        let mut log_weight = 0.0;
        let mut weights: Vec<f64> = (1..=LONGEST)
            .map(|length| {
                log_weight += mean.ln() - (length as f64).ln();
                log_weight
            })
            .collect();
        let most = weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        weights.iter_mut().for_each(|weight| *weight = (*weight - most).exp());
        let total: f64 = weights.iter().sum();
        let mut sum = 0.0;
        let cumulative = weights.iter().map(|weight| {
            sum += weight / total;
            sum
        });
        Self { cumulative: cumulative.collect() }
    }

    /// Draws a length.
    pub(super) fn draw(&self, draws: &mut Draws) -> usize {
        let share = draws.share();
        1 + self.cumulative.iter().position(|sum| share < *sum).unwrap_or(LONGEST - 1)
    }

    /// Draws lengths until they cover `tokens` tokens; at least one. The last one is not shortened.
    pub(super) fn draw_many(&self, tokens: usize, draws: &mut Draws) -> Vec<usize> {
        let (mut lengths, mut sum) = (Vec::new(), 0);
        while lengths.is_empty() || sum < tokens {
            lengths.push(self.draw(draws));
            sum += lengths[lengths.len() - 1];
        }
        draws.shuffle(&mut lengths);
        lengths
    }
}

/// `share · tokens`, rounded down, with room for the rounding of `share`: 15 % of 20 are 3.
pub(super) fn part_of(tokens: usize, share: f64) -> usize {
    (share * tokens as f64 + 1e-9).floor() as usize
}

/// Source of numbers below a bound: random ones, or recorded ones in tests.
pub(super) type Below<'a> = &'a mut dyn FnMut(usize) -> usize;

/// Places spans of these lengths into the `room` tokens from `start` on, in this order, with a token at least between two. They must
/// fit: lengths and tokens between them are at most `room`.
pub(super) fn place(lengths: &[usize], start: usize, room: usize, below: Below<'_>) -> Vec<Span> {
    let needed = lengths.iter().sum::<usize>() + lengths.len().saturating_sub(1);
    let free = room.saturating_sub(needed);
    let mut gaps: Vec<usize> = lengths.iter().map(|_| below(free + 1)).collect();
    gaps.sort_unstable();
    let mut before = start;
    let mut span = |(gap, length): (usize, &usize)| {
        let from = before + gap;
        before += length + 1;
        Span::new(from, from + length)
    };
    gaps.into_iter().zip(lengths).map(&mut span).collect()
}

/// Places spans of these lengths into a sample, as many as fit: every document but the longest takes spans from the front of the list, up
/// to its `share`, and the longest the rest.
///
/// The published code drops a sample where a span is left over, and with it most samples of short documents; here the span is. If not
/// even the first one fits, it is cut, so that a sample with a token has a span.
pub(super) fn place_in_documents(text: &Text<'_>, lengths: &[usize], share: f64, below: Below<'_>) -> Vec<Span> {
    let mut documents = text.documents();
    // The later one first if two are equally long.
    documents.sort_by_key(|document| (document.len(), std::cmp::Reverse(document.start)));
    let Some((longest, others)) = documents.split_last() else { return Vec::new() };
    let (mut spans, mut rest) = (Vec::new(), lengths);
    for document in others {
        let most = part_of(document.len(), share);
        let (own, left) = rest.split_at(fitting(rest, |sum, _| sum <= most));
        spans.extend(place(own, document.start, document.len(), below));
        rest = left;
    }
    let own = &rest[..fitting(rest, |sum, count| sum + count - 1 <= longest.len())];
    spans.extend(place(own, longest.start, longest.len(), below));
    match (spans.is_empty(), lengths.first()) {
        (true, Some(&length)) if longest.len() > 0 => place(&[length.min(longest.len())], longest.start, longest.len(), below),
        _ => spans,
    }
}

/// Number of lengths from the front whose sum and number fit.
fn fitting(lengths: &[usize], fits: impl Fn(usize, usize) -> bool) -> usize {
    let mut sum = 0;
    let fit = |(i, length): &(usize, &usize)| {
        sum += **length;
        fits(sum, i + 1)
    };
    lengths.iter().enumerate().take_while(fit).count()
}

/// Takes sentences at random until they have a `share` of the sample's tokens, at least one; none if the sample has no sentence. They
/// are in random order.
pub(super) fn sentences(text: &Text<'_>, marks: &Marks, share: f64, shuffle: &mut dyn FnMut(&mut [Span])) -> Vec<Span> {
    let mut candidates = text.sentences(marks);
    shuffle(&mut candidates);
    let (enough, mut taken) = (part_of(text.ids.len(), share), 0);
    let mut count = 0;
    while count < candidates.len() && (count == 0 || taken < enough) {
        taken += candidates[count].len();
        count += 1;
    }
    candidates.truncate(count);
    candidates
}
