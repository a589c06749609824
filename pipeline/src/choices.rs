//! Which candidates a training question is given.
//!
//! The right answer and up to nine others. Where there are more, the published recipe shuffles them with one generator of CPython,
//! `random.Random(42)`, for the whole file, in file order; so whoever asks must ask in that order.

use rand_mt::Mt;

/// Wrong choices of a training question at most.
pub const MAX_DISTRACTORS: usize = 9;
/// Seed of the published recipe.
pub const DISTRACTOR_SEED: u32 = 42;

/// Draws distractors. The result depends on everything that was drawn before.
pub struct DistractorDraw {
    generator: Mt,
}

impl DistractorDraw {
    /// `random.Random(seed)`.
    pub fn new(seed: u32) -> Self {
        Self { generator: Mt::new_with_key([seed]) }
    }

    /// Fills `choices` with one training example: `answer`, then its distractors, as indices of candidates.
    ///
    /// `answers` are all right answers of the question, ascending; none of them is a distractor.
    pub fn choose(&mut self, candidates: usize, answers: &[usize], answer: usize, choices: &mut Vec<usize>) {
        choices.clear();
        choices.push(answer);
        choices.extend((0..candidates).filter(|candidate| answers.binary_search(candidate).is_err()));
        if choices.len() > 1 + MAX_DISTRACTORS {
            self.shuffle(&mut choices[1..]);
            choices.truncate(1 + MAX_DISTRACTORS);
        }
    }

    /// `random.shuffle`.
    fn shuffle(&mut self, items: &mut [usize]) {
        for i in (1..items.len()).rev() {
            let j = self.below(i as u32 + 1) as usize;
            items.swap(i, j);
        }
    }

    /// `_randbelow(n)`: as many bits as `n` has, until they are below it.
    fn below(&mut self, n: u32) -> u32 {
        let unused = n.leading_zeros();
        loop {
            let bits = self.generator.next_u32() >> unused;
            if bits < n {
                return bits;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `r = random.Random(42); r.shuffle(x)` with `x = list(range(20))`, twice, in CPython 3.
    const PYTHON_FIRST: [usize; 20] = [19, 5, 14, 4, 9, 13, 15, 18, 6, 12, 17, 10, 1, 11, 2, 16, 7, 8, 0, 3];
    const PYTHON_SECOND: [usize; 20] = [14, 8, 3, 11, 10, 16, 1, 12, 5, 18, 2, 0, 4, 9, 15, 7, 13, 19, 6, 17];

    #[test]
    fn shuffles_as_cpython_does() {
        let mut draw = DistractorDraw::new(42);
        let mut items: Vec<usize> = (0..20).collect();
        draw.shuffle(&mut items);
        assert_eq!(items, PYTHON_FIRST);
        let mut items: Vec<usize> = (0..20).collect();
        draw.shuffle(&mut items);
        assert_eq!(items, PYTHON_SECOND);
    }

    #[test]
    fn few_distractors_keep_their_order_and_draw_nothing() {
        let mut draw = DistractorDraw::new(42);
        let mut choices = Vec::new();
        draw.choose(11, &[2, 4], 4, &mut choices);
        assert_eq!(choices, [4, 0, 1, 3, 5, 6, 7, 8, 9, 10]);
        draw.choose(1, &[0], 0, &mut choices);
        assert_eq!(choices, [0]);
        let mut items: Vec<usize> = (0..20).collect();
        draw.shuffle(&mut items);
        assert_eq!(items, PYTHON_FIRST);
    }

    #[test]
    fn many_distractors_are_drawn() {
        let mut choices = Vec::new();
        DistractorDraw::new(42).choose(21, &[20], 20, &mut choices);
        assert_eq!(choices[0], 20);
        assert_eq!(choices[1..], PYTHON_FIRST[..9]);
    }
}
