//! A scene as a passage.

use super::random::Random;
use super::recipe::Recipe;
use super::scene::{Part, Scene};
use super::text::{MarkedText, Slot, capitalised};

/// How a sentence about a person may start.
const OPENERS: [&str; 6] = ["Later", "Meanwhile", "In the end", "At first", "To everyone’s surprise", "Once again"];

/// A person's role and deed. `{open}` is an opener or nothing, `{The}` the same with the article.
const ROLE_FIRST: [&str; 4] =
    ["{The} {role} {} {did}.", "{The} {role} {} {did}.", "{The} {role} {} {did}.", "It was the {role} {} who {did}."];
const NAME_FIRST: [&str; 3] =
    ["{open}{}, the {role}, {did}.", "{open}{}, the {role}, {did}.", "{open}{} – the {role} – {did}."];

/// Lines that name an entity and tell nothing.
const PERSON_HIGHLIGHTS: [&str; 5] =
    ["{}: “{quote}”", "New questions for {}", "{} speaks to the press", "“{quote},” says {}", "Praise and blame for {}"];
const PLACE_HIGHLIGHTS: [&str; 3] = ["All eyes are on {}", "Quiet days are over for {}", "What happens next in {}"];
const GROUP_HIGHLIGHTS: [&str; 3] = ["{} declines to comment", "No statement yet from {}", "{} will publish a report"];

/// Writes the passage: an opening sentence, one sentence an entity, and the highlights.
pub(super) fn tell(random: &mut Random, recipe: &Recipe, scene: &Scene) -> MarkedText {
    let mut passage = MarkedText::default();
    passage.push(random.pick(scene.theme.leads));
    for (index, entity) in scene.cast.iter().enumerate() {
        passage.push(" ");
        let name = Slot::Entity(index, &entity.name);
        match entity.part {
            Part::Place(fact) | Part::Group(fact) => passage.fill(fact.said, &[("", name)]),
            Part::Person(person) => {
                let (open, article) = opener(random, recipe);
                let slots = [
                    ("", name),
                    ("open", Slot::Text(&open)),
                    ("The", Slot::Text(&article)),
                    ("role", Slot::Text(person.role)),
                    ("did", Slot::Text(person.deed.did)),
                ];
                let wordings: &[&str] = if person.role_first { &ROLE_FIRST } else { &NAME_FIRST };
                passage.fill(random.pick(wordings), &slots);
            }
        }
    }
    for _ in 0..random.within(recipe.highlights) {
        passage.push("\n@highlight\n");
        highlight(random, recipe, scene, &mut passage);
    }
    passage
}

fn opener(random: &mut Random, recipe: &Recipe) -> (String, String) {
    if !random.chance(recipe.opener_share) {
        return (String::new(), "The".to_owned());
    }
    let opener = random.pick(&OPENERS);
    (format!("{opener} "), format!("{opener} the"))
}

fn highlight(random: &mut Random, recipe: &Recipe, scene: &Scene, passage: &mut MarkedText) {
    let index = random.below(scene.cast.len());
    let Some(entity) = scene.cast.get(index) else { return };
    let (templates, name): (&[&str], &str) = match (entity.part, entity.surname) {
        (Part::Person(_), Some(surname)) if random.chance(recipe.surname_share) => (&PERSON_HIGHLIGHTS, surname),
        (Part::Person(_), _) => (&PERSON_HIGHLIGHTS, &entity.name),
        (Part::Place(_), _) => (&PLACE_HIGHLIGHTS, &entity.name),
        (Part::Group(_), _) => (&GROUP_HIGHLIGHTS, &entity.name),
    };
    let quote = capitalised(random.pick(scene.theme.quotes));
    passage.fill(random.pick(templates), &[("", Slot::Entity(index, name)), ("quote", Slot::Text(&quote))]);
}
