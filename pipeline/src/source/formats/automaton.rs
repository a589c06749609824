//! Search for many sequences of units in one pass over a text, after Aho and Corasick.
//!
//! The automaton works on units, that is on words and single characters, instead of bytes. A match then begins and ends at the bounds
//! of units, so no step is spent on matches within words.

use std::collections::HashMap;

type State = u32;
type UnitId = u32;

/// Automaton of a list of sequences.
pub(super) struct Automaton<'a> {
    ids: HashMap<&'a str, UnitId>,
    next: HashMap<(State, UnitId), State>,
    nodes: Vec<Node>,
}

/// State: the longest beginning of a sequence that the text read so far ends with.
#[derive(Clone, Copy, Default)]
struct Node {
    /// State without the last unit.
    parent: State,
    /// Last unit.
    unit: UnitId,
    /// Number of units.
    depth: u32,
    /// State of the longest proper end that is also the beginning of a sequence.
    fallback: State,
    /// Nearest state on the path of fallbacks where a sequence ends, this one included; [`Automaton::START`] if there is none.
    matched: State,
    /// The sequence that ends here, if any.
    sequence: Option<u32>,
}

impl<'a> Automaton<'a> {
    /// State before the first unit.
    pub(super) const START: State = 0;

    /// Builds the automaton of distinct sequences. Empty ones are ignored.
    pub(super) fn new<Units: Iterator<Item = &'a str>>(sequences: impl Iterator<Item = Units>) -> Self {
        let mut automaton = Self { ids: HashMap::new(), next: HashMap::new(), nodes: vec![Node::default()] };
        for (index, sequence) in sequences.enumerate() {
            automaton.insert(index as u32, sequence);
        }
        let mut by_depth: Vec<State> = (1..automaton.nodes.len() as State).collect();
        by_depth.sort_by_key(|&state| automaton.nodes[state as usize].depth);
        for state in by_depth {
            automaton.connect(state);
        }
        automaton
    }

    fn insert(&mut self, index: u32, sequence: impl Iterator<Item = &'a str>) {
        let mut state = Self::START;
        for unit in sequence {
            let new_id = self.ids.len() as UnitId;
            let unit = *self.ids.entry(unit).or_insert(new_id);
            let new_state = self.nodes.len() as State;
            let parent = state;
            state = *self.next.entry((parent, unit)).or_insert(new_state);
            if state == new_state {
                let depth = self.nodes[parent as usize].depth + 1;
                self.nodes.push(Node { parent, unit, depth, ..Node::default() });
            }
        }
        if state != Self::START {
            self.nodes[state as usize].sequence = Some(index);
        }
    }

    /// Sets fallback and match of a state, after those of all shorter states.
    fn connect(&mut self, state: State) {
        let Node { parent, unit, sequence, .. } = self.nodes[state as usize];
        let fallback = if parent == Self::START { Self::START } else { self.step(self.nodes[parent as usize].fallback, unit) };
        let matched = if sequence.is_some() { state } else { self.nodes[fallback as usize].matched };
        self.nodes[state as usize] = Node { fallback, matched, ..self.nodes[state as usize] };
    }

    fn step(&self, mut state: State, unit: UnitId) -> State {
        loop {
            match self.next.get(&(state, unit)) {
                Some(&next) => return next,
                None if state == Self::START => return Self::START,
                None => state = self.nodes[state as usize].fallback,
            }
        }
    }

    /// Returns the state after one more unit of the text.
    pub(super) fn next(&self, state: State, unit: &str) -> State {
        self.ids.get(unit).map_or(Self::START, |&unit| self.step(state, unit))
    }

    /// Returns the indices of the sequences that end at a state, longest first.
    pub(super) fn matches(&self, state: State) -> impl Iterator<Item = usize> + '_ {
        let mut at = self.nodes[state as usize].matched;
        std::iter::from_fn(move || {
            let node = self.nodes[at as usize];
            at = self.nodes[node.fallback as usize].matched;
            node.sequence.map(|sequence| sequence as usize)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_are_found_also_within_each_other() {
        let sequences = ["a b c", "b c", "c", "b d", ""];
        let automaton = Automaton::new(sequences.iter().map(|sequence| sequence.split_whitespace()));
        let mut state = Automaton::START;
        let found: Vec<Vec<usize>> = "x a b c b d c"
            .split(' ')
            .map(|unit| {
                state = automaton.next(state, unit);
                automaton.matches(state).collect()
            })
            .collect();
        assert_eq!(found, [vec![], vec![], vec![], vec![0, 1, 2], vec![], vec![3], vec![2]]);
    }
}
