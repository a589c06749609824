//! Assignment of a step's questions to ranks with equal work, since a step takes as long as its slowest rank.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Reciprocal of the imbalance at which exchanges stop: the busiest rank's work exceeds the mean by less than 1/1000. Ranks
/// differ by more for other reasons, and for thousands of questions and hundreds of ranks a longer search would take longer
/// than the step.
const EVEN_PARTS: u128 = 1000;

/// Assigns items with these costs to `ranks`; returns the rank of each item. The result depends only on the costs and their
/// order, so every rank computes the same assignment without communication.
///
/// Items are assigned in descending order of cost, each to the rank with the least work ("longest processing time", Graham
/// 1969), which is at most 4/3 of the optimum. Then the busiest rank moves an item to another rank or swaps one with it, until
/// its work exceeds the mean by less than a thousandth or no exchange helps.
///
/// # Panics
/// If `ranks` is 0.
#[must_use]
pub fn assign(costs: &[u64], ranks: usize) -> Vec<usize> {
    assert!(ranks > 0, "at least one rank is needed");
    let mut order: Vec<usize> = (0..costs.len()).collect();
    order.sort_by_key(|&item| (Reverse(costs[item]), item));
    let mut loads = vec![0_u64; ranks];
    let mut rank_of = vec![0; costs.len()];
    let mut idlest: BinaryHeap<_> = (0..ranks).map(|rank| Reverse((0, rank))).collect();
    for item in order {
        let Some(mut top) = idlest.peek_mut() else { break };
        let Reverse((load, rank)) = &mut *top;
        *load += costs[item];
        rank_of[item] = *rank;
        loads[*rank] = *load;
    }
    // Every exchange lowers the sum of squared loads, so the loop ends; the limit bounds its cost for thousands of questions.
    for _ in 0..4 * costs.len() {
        if is_even(&loads) {
            break;
        }
        let Some(exchange) = best_exchange(costs, &rank_of, &loads) else { break };
        exchange.apply(costs, &mut rank_of, &mut loads);
    }
    rank_of
}

/// Returns the work of each rank: the sum of the costs of its items.
#[must_use]
pub fn loads(costs: &[u64], rank_of: &[usize], ranks: usize) -> Vec<u64> {
    let mut loads = vec![0; ranks];
    costs.iter().zip(rank_of).for_each(|(cost, &rank)| loads[rank] += cost);
    loads
}

/// Returns the excess of the busiest rank's work over the mean, relative to the mean: the time the other ranks wait.
#[must_use]
pub fn spread(loads: &[u64]) -> f64 {
    let most = loads.iter().copied().max().unwrap_or(0) as f64;
    let mean = loads.iter().map(|&load| load as f64).sum::<f64>() / loads.len().max(1) as f64;
    if mean > 0.0 { most / mean - 1.0 } else { 0.0 }
}

fn is_even(loads: &[u64]) -> bool {
    let most = loads.iter().copied().max().unwrap_or(0);
    let total: u128 = loads.iter().copied().map(u128::from).sum();
    u128::from(most) * loads.len() as u128 * EVEN_PARTS <= total * (EVEN_PARTS + 1)
}

/// Moves item `give` from the busiest rank to rank `to`, and item `take` back.
struct Exchange {
    give: usize,
    take: Option<usize>,
    to: usize,
}

impl Exchange {
    fn apply(&self, costs: &[u64], rank_of: &mut [usize], loads: &mut [u64]) {
        let from = std::mem::replace(&mut rank_of[self.give], self.to);
        let mut moved = costs[self.give];
        if let Some(take) = self.take {
            rank_of[take] = from;
            moved -= costs[take];
        }
        loads[from] -= moved;
        loads[self.to] += moved;
    }
}

/// Returns the exchange that most reduces the larger load of the busiest rank and its partner, if any reduces it.
fn best_exchange(costs: &[u64], rank_of: &[usize], loads: &[u64]) -> Option<Exchange> {
    let busiest = (0..loads.len()).max_by_key(|&rank| (loads[rank], Reverse(rank)))?;
    let mut best: Option<(u64, Exchange)> = None;
    let mut consider = |give: usize, take: Option<usize>, to: usize| {
        let Some(moved) = costs[give].checked_sub(take.map_or(0, |take| costs[take])).filter(|&moved| moved > 0) else {
            return;
        };
        let busier = (loads[busiest] - moved).max(loads[to] + moved);
        if busier < best.as_ref().map_or(loads[busiest], |(least, _)| *least) {
            best = Some((busier, Exchange { give, take, to }));
        }
    };
    for give in (0..costs.len()).filter(|&item| rank_of[item] == busiest) {
        for (to, _) in loads.iter().enumerate().filter(|(rank, _)| *rank != busiest) {
            consider(give, None, to);
        }
        for (take, &to) in rank_of.iter().enumerate().filter(|(_, rank)| **rank != busiest) {
            consider(give, Some(take), to);
        }
    }
    best.map(|(_, exchange)| exchange)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn swaps_improve_on_the_greedy_assignment() {
        let costs = [3, 4, 2, 3, 4, 3];
        let rank_of = assign(&costs, 2);
        let mut sums = loads(&costs, &rank_of, 2);
        sums.sort_unstable();
        assert_eq!(sums, [9, 10]);
        // Greedy: 8+5+4 = 17 and 7+6 = 13; a swap makes 15 of both.
        let costs = [8, 7, 6, 5, 4];
        assert_eq!(loads(&costs, &assign(&costs, 2), 2), [15, 15]);
    }

    #[test]
    fn ranks_may_have_no_work() {
        assert!(assign(&[], 3).is_empty());
        assert_eq!(assign(&[5], 3), [0]);
        assert_eq!(loads(&[5], &[0], 3), [5, 0, 0]);
        assert_eq!((spread(&[5, 0, 0]), spread(&[]), spread(&[0, 0])), (2.0, 0.0, 0.0));
    }

    /// 32 questions per step with ReCoRD's lengths: tokens are nearly proportional to work.
    #[test]
    fn few_questions_per_rank_are_even() {
        let lengths = [
            233, 341, 198, 287, 412, 256, 219, 305, 188, 274, 330, 241, 203, 298, 262, 377, 215, 226, 310, 249, 194, 283, 351,
            238, 207, 269, 321, 252, 181, 296, 230, 264,
        ];
        for ranks in [2, 4, 8] {
            let spread = spread(&loads(&lengths, &assign(&lengths, ranks), ranks));
            assert!(spread < 0.01, "{ranks} ranks: {spread}");
        }
    }

    /// The threshold is one part in a thousand, and the largest loads do not overflow.
    #[test]
    fn evenness_threshold() {
        assert!(is_even(&[]) && is_even(&[0, 0]) && is_even(&[1001, 999]) && is_even(&[u64::MAX; 3]));
        assert!(!is_even(&[1002, 998]) && !is_even(&[u64::MAX, 0]));
    }

    proptest! {
        #[test]
        fn every_item_is_assigned_evenly(costs in prop::collection::vec(0_u64..1000, 0..40), ranks in 1_usize..9) {
            let rank_of = assign(&costs, ranks);
            prop_assert!(rank_of.len() == costs.len() && rank_of.iter().all(|&rank| rank < ranks));
            let loads = loads(&costs, &rank_of, ranks);
            prop_assert_eq!(loads.iter().sum::<u64>(), costs.iter().sum::<u64>());
            // Graham's bound for the greedy assignment; exchanges only lower the load.
            let (most, total) = (loads.iter().max().expect("one"), costs.iter().sum::<u64>());
            let largest = costs.iter().copied().max().unwrap_or(0);
            prop_assert!(*most as f64 <= total as f64 / ranks as f64 + largest as f64);
            prop_assert!(is_even(&loads) || best_exchange(&costs, &rank_of, &loads).is_none());
        }
    }
}
