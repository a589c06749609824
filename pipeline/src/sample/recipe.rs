//! How hard the sample corpus is to read.

/// The settings of the generator. Ranges are inclusive.
///
/// The defaults give passages of about 60 to 110 BERT tokens, 84 in the median. The cues for the answer are graded: what kind
/// of thing fills the blank shows in the query alone, a pronoun may tell the gender, and which one of those that are left it is
/// has to be looked up in the passage. A model that starts from nothing learns them in that order.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    /// People a passage, 10 at most. Each has a role and a deed.
    pub persons: (usize, usize),
    /// Places a passage, 4 at most. Something is said of each.
    pub places: (usize, usize),
    /// Organisations or teams a passage, 4 at most. Something is said of each.
    pub groups: (usize, usize),
    /// `@highlight` lines a passage. Each names one entity once more, whether it is asked for or not, and tells nothing about
    /// it: so the number of mentions says nothing about the answer.
    pub highlights: (usize, usize),
    /// Questions a passage, each about another entity.
    pub questions: (usize, usize),
    /// Share of the questions that repeat words of the passage next to the blank; the others word the fact differently and
    /// keep a noun or so.
    pub verbatim_share: f64,
    /// Share of the people whose role stands before their name in the passage, `the baker Ada Reed`; with the others it comes
    /// behind, `Ada Reed, the baker,`.
    pub role_first_share: f64,
    /// Share of the queries with a role that put role and blank in the same order as the passage put role and name.
    pub same_order_share: f64,
    /// Share of the remarks on what a person did next that have a pronoun, which tells the gender. Half of the queries about
    /// people make such a remark.
    pub pronoun_share: f64,
    /// Share of the highlights about a person that give the surname alone. It is then a candidate of its own, right where
    /// the full name is right.
    pub surname_share: f64,
    /// Share of the sentences about a person that start with an adverb.
    pub opener_share: f64,
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
        }
    }
}
