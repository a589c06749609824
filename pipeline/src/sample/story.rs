//! Passage of a scene.

use super::random::Random;
use super::recipe::Recipe;
use super::scene::{Part, Scene};
use super::text::{MarkedText, Slot, capitalised};

/// Writes the passage: an opening sentence, one sentence per entity, and the highlights.
pub(super) fn write_passage(random: &mut Random, recipe: &Recipe, scene: &Scene<'_>) -> MarkedText {
    let mut passage = MarkedText::default();
    passage.push(random.pick(&scene.theme.leads));
    for (index, entity) in scene.cast.iter().enumerate() {
        passage.push(" ");
        let name = Slot::Entity(index, &entity.name);
        match entity.part {
            Part::Place(fact) | Part::Group(fact) => passage.fill(fact.statement, &[("", name)]),
            Part::Person(person) => {
                let (open, article) = opening(random, recipe, scene);
                let slots = [
                    ("", name),
                    ("open", Slot::Text(&open)),
                    ("The", Slot::Text(&article)),
                    ("role", Slot::Text(person.role)),
                    ("did", Slot::Text(person.deed.did)),
                ];
                let templates = &scene.phrases.story;
                let wordings = if person.role_first { &templates.role_first } else { &templates.name_first };
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

/// Returns an opening followed by a space and by the article, or nothing and the article.
fn opening(random: &mut Random, recipe: &Recipe, scene: &Scene<'_>) -> (String, String) {
    if !random.chance(recipe.opener_share) {
        return (String::new(), "The".to_owned());
    }
    let opening = random.pick(&scene.phrases.story.openings);
    (format!("{opening} "), format!("{opening} the"))
}

fn highlight(random: &mut Random, recipe: &Recipe, scene: &Scene<'_>, passage: &mut MarkedText) {
    let index = random.below(scene.cast.len());
    let Some(entity) = scene.cast.get(index) else { return };
    let story = &scene.phrases.story;
    let (templates, name) = match (entity.part, entity.surname) {
        (Part::Person(_), Some(surname)) if random.chance(recipe.surname_share) => (&story.person_highlights, surname),
        (Part::Person(_), _) => (&story.person_highlights, entity.name.as_str()),
        (Part::Place(_), _) => (&story.place_highlights, entity.name.as_str()),
        (Part::Group(_), _) => (&story.group_highlights, entity.name.as_str()),
    };
    let quote = capitalised(random.pick(&scene.theme.quotes));
    passage.fill(random.pick(templates), &[("", Slot::Entity(index, name)), ("quote", Slot::Text(&quote))]);
}
