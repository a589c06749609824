//! What the sample passages are about: scenes from the news, each with its people, places and organisations.

mod culture;
mod town;
mod work;

/// One kind of news item.
#[derive(Debug)]
pub(super) struct Theme {
    /// Its name, which the records give as their source.
    pub(super) name: &'static str,
    /// Last words of the names of its organisations or teams.
    pub(super) group_last: &'static [&'static str],
    /// Opening sentences; no entity in them.
    pub(super) leads: &'static [&'static str],
    /// What a person is, for either gender; each is given to one person of a passage at most.
    pub(super) roles: &'static [&'static str],
    /// What a person did.
    pub(super) deeds: &'static [Deed],
    /// What is said of a place.
    pub(super) places: &'static [Fact],
    /// What is said of an organisation or a team.
    pub(super) groups: &'static [Fact],
    /// What people say; not tied to any fact.
    pub(super) quotes: &'static [&'static str],
}

/// What a person did. The deeds of a theme share no word that carries meaning.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deed {
    /// Predicate in the past tense: `voted against the bridge`.
    pub(super) did: &'static str,
    /// What it was about, as a noun phrase that can follow `about`: `the bridge`.
    pub(super) topic: &'static str,
}

/// What is said of a place or an organisation, whose name stands where `{}` is. The facts of a theme share no word that
/// carries meaning, with each other or with its roles and deeds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fact {
    /// The statement in the passage.
    pub(super) said: &'static str,
    /// A query that repeats words of the statement next to the name.
    pub(super) again: &'static str,
    /// A query that words the same fact differently.
    pub(super) reworded: &'static str,
}

const fn deed(did: &'static str, topic: &'static str) -> Deed {
    Deed { did, topic }
}

const fn fact(said: &'static str, again: &'static str, reworded: &'static str) -> Fact {
    Fact { said, again, reworded }
}

/// All themes.
pub(super) static THEMES: [&Theme; 12] = [
    &town::COUNCIL,
    &town::COURT,
    &town::STORM,
    &town::SCHOOL_FAIR,
    &culture::FOOTBALL,
    &culture::FILM_FESTIVAL,
    &culture::CONCERT,
    &culture::DIG,
    &work::MERGER,
    &work::SPACE,
    &work::HOSPITAL,
    &work::STRIKE,
];
