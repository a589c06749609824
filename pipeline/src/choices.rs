//! Choices of training questions: the correct answer and up to nine distractors.
//!
//! If there are more candidates, the published recipe shuffles them with CPython's `random.Random(42)`. One generator serves the
//! whole file, so questions must be processed in file order.

use rand_mt::Mt;

/// Maximum number of distractors of a training question.
pub const MAX_DISTRACTORS: usize = 9;
/// Seed of the published recipe.
pub const DISTRACTOR_SEED: u32 = 42;

/// Generator of distractors. Each draw depends on all draws before it.
pub struct DistractorDraw {
    generator: Mt,
}

impl DistractorDraw {
    /// Creates the generator, as CPython's `random.Random(seed)`.
    pub fn new(seed: u32) -> Self {
        Self { generator: Mt::new_with_key([seed]) }
    }

    /// Fills `choices` with the choices of one training example, as indices of candidates: `answer`, then its distractors.
    ///
    /// `answers` are all correct answers of the question, ascending; they are excluded from the distractors.
    pub fn choose(&mut self, candidates: usize, answers: &[usize], answer: usize, choices: &mut Vec<usize>) {
        choices.clear();
        choices.push(answer);
        choices.extend((0..candidates).filter(|candidate| answers.binary_search(candidate).is_err()));
        if choices.len() > 1 + MAX_DISTRACTORS {
            self.shuffle(&mut choices[1..]);
            choices.truncate(1 + MAX_DISTRACTORS);
        }
    }

    /// Shuffles as CPython's `random.shuffle`.
    fn shuffle(&mut self, items: &mut [usize]) {
        for i in (1..items.len()).rev() {
            let j = self.below(i as u32 + 1) as usize;
            items.swap(i, j);
        }
    }

    /// Returns a number below `n` as CPython's `_randbelow`: draws as many bits as `n` has until the result is below `n`.
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

    /// Results of `r = random.Random(42)` and twice `x = list(range(20)); r.shuffle(x)` in CPython 3.
    const PYTHON_FIRST: [usize; 20] = [19, 5, 14, 4, 9, 13, 15, 18, 6, 12, 17, 10, 1, 11, 2, 16, 7, 8, 0, 3];
    const PYTHON_SECOND: [usize; 20] = [14, 8, 3, 11, 10, 16, 1, 12, 5, 18, 2, 0, 4, 9, 15, 7, 13, 19, 6, 17];

    #[test]
    fn shuffles_match_cpython() {
        let mut draw = DistractorDraw::new(42);
        let mut items: Vec<usize> = (0..20).collect();
        draw.shuffle(&mut items);
        assert_eq!(items, PYTHON_FIRST);
        let mut items: Vec<usize> = (0..20).collect();
        draw.shuffle(&mut items);
        assert_eq!(items, PYTHON_SECOND);
    }

    #[test]
    fn few_distractors_keep_their_order_and_use_no_random_numbers() {
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
    fn surplus_distractors_are_drawn() {
        let mut choices = Vec::new();
        DistractorDraw::new(42).choose(21, &[20], 20, &mut choices);
        assert_eq!(choices[0], 20);
        assert_eq!(choices[1..], PYTHON_FIRST[..9]);
    }
}
