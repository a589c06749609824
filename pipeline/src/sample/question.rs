//! Queries about a scene: a sentence that could follow the passage, with a blank in place of one entity.

use super::random::Random;
use super::recipe::Recipe;
use super::scene::{Gender, Part, Person, Scene};
use super::text::{MarkedText, Slot, capitalised};

/// Marker of the blank.
pub(super) const BLANK: &str = "@placeholder";

/// Share of the queries about a place or an organisation that have a heading.
const HEADING_SHARE: f64 = 0.25;

/// Writes a query whose answer is entity `index` of the scene.
pub(super) fn write_query(random: &mut Random, recipe: &Recipe, scene: &Scene<'_>, index: usize) -> String {
    let mut query = MarkedText::default();
    let verbatim = random.chance(recipe.verbatim_share);
    match scene.cast[index].part {
        Part::Place(fact) | Part::Group(fact) => {
            if random.chance(HEADING_SHARE) {
                query.push(random.pick(&scene.phrases.query.headings));
            }
            query.fill(if verbatim { fact.repeated } else { fact.reworded }, &[("", Slot::Text(BLANK))]);
        }
        Part::Person(person) => about_person(random, recipe, scene, verbatim, &person, &mut query),
    }
    query.text
}

fn about_person(
    random: &mut Random,
    recipe: &Recipe,
    scene: &Scene<'_>,
    verbatim: bool,
    person: &Person,
    query: &mut MarkedText,
) {
    let (she, her, object) = match person.gender {
        Gender::Female => ("she", "her", "her"),
        Gender::Male => ("he", "his", "him"),
    };
    let pronouns = [("she", Slot::Text(she)), ("her", Slot::Text(her)), ("object", Slot::Text(object))];
    let templates = &scene.phrases.query;
    let mut news = MarkedText::default();
    let is_gendered = random.chance(recipe.pronoun_share);
    let remarks = if is_gendered { &templates.gendered_remarks } else { &templates.remarks };
    news.fill(random.pick(remarks), &pronouns);

    let role_after = usize::from(person.role_first != random.chance(recipe.same_order_share));
    let wordings = match (verbatim, random.below(4)) {
        (false, _) => &templates.by_topic,
        (true, 0) => &templates.by_deed,
        (true, 1) => &templates.by_both[role_after],
        (true, _) => &templates.by_role[role_after],
    };
    let opening = random.chance(recipe.opener_share).then(|| random.pick(&templates.openings));
    let open = opening.map_or_else(String::new, |opening| format!("{opening} "));
    let article = opening.map_or_else(|| "The".to_owned(), |opening| format!("{opening} the"));
    let quote = capitalised(random.pick(&scene.theme.quotes));
    let slots = [
        ("", Slot::Text(BLANK)),
        ("The", Slot::Text(&article)),
        ("open", Slot::Text(&open)),
        ("role", Slot::Text(person.role)),
        ("did", Slot::Text(person.deed.did)),
        ("topic", Slot::Text(person.deed.topic)),
        ("quote", Slot::Text(&quote)),
        ("news", Slot::Text(&news.text)),
    ];
    query.fill(random.pick(wordings), &slots);
}
