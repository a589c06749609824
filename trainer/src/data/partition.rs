//! Partition of sorted questions into batches within a token budget: as few batches as possible, of even size.

use std::cmp::Reverse;
use std::ops::Range;

/// Sorts questions into the order in which they are packed, and partitions them into batches of at most `budget` tokens. `size`
/// returns the tokens of a question's longest row, and of all its rows. The sort is stable, with the longest questions first.
pub(crate) fn sort_into_batches<T>(
    questions: &mut [T],
    budget: usize,
    size: impl Fn(&T) -> (usize, usize),
) -> Vec<Range<usize>> {
    questions.sort_by_key(|question| Reverse(size(question)));
    let tokens: Vec<usize> = questions.iter().map(|question| size(question).1).collect();
    even_runs(&tokens, budget)
}

/// Partitions `tokens`, the tokens of consecutive questions, into runs with sums of at most `budget`. A question that exceeds
/// the budget by itself gets its own run.
///
/// The number of runs is minimal. For that number the largest sum is minimal, and each run is as close as possible to the mean
/// of the remaining tokens, so that the last run is not much smaller than the others.
fn even_runs(tokens: &[usize], budget: usize) -> Vec<Range<usize>> {
    let runs = Greedy::new(tokens, budget).runs_from(0);
    let budget = smallest_budget(tokens, budget, runs);
    let greedy = Greedy::new(tokens, budget);
    let mut remaining: usize = tokens.iter().sum();
    let mut ranges = Vec::with_capacity(runs);
    let mut start = 0;
    for after in (0..runs).rev() {
        let mean = remaining.div_ceil(after + 1);
        let (mut end, mut sum) = (start + 1, tokens[start]);
        // Adds questions while the rest would not fit otherwise, or while the sum gets closer to the mean.
        while end < greedy.next[start] {
            let more = sum + tokens[end];
            if greedy.runs_from(end) <= after && more.abs_diff(mean) >= sum.abs_diff(mean) {
                break;
            }
            (end, sum) = (end + 1, more);
        }
        ranges.push(start..end);
        remaining -= sum;
        start = end;
    }
    ranges
}

/// Returns the smallest budget for which `runs` runs suffice.
fn smallest_budget(tokens: &[usize], budget: usize, runs: usize) -> usize {
    // With a budget below the largest question that fits, that question would be treated as oversized.
    let mut low = tokens.iter().copied().filter(|&tokens| tokens <= budget).max().unwrap_or(budget);
    let mut high = budget;
    while low < high {
        let middle = low.midpoint(high);
        if Greedy::new(tokens, middle).runs_from(0) <= runs {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    high
}

/// Greedy partition from every start index: each run takes as many questions as fit. Its number of runs is minimal.
struct Greedy {
    /// End of a run that starts at this index.
    next: Vec<usize>,
    /// Number of runs from this index to the end.
    runs: Vec<usize>,
}

impl Greedy {
    fn new(tokens: &[usize], budget: usize) -> Self {
        let (mut next, mut runs) = (vec![0; tokens.len()], vec![0; tokens.len() + 1]);
        // A window that moves backwards: `start..end` is a run, `sum` its tokens.
        let (mut end, mut sum) = (tokens.len(), 0);
        for start in (0..tokens.len()).rev() {
            sum += tokens[start];
            while sum > budget && end > start + 1 {
                end -= 1;
                sum -= tokens[end];
            }
            next[start] = end;
            runs[start] = 1 + runs[end];
        }
        Self { next, runs }
    }

    fn runs_from(&self, start: usize) -> usize {
        self.runs[start]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sums(tokens: &[usize], runs: &[Range<usize>]) -> Vec<usize> {
        runs.iter().map(|run| tokens[run.clone()].iter().sum()).collect()
    }

    #[test]
    fn last_run_is_not_small() {
        assert!(even_runs(&[], 10).is_empty());
        assert_eq!(even_runs(&[3; 9], 24), [0..5, 5..9]);
        assert_eq!(even_runs(&[3; 10], 9), [0..3, 3..5, 5..8, 8..10]);
        // An oversized question gets its own run and does not affect the other runs.
        assert_eq!(even_runs(&[50, 4, 4, 4, 4], 12), [0..1, 1..3, 3..5]);
    }

    proptest! {
        #[test]
        fn runs_are_within_budget_minimal_and_even(
            mut tokens in prop::collection::vec(1_usize..100, 1..60),
            budget in 1_usize..400,
        ) {
            tokens.sort_by_key(|&tokens| std::cmp::Reverse(tokens));
            let runs = even_runs(&tokens, budget);
            prop_assert_eq!(runs.iter().cloned().flatten().collect::<Vec<_>>(), (0..tokens.len()).collect::<Vec<_>>());
            let sums = sums(&tokens, &runs);
            prop_assert!(sums.iter().zip(&runs).all(|(&sum, run)| sum <= budget || run.len() == 1));
            // As few runs as a greedy partition.
            let mut greedy = vec![0];
            for &tokens in &tokens {
                match greedy.last_mut() {
                    Some(last) if *last == 0 || *last + tokens <= budget => *last += tokens,
                    _ => greedy.push(tokens),
                }
            }
            prop_assert_eq!(runs.len(), greedy.len());
            // Even: the largest and the smallest sum differ by at most twice the largest question.
            if tokens[0] <= budget {
                let (least, most) = (sums.iter().min().expect("one"), sums.iter().max().expect("one"));
                prop_assert!(most - least <= 2 * tokens[0], "{:?}", sums);
            }
        }

        /// Questions are sorted by their longest row, so the sums over their rows may be in any order.
        #[test]
        fn unsorted_tokens_are_partitioned_within_budget(tokens in prop::collection::vec(1_usize..100, 1..60), budget in 1_usize..400) {
            let runs = even_runs(&tokens, budget);
            prop_assert_eq!(runs.iter().cloned().flatten().count(), tokens.len());
            prop_assert!(sums(&tokens, &runs).iter().zip(&runs).all(|(&sum, run)| sum <= budget || run.len() == 1));
        }
    }
}
