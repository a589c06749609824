//! Cutting a sorted row of questions into batches: as few as a token budget allows, and of even size.

use std::cmp::Reverse;
use std::ops::Range;

/// Sorts questions into the order in which they are packed, and cuts them into batches within `budget` tokens; `size` tells the
/// tokens of a question's longest row, and of all its rows. The longest come first, and equal ones keep their order.
pub(crate) fn sort_into_batches<T>(
    questions: &mut [T],
    budget: usize,
    size: impl Fn(&T) -> (usize, usize),
) -> Vec<Range<usize>> {
    questions.sort_by_key(|question| Reverse(size(question)));
    let tokens: Vec<usize> = questions.iter().map(|question| size(question).1).collect();
    even_runs(&tokens, budget)
}

/// Cuts `tokens`, the tokens of questions in order, into runs whose sums are at most `budget`. A question that exceeds the
/// budget alone gets a run of its own.
///
/// No cut into runs needs fewer of them. Among those, the largest sum is as small as it can be, and the others are as near as
/// may be to the mean of what is left, so that no small run remains at the end.
fn even_runs(tokens: &[usize], budget: usize) -> Vec<Range<usize>> {
    let runs = Greedy::new(tokens, budget).runs_from(0);
    let budget = smallest_budget(tokens, budget, runs);
    let greedy = Greedy::new(tokens, budget);
    let mut left: usize = tokens.iter().sum();
    let mut cuts = Vec::with_capacity(runs);
    let mut start = 0;
    for after in (0..runs).rev() {
        let mean = left.div_ceil(after + 1);
        let (mut end, mut sum) = (start + 1, tokens[start]);
        // Takes more while the rest would not fit otherwise, or while that brings the sum nearer to the mean.
        while end < greedy.next[start] {
            let more = sum + tokens[end];
            if greedy.runs_from(end) <= after && more.abs_diff(mean) >= sum.abs_diff(mean) {
                break;
            }
            (end, sum) = (end + 1, more);
        }
        cuts.push(start..end);
        left -= sum;
        start = end;
    }
    cuts
}

/// The smallest budget that still makes do with `runs` runs.
fn smallest_budget(tokens: &[usize], budget: usize, runs: usize) -> usize {
    // Below the largest question that fits, that one would have to stand alone, and would then count as one too large.
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

/// What filling each run as far as it goes gives, from every place on. No other way needs fewer runs.
struct Greedy {
    /// Where a run that starts here ends.
    next: Vec<usize>,
    /// Runs from here to the end.
    runs: Vec<usize>,
}

impl Greedy {
    fn new(tokens: &[usize], budget: usize) -> Self {
        let (mut next, mut runs) = (vec![0; tokens.len()], vec![0; tokens.len() + 1]);
        // A window that moves backwards: `end` is where a run from `start` ends, `sum` what it holds.
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
    fn no_small_run_is_left_over() {
        assert!(even_runs(&[], 10).is_empty());
        assert_eq!(even_runs(&[3; 9], 24), [0..5, 5..9]);
        assert_eq!(even_runs(&[3; 10], 9), [0..3, 3..5, 5..8, 8..10]);
        // The one that is too large stands alone, and does not change how the others are cut.
        assert_eq!(even_runs(&[50, 4, 4, 4, 4], 12), [0..1, 1..3, 3..5]);
    }

    proptest! {
        #[test]
        fn runs_keep_the_budget_and_are_few_and_even(
            mut tokens in prop::collection::vec(1_usize..100, 1..60),
            budget in 1_usize..400,
        ) {
            tokens.sort_by_key(|&tokens| std::cmp::Reverse(tokens));
            let runs = even_runs(&tokens, budget);
            prop_assert_eq!(runs.iter().cloned().flatten().collect::<Vec<_>>(), (0..tokens.len()).collect::<Vec<_>>());
            let sums = sums(&tokens, &runs);
            prop_assert!(sums.iter().zip(&runs).all(|(&sum, run)| sum <= budget || run.len() == 1));
            // As few as filling each as far as it goes.
            let mut greedy = vec![0];
            for &tokens in &tokens {
                match greedy.last_mut() {
                    Some(last) if *last == 0 || *last + tokens <= budget => *last += tokens,
                    _ => greedy.push(tokens),
                }
            }
            prop_assert_eq!(runs.len(), greedy.len());
            // Even: what lies between the largest and the smallest is less than two of the largest questions.
            if tokens[0] <= budget {
                let (least, most) = (sums.iter().min().expect("one"), sums.iter().max().expect("one"));
                prop_assert!(most - least <= 2 * tokens[0], "{:?}", sums);
            }
        }

        /// In any order, for the sums of questions need not fall where their lengths do.
        #[test]
        fn any_order_is_cut_within_the_budget(tokens in prop::collection::vec(1_usize..100, 1..60), budget in 1_usize..400) {
            let runs = even_runs(&tokens, budget);
            prop_assert_eq!(runs.iter().cloned().flatten().count(), tokens.len());
            prop_assert!(sums(&tokens, &runs).iter().zip(&runs).all(|(&sum, run)| sum <= budget || run.len() == 1));
        }
    }
}
