//! One passage with its questions, in the format of SuperGLUE's ReCoRD.

use glm_schemas::manifest::Split;
use serde::Serialize;

use super::question::ask;
use super::random::Random;
use super::recipe::Recipe;
use super::scene::Scene;
use super::story::tell;
use super::text::{MarkedText, Mention};

/// A line of `train.jsonl` or `val.jsonl`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Record {
    /// Where the passage comes from: here, what kind of news it is.
    pub source: &'static str,
    /// The text and its entities.
    pub passage: Passage,
    /// The questions.
    pub qas: Vec<Question>,
    /// Number of the passage within its file.
    pub idx: u64,
}

/// A passage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Passage {
    /// Its text; `@highlight` lines at the end.
    pub text: String,
    /// Every mention of an entity, in order.
    pub entities: Vec<Span>,
}

/// A place in a passage, in Unicode code points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Span {
    /// First code point.
    pub start: usize,
    /// Last code point: the format counts inclusively.
    pub end: usize,
}

/// A question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Question {
    /// A sentence with one `@placeholder`.
    pub query: String,
    /// Every mention of the entity that belongs there.
    pub answers: Vec<Answer>,
    /// Number of the question within its file.
    pub idx: u64,
}

/// One mention of the right entity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// First code point.
    pub start: usize,
    /// Last code point.
    pub end: usize,
    /// The mention.
    pub text: String,
}

/// Makes passage `index` of a split; its questions are numbered from `first_question`. The same arguments always give the same
/// record, whatever else was made before.
pub fn generate(seed: u64, recipe: &Recipe, split: Split, index: u64, first_question: u64) -> Record {
    let mut random = Random::for_item(seed, split as u64, index);
    let scene = Scene::draw(&mut random, recipe, split);
    let story = tell(&mut random, recipe, &scene);
    let everybody: Vec<usize> = (0..scene.cast.len()).collect();
    let count = random.within(recipe.questions);
    let asked = random.pick_some(&everybody, count);
    let qas = (first_question..)
        .zip(asked)
        .map(|(idx, entity)| Question {
            query: ask(&mut random, recipe, &scene, entity),
            answers: answers(&story, entity),
            idx,
        })
        .collect();
    let entities = story.mentions.iter().map(span).collect();
    Record { source: scene.theme.name, passage: Passage { text: story.text, entities }, qas, idx: index }
}

fn span(mention: &Mention) -> Span {
    Span { start: mention.start, end: mention.end - 1 }
}

fn answers(story: &MarkedText, entity: usize) -> Vec<Answer> {
    let mentions = story.mentions.iter().filter(|mention| mention.entity == entity);
    mentions
        .map(|mention| {
            let Span { start, end } = span(mention);
            let text = story.text.chars().skip(start).take(mention.end - mention.start).collect();
            Answer { start, end, text }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::names::{MEN, PLACES, WOMEN};
    use super::super::scene::Gender;
    use super::*;

    #[derive(PartialEq)]
    enum Kind {
        Person(Option<Gender>),
        Place,
        Group,
    }

    /// What a name alone tells. A surname does not tell the gender.
    fn kind(name: &str) -> Kind {
        match name.split_once(' ') {
            None if PLACES.contains(&name) => Kind::Place,
            None => Kind::Person(None),
            Some((first, _)) if WOMEN.contains(&first) => Kind::Person(Some(Gender::Female)),
            Some((first, _)) if MEN.contains(&first) => Kind::Person(Some(Gender::Male)),
            Some(_) => Kind::Group,
        }
    }

    fn gender_of(query: &str) -> Option<Gender> {
        let words = || query.split(|c: char| !c.is_alphabetic());
        match (words().any(|word| ["she", "her"].contains(&word)), words().any(|word| ["he", "his", "him"].contains(&word))) {
            (true, _) => Some(Gender::Female),
            (_, true) => Some(Gender::Male),
            _ => None,
        }
    }

    fn may_be(candidate: &Kind, right: &Kind, gender: Option<Gender>) -> bool {
        match (candidate, right) {
            (Kind::Person(known), Kind::Person(_)) => known.is_none() || gender.is_none() || *known == gender,
            _ => candidate == right,
        }
    }

    #[test]
    fn the_query_alone_does_not_answer_most_questions() {
        let (mut questions, mut hits) = (0.0, 0.0);
        for index in 0..2000 {
            let record = generate(3, &Recipe::default(), Split::Val, index, 0);
            let text: Vec<char> = record.passage.text.chars().collect();
            let candidates: BTreeSet<String> =
                record.passage.entities.iter().map(|span| text[span.start..=span.end].iter().collect()).collect();
            for question in &record.qas {
                // Told the right kind, this reader guesses among all candidates of that kind and of the pronoun's gender.
                let (right, gender) = (kind(&question.answers[0].text), gender_of(&question.query));
                let left: Vec<_> = candidates.iter().filter(|name| may_be(&kind(name), &right, gender)).collect();
                let good = left.iter().filter(|name| question.answers.iter().any(|answer| answer.text == ***name)).count();
                questions += 1.0;
                hits += good as f64 / left.len() as f64;
            }
        }
        // Some 0.49: what a model scores above that, it has read in the passage.
        let share = hits / questions;
        assert!((0.40..0.52).contains(&share), "{share}");
    }
}
