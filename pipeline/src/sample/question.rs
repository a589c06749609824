//! Queries about a scene: a sentence that might go on after the passage, with a blank for one entity.

use super::random::Random;
use super::recipe::Recipe;
use super::scene::{Gender, Part, Person, Scene};
use super::text::{MarkedText, Slot, capitalised};

/// The blank.
const BLANK: &str = "@placeholder";

/// How a query about a person may start; `{The}` and `{open}` as in the passage, but with other words.
const OPENERS: [&str; 5] = ["On Monday", "After midnight", "Before long", "Last night", "Since then"];

/// The role is repeated, before or behind the blank.
const BY_ROLE: [&[&str]; 2] = [
    &["{The} {role} {} {news}.", "“{quote},” the {role} {} told the press."],
    &["{open}{}, the {role}, {news}.", "“{quote},” said {}, the {role}."],
];

/// The deed is repeated.
const BY_DEED: [&str; 4] = [
    "“{quote},” said {}, who {did}.",
    "No one doubts that {} {did}.",
    "It is true that {} {did}.",
    "Some cheered when {} {did}.",
];

/// Role and deed are repeated, the role before or behind the blank.
const BY_BOTH: [&[&str]; 2] = [
    &["{The} {role} {}, who {did}, {news}.", "“{quote},” said the {role} {}, who {did}.", "“The {role} {} {did},” people say."],
    &["{open}{}, the {role} who {did}, {news}.", "{}, the {role}, {did} and {news}."],
];

/// Only the subject is mentioned.
const BY_TOPIC: [&str; 5] = [
    "Asked about {topic}, {} {news}.",
    "{} was asked again about {topic} and {news}.",
    "For {}, the story of {topic} is not over.",
    "“{quote},” {} said about {topic}.",
    "People will remember {} because of {topic}.",
];

/// What a person did afterwards: nothing that is in the passage.
const NEWS: [&str; 5] =
    ["declined to comment", "spoke to the press", "was not available", "did not seem surprised", "plans to say more next week"];

/// The same with a pronoun that tells the gender.
const GENDERED_NEWS: [&str; 8] = [
    "said that {she} would be back next year",
    "thanked {her} family",
    "told {her} side of the story",
    "kept {her} word",
    "said that {she} had no regrets",
    "gave {her} first interview",
    "wants {her} friends to know everything",
    "said that nobody had helped {object}",
];

/// How a query about a place or an organisation may start.
const HEADINGS: [&str; 3] = ["The evening paper writes: ", "A headline on Friday: ", "Our correspondent adds: "];

/// How often a query about a place or an organisation has a heading.
const HEADING_SHARE: f64 = 0.25;

/// Writes a query whose answer is entity `index` of the scene.
pub(super) fn ask(random: &mut Random, recipe: &Recipe, scene: &Scene, index: usize) -> String {
    let mut query = MarkedText::default();
    let verbatim = random.chance(recipe.verbatim_share);
    match scene.cast[index].part {
        Part::Place(fact) | Part::Group(fact) => {
            if random.chance(HEADING_SHARE) {
                query.push(random.pick(&HEADINGS));
            }
            query.fill(if verbatim { fact.again } else { fact.reworded }, &[("", Slot::Text(BLANK))]);
        }
        Part::Person(person) => about_person(random, recipe, scene, verbatim, &person, &mut query),
    }
    query.text
}

fn about_person(random: &mut Random, recipe: &Recipe, scene: &Scene, verbatim: bool, person: &Person, query: &mut MarkedText) {
    let (she, her, object) = match person.gender {
        Gender::Female => ("she", "her", "her"),
        Gender::Male => ("he", "his", "him"),
    };
    let pronouns = [("she", Slot::Text(she)), ("her", Slot::Text(her)), ("object", Slot::Text(object))];
    let mut news = MarkedText::default();
    let remark = if random.chance(recipe.pronoun_share) { random.pick(&GENDERED_NEWS) } else { random.pick(&NEWS) };
    news.fill(remark, &pronouns);

    let role_behind = usize::from(person.role_first != random.chance(recipe.same_order_share));
    let wordings: &[&str] = match (verbatim, random.below(4)) {
        (false, _) => &BY_TOPIC,
        (true, 0) => &BY_DEED,
        (true, 1) => BY_BOTH[role_behind],
        (true, _) => BY_ROLE[role_behind],
    };
    let opener = random.chance(recipe.opener_share).then(|| random.pick(&OPENERS));
    let open = opener.map_or_else(String::new, |opener| format!("{opener} "));
    let article = opener.map_or_else(|| "The".to_owned(), |opener| format!("{opener} the"));
    let quote = capitalised(random.pick(scene.theme.quotes));
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
