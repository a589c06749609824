//! Generator of passages with questions, in the format of SuperGLUE's ReCoRD.

use glm_schemas::manifest::Split;
use serde::Serialize;

use super::phrases::Phrases;
use super::question::{BLANK, write_query};
use super::random::Random;
use super::recipe::Recipe;
use super::scene::Scene;
use super::story::write_passage;
use super::text::{MarkedText, Mention};

/// Line of `train.jsonl` or `val.jsonl`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Record {
    /// Kind of news.
    pub source: &'static str,
    /// Text and its entities.
    pub passage: Passage,
    /// Questions about the passage.
    pub qas: Vec<Question>,
    /// Number of the passage in its file.
    pub idx: u64,
}

/// Passage with annotated entities.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Passage {
    /// Text, with `@highlight` lines at the end.
    pub text: String,
    /// All mentions of entities, in order.
    pub entities: Vec<Span>,
}

/// Range of Unicode code points of a passage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Span {
    /// First code point.
    pub start: usize,
    /// Last code point (inclusive, as the format requires).
    pub end: usize,
}

/// Cloze question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Question {
    /// Sentence with one `@placeholder`.
    pub query: String,
    /// All mentions of the correct entity.
    pub answers: Vec<Answer>,
    /// Number of the question in its file.
    pub idx: u64,
}

/// Mention of the correct entity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// First code point.
    pub start: usize,
    /// Last code point, inclusive.
    pub end: usize,
    /// Text of the mention.
    pub text: String,
}

/// Line of a file of documents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Document {
    /// Kind of news.
    pub source: &'static str,
    /// Text, a sentence or more per line.
    pub text: String,
}

/// Number of the first random stream of documents; those of the records are the numbers of the splits.
const DOCUMENT_STREAMS: u64 = 16;

/// Generator of records.
#[derive(Debug)]
pub struct Generator {
    phrases: Phrases<'static>,
    recipe: Recipe,
    seed: u64,
}

impl Generator {
    /// Creates a generator.
    ///
    /// # Errors
    /// A [`serde_json::Error`] if the embedded phrases do not parse.
    pub fn new(seed: u64, recipe: Recipe) -> Result<Self, serde_json::Error> {
        Ok(Self { phrases: Phrases::load()?, recipe, seed })
    }

    /// Generates passage `index` of a split, with questions numbered from `first_question`. The result depends on seed, recipe and
    /// arguments only.
    pub fn record(&self, split: Split, index: u64, first_question: u64) -> Record {
        let recipe = &self.recipe;
        let mut random = Random::for_item(self.seed, split as u64, index);
        let scene = Scene::draw(&mut random, &self.phrases, recipe, split);
        let story = write_passage(&mut random, recipe, &scene);
        let entities: Vec<usize> = (0..scene.cast.len()).collect();
        let count = random.within(recipe.questions);
        let answers_of = random.pick_some(&entities, count);
        let qas = (first_question..)
            .zip(answers_of)
            .map(|(idx, entity)| Question {
                query: write_query(&mut random, recipe, &scene, entity),
                answers: answers(&story, entity),
                idx,
            })
            .collect();
        let entities = story.mentions.iter().map(span).collect();
        Record { source: scene.theme.name, passage: Passage { text: story.text, entities }, qas, idx: index }
    }

    /// Generates document `index` of a split: a passage, and a follow-up sentence about each of its entities, which repeats or rewords
    /// the fact and names the entity. No passage of [`Self::record`] is among them.
    pub fn document(&self, split: Split, index: u64) -> Document {
        let mut random = Random::for_item(self.seed, DOCUMENT_STREAMS + split as u64, index);
        let recipe = self.recipe.for_document(random.chance(self.recipe.short_share));
        let scene = Scene::draw(&mut random, &self.phrases, &recipe, split);
        let mut text = write_passage(&mut random, &recipe, &scene).text;
        let entities: Vec<usize> = (0..scene.cast.len()).collect();
        for entity in random.pick_some(&entities, entities.len()) {
            let sentence = write_query(&mut random, &recipe, &scene, entity);
            text.push('\n');
            text.push_str(&sentence.replace(BLANK, &scene.cast[entity].name));
        }
        Document { source: scene.theme.name, text }
    }
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

    use super::super::phrases::Names;
    use super::super::recipe::Difficulty;
    use super::super::scene::Gender;
    use super::*;

    #[derive(PartialEq)]
    enum Kind {
        Person(Option<Gender>),
        Place,
        Group,
    }

    /// Kind of entity that a name shows. A surname does not show the gender.
    fn kind(names: &Names<'_>, name: &str) -> Kind {
        match name.split_once(' ') {
            None if names.places.contains(&name) => Kind::Place,
            None => Kind::Person(None),
            Some((first, _)) if names.women.contains(&first) => Kind::Person(Some(Gender::Female)),
            Some((first, _)) if names.men.contains(&first) => Kind::Person(Some(Gender::Male)),
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

    fn is_compatible(candidate: &Kind, correct: &Kind, gender: Option<Gender>) -> bool {
        match (candidate, correct) {
            (Kind::Person(known), Kind::Person(_)) => known.is_none() || gender.is_none() || *known == gender,
            _ => candidate == correct,
        }
    }

    /// Shares of the questions that a reader answers who sees only the query and the candidates, and of those answered by chance.
    fn without_passage(difficulty: Difficulty) -> (f64, f64) {
        let generator = Generator::new(3, difficulty.into()).expect("phrases");
        let kind = |name: &str| kind(&generator.phrases.names, name);
        let (mut questions, mut hits, mut chance) = (0.0, 0.0, 0.0);
        for index in 0..2000 {
            let record = generator.record(Split::Val, index, 0);
            let text: Vec<char> = record.passage.text.chars().collect();
            let candidates: BTreeSet<String> =
                record.passage.entities.iter().map(|span| text[span.start..=span.end].iter().collect()).collect();
            for question in &record.qas {
                // Guesses among all candidates of the correct kind and of the pronoun's gender.
                let (correct, gender) = (kind(&question.answers[0].text), gender_of(&question.query));
                let compatible: Vec<_> =
                    candidates.iter().filter(|name| is_compatible(&kind(name), &correct, gender)).collect();
                let hit = compatible.iter().filter(|name| question.answers.iter().any(|answer| answer.text == ***name)).count();
                let is_right = |name: &&String| question.answers.iter().any(|answer| answer.text == **name);
                chance += candidates.iter().filter(is_right).count() as f64 / candidates.len() as f64;
                questions += 1.0;
                hits += hit as f64 / compatible.len() as f64;
            }
        }
        (hits / questions, chance / questions)
    }

    #[test]
    fn the_query_alone_answers_half_of_the_normal_and_most_of_the_easy_questions() {
        let (share, chance) = without_passage(Difficulty::Normal);
        assert!((0.47..0.51).contains(&share) && (0.14..0.18).contains(&chance), "{share}, {chance}");
        let (share, chance) = without_passage(Difficulty::Easy);
        assert!((0.75..0.81).contains(&share) && (0.23..0.28).contains(&chance), "{share}, {chance}");
    }
}
