//! Who and what a passage is about, before a word of it is written.

use glm_schemas::manifest::Split;

use super::names::{GROUP_FIRST, MEN, PLACES, SURNAMES, WOMEN};
use super::random::Random;
use super::recipe::Recipe;
use super::themes::{Deed, Fact, THEMES, Theme};

/// Every tenth pair of first name and surname belongs to the people of validation passages, so that nobody, and no passage,
/// is in both splits.
const PAIRS_PER_RESERVED: usize = 10;

/// A grammatical gender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gender {
    Female,
    Male,
}

/// What is true of a person in one passage.
#[derive(Debug, Clone, Copy)]
pub(super) struct Person {
    pub(super) gender: Gender,
    pub(super) role: &'static str,
    pub(super) deed: Deed,
    /// Whether the passage says `the baker Ada Reed`; else `Ada Reed, the baker,`.
    pub(super) role_first: bool,
}

/// What is true of an entity in one passage. Nothing of it is true of another entity there.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part {
    Person(Person),
    Place(Fact),
    Group(Fact),
}

/// One entity.
#[derive(Debug, Clone)]
pub(super) struct Entity {
    /// Its full name.
    pub(super) name: String,
    /// The shorter name of a person.
    pub(super) surname: Option<&'static str>,
    /// Its part.
    pub(super) part: Part,
}

/// The cast of one passage.
#[derive(Debug)]
pub(super) struct Scene {
    /// What kind of news it is.
    pub(super) theme: &'static Theme,
    /// Everybody and everything that is named, in the order of the passage.
    pub(super) cast: Vec<Entity>,
}

impl Scene {
    /// Draws a scene. No word of a name is in two names of the same scene.
    pub(super) fn draw(random: &mut Random, recipe: &Recipe, split: Split) -> Self {
        let theme = random.pick(&THEMES);
        let mut cast = persons(random, recipe, split, theme);

        let count = random.within(recipe.places);
        let facts = random.pick_some(theme.places, count);
        let names = random.pick_some(&PLACES, facts.len());
        cast.extend(facts.into_iter().zip(names).map(|(fact, name)| Entity {
            name: name.to_owned(),
            surname: None,
            part: Part::Place(fact),
        }));

        let count = random.within(recipe.groups);
        let facts = random.pick_some(theme.groups, count);
        let first_words = random.pick_some(&GROUP_FIRST, facts.len());
        let last_words = random.pick_some(theme.group_last, facts.len());
        cast.extend(facts.into_iter().zip(first_words).zip(last_words).map(|((fact, first), last)| Entity {
            name: format!("{first} {last}"),
            surname: None,
            part: Part::Group(fact),
        }));

        random.shuffle(&mut cast);
        Self { theme, cast }
    }
}

fn persons(random: &mut Random, recipe: &Recipe, split: Split, theme: &Theme) -> Vec<Entity> {
    let count = random.within(recipe.persons);
    let roles = random.pick_some(theme.roles, count);
    let deeds = random.pick_some(theme.deeds, count);
    let mut taken_first: Vec<&str> = Vec::with_capacity(count);
    let mut taken_last: Vec<&str> = Vec::with_capacity(count);
    let mut cast = Vec::with_capacity(count);
    for (role, deed) in roles.into_iter().zip(deeds) {
        let (gender, names) = random.pick(&[(Gender::Female, &WOMEN), (Gender::Male, &MEN)]);
        // A theme has far fewer roles than there are names, so that a free pair is always found soon.
        let (first, last) = loop {
            let (i, j) = (random.below(names.len()), random.below(SURNAMES.len()));
            let reserved = (i + j) % PAIRS_PER_RESERVED == 0;
            let free = !taken_first.contains(&names[i]) && !taken_last.contains(&SURNAMES[j]);
            if free && reserved == (split != Split::Train) {
                break (names[i], SURNAMES[j]);
            }
        };
        taken_first.push(first);
        taken_last.push(last);
        let role_first = random.chance(recipe.role_first_share);
        let part = Part::Person(Person { gender, role, deed, role_first });
        cast.push(Entity { name: format!("{first} {last}"), surname: Some(last), part });
    }
    cast
}
