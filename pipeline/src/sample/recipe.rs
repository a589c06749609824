//! Difficulty of the sample corpus.

use clap::ValueEnum;

/// Difficulty of a corpus, by name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Difficulty {
    /// One or two people and places and one organisation per passage: who knows which names belong to women, men, places and
    /// organisations answers most questions
    Easy,
    /// Several people, places and organisations per passage: most questions require a look at the passage
    #[default]
    Normal,
}

/// Settings of the generator. Ranges are inclusive.
///
/// The defaults give passages of about 60 to 110 BERT tokens, 84 in the median. The cues for the answer are graded: the query alone
/// shows the kind of entity, a pronoun may show the gender, and the passage is needed to choose among the remaining candidates. A
/// model trained from scratch learns the cues in that order.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    /// People per passage, at most 10. Each has a role and a deed.
    pub persons: (usize, usize),
    /// Places per passage, at most 4. The passage states a fact about each.
    pub places: (usize, usize),
    /// Organisations or teams per passage, at most 4. The passage states a fact about each.
    pub groups: (usize, usize),
    /// `@highlight` lines per passage. Each repeats the name of a random entity without any fact, so that the number of mentions
    /// is not a cue for the answer.
    pub highlights: (usize, usize),
    /// Questions per passage, each about a different entity.
    pub questions: (usize, usize),
    /// Share of the questions that repeat words of the passage next to the blank. The others reword the fact and keep about one
    /// noun.
    pub verbatim_share: f64,
    /// Share of the people whose role precedes their name in the passage (`the baker Ada Reed`); for the others it follows the
    /// name (`Ada Reed, the baker,`).
    pub role_first_share: f64,
    /// Share of the queries with a role that have role and blank in the same order as role and name in the passage.
    pub same_order_share: f64,
    /// Share of the remarks about a person's next actions that contain a pronoun, which shows the gender. Half of the queries
    /// about people have such a remark.
    pub pronoun_share: f64,
    /// Share of the highlights about a person that have only the surname. The surname is then a separate candidate, correct
    /// whenever the full name is.
    pub surname_share: f64,
    /// Share of the sentences about a person that start with an adverb.
    pub opener_share: f64,
    /// Share of the documents for pretraining that are short.
    pub short_share: f64,
}

impl From<Difficulty> for Recipe {
    fn from(difficulty: Difficulty) -> Self {
        match difficulty {
            Difficulty::Easy => Self { persons: (1, 2), places: (1, 2), groups: (1, 1), ..Self::default() },
            Difficulty::Normal => Self::default(),
        }
    }
}

impl Recipe {
    /// Settings for documents, most of which are `short`, with one to four entities: there a model meets its first facts in texts in
    /// which they are easy to find again.
    #[must_use]
    pub fn for_document(&self, short: bool) -> Self {
        let (persons, places, groups) = if short { ((1, 2), (0, 1), (0, 1)) } else { (self.persons, self.places, self.groups) };
        Self { persons, places, groups, highlights: (0, 0), ..self.clone() }
    }
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            persons: (3, 4),
            places: (1, 2),
            groups: (1, 2),
            highlights: (1, 2),
            questions: (1, 3),
            verbatim_share: 0.85,
            role_first_share: 0.7,
            same_order_share: 0.9,
            pronoun_share: 0.6,
            surname_share: 0.2,
            opener_share: 0.25,
            short_share: 0.75,
        }
    }
}
