//! Entities of a passage and their facts, drawn before the text is written.

use glm_schemas::manifest::Split;

use super::phrases::{Deed, Fact, Names, Phrases, Theme};
use super::random::Random;
use super::recipe::Recipe;

/// Every tenth pair of first name and surname is reserved for validation, so that no person and no passage is in both splits.
const PAIRS_PER_RESERVED: usize = 10;

/// Grammatical gender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gender {
    Female,
    Male,
}

/// Facts about a person in one passage.
#[derive(Debug, Clone, Copy)]
pub(super) struct Person {
    pub(super) gender: Gender,
    pub(super) role: &'static str,
    pub(super) deed: Deed<'static>,
    /// True for `the baker Ada Reed`, false for `Ada Reed, the baker,`.
    pub(super) role_first: bool,
}

/// Facts about an entity in one passage. No other entity of the passage shares them.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part {
    Person(Person),
    Place(Fact<'static>),
    Group(Fact<'static>),
}

/// Entity of a passage.
#[derive(Debug, Clone)]
pub(super) struct Entity {
    /// Full name.
    pub(super) name: String,
    /// Short name of a person.
    pub(super) surname: Option<&'static str>,
    pub(super) part: Part,
}

/// Content of one passage.
#[derive(Debug)]
pub(super) struct Scene<'a> {
    pub(super) phrases: &'a Phrases<'static>,
    /// Kind of news.
    pub(super) theme: &'a Theme<'static>,
    /// All entities, in the order of the passage.
    pub(super) cast: Vec<Entity>,
}

impl<'a> Scene<'a> {
    /// Draws a scene. No word is in two names of the same scene.
    pub(super) fn draw(random: &mut Random, phrases: &'a Phrases<'static>, recipe: &Recipe, split: Split) -> Self {
        let Phrases { names, themes, .. } = phrases;
        let theme = &themes[random.below(themes.len())];
        let mut cast = persons(random, names, theme, recipe, split);

        let count = random.within(recipe.places);
        let facts = random.pick_some(&theme.places, count);
        let places = random.pick_some(&names.places, facts.len());
        cast.extend(facts.into_iter().zip(places).map(|(fact, name)| Entity {
            name: name.to_owned(),
            surname: None,
            part: Part::Place(fact),
        }));

        let count = random.within(recipe.groups);
        let facts = random.pick_some(&theme.groups, count);
        let first_words = random.pick_some(&names.group_first, facts.len());
        let last_words = if theme.teams { &names.team_last } else { &names.firm_last };
        let last_words = random.pick_some(last_words, facts.len());
        cast.extend(facts.into_iter().zip(first_words).zip(last_words).map(|((fact, first), last)| Entity {
            name: format!("{first} {last}"),
            surname: None,
            part: Part::Group(fact),
        }));

        random.shuffle(&mut cast);
        Self { phrases, theme, cast }
    }
}

fn persons(random: &mut Random, names: &Names<'static>, theme: &Theme<'static>, recipe: &Recipe, split: Split) -> Vec<Entity> {
    let count = random.within(recipe.persons);
    let roles = random.pick_some(&theme.roles, count);
    let deeds = random.pick_some(&theme.deeds, count);
    let mut taken_first: Vec<&str> = Vec::with_capacity(count);
    let mut taken_last: Vec<&str> = Vec::with_capacity(count);
    let mut cast = Vec::with_capacity(count);
    for (role, deed) in roles.into_iter().zip(deeds) {
        let (gender, first_names) = random.pick(&[(Gender::Female, &names.women), (Gender::Male, &names.men)]);
        // Themes have far fewer roles than there are names, so a free pair is found quickly.
        let (first, last) = loop {
            let (i, j) = (random.below(first_names.len()), random.below(names.surnames.len()));
            let reserved = (i + j) % PAIRS_PER_RESERVED == 0;
            let free = !taken_first.contains(&first_names[i]) && !taken_last.contains(&names.surnames[j]);
            if free && reserved == (split != Split::Train) {
                break (first_names[i], names.surnames[j]);
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
