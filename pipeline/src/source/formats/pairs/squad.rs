//! Questions about paragraphs in SQuAD's JSON: `{"data": [{"paragraphs": [{"context", "qas": [{"question", "id", "answers"}]}]}]}`.

use std::collections::HashSet;

use glm_text::pair::{NO_ANSWER, Template};
use serde::Deserialize;

use crate::source::pair::{RawPair, References, Windows};

/// Task that is learned from the questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// SQuAD 2: answers, or `N/A` in windows without one.
    Answer,
    /// SQuAD 1: answers; training leaves windows without one out.
    AnswerAlways,
    /// Questions, given answers.
    Question,
    /// Answers to Chinese questions.
    ChineseAnswer,
}

/// Element of the array `data`.
#[derive(Deserialize)]
struct Article {
    paragraphs: Vec<Paragraph>,
}

#[derive(Deserialize)]
struct Paragraph {
    context: String,
    qas: Vec<Asked>,
}

#[derive(Deserialize)]
struct Asked {
    question: String,
    #[serde(default)]
    id: Option<serde_json::Value>,
    #[serde(default)]
    answers: Vec<Answer>,
}

#[derive(Deserialize)]
struct Answer {
    text: String,
}

/// Parses an element of the array `data`.
///
/// # Errors
/// A description of the fault.
pub fn parse(article: &str, purpose: Purpose) -> Result<Vec<RawPair>, String> {
    let article: Article = serde_json::from_str(article).map_err(|error| error.to_string())?;
    Ok(article.paragraphs.into_iter().flat_map(|paragraph| pairs(&paragraph, purpose)).collect())
}

fn pairs(paragraph: &Paragraph, purpose: Purpose) -> Vec<RawPair> {
    let mut pairs = Vec::with_capacity(paragraph.qas.len());
    for asked in &paragraph.qas {
        let id = asked.id.as_ref().map(|id| id.as_str().map_or_else(|| id.to_string(), str::to_owned));
        let pair = |template, prompt: &str, target: &str, references, windows| RawPair {
            id: id.clone(),
            template,
            source: paragraph.context.clone(),
            prompt: prompt.to_owned(),
            target: Some(target.to_owned()),
            references,
            windows,
        };
        let texts = || asked.answers.iter().map(|answer| answer.text.as_str());
        // One pair for each answer, in the order of the file.
        let distinct = || {
            let mut seen = HashSet::new();
            texts().filter(move |text| seen.insert(*text))
        };
        match purpose {
            Purpose::Answer | Purpose::AnswerAlways => {
                let target = texts().next().unwrap_or(NO_ANSWER);
                let references: Vec<String> = distinct().map(str::to_owned).collect();
                let references = if references.is_empty() { vec![NO_ANSWER.to_owned()] } else { references };
                let windows = if purpose == Purpose::Answer { Windows::All } else { Windows::Answered };
                pairs.push(pair(Template::Answer, &asked.question, target, References::Texts(references), windows));
            }
            Purpose::Question => pairs.extend(
                distinct()
                    .map(|answer| pair(Template::Question, answer, &asked.question, References::DecodedTarget, Windows::One)),
            ),
            Purpose::ChineseAnswer => pairs.extend(distinct().map(|answer| {
                let references = References::Texts(distinct().map(str::to_owned).collect());
                pair(Template::ChineseAnswer, &asked.question, answer.trim(), references, Windows::One)
            })),
        }
    }
    pairs
}
