//! A line of `eval --scores` and `predict --scores`: the scored choices of a question, in the order of the raw data.

use serde::Serialize;

use crate::task::{Answer, ScoredChoice};

/// The scored choices of a question.
#[derive(Debug, Serialize)]
pub(crate) struct AnswerLine<'a> {
    example_id: &'a str,
    source_id: Option<&'a str>,
    question_id: Option<i64>,
    /// Index of the best choice in the raw data; none if the model would write another answer.
    predicted: Option<usize>,
    /// Text of the best choice.
    predicted_text: Option<&'a str>,
    /// True if it is correct.
    #[serde(skip_serializing_if = "Option::is_none")]
    hit: Option<bool>,
    choices: Vec<&'a ScoredChoice>,
}

impl<'a> AnswerLine<'a> {
    /// Creates the line of an answer.
    pub(crate) fn new(answer: &'a Answer) -> Self {
        let mut choices: Vec<&ScoredChoice> = answer.choices.iter().collect();
        choices.sort_by_key(|choice| choice.choice_index);
        let best = answer.predicted_choice();
        let Answer { example_id, source_id, question_id, hit, .. } = answer;
        Self {
            example_id,
            source_id: source_id.as_deref(),
            question_id: *question_id,
            predicted: best.map(|choice| choice.choice_index),
            predicted_text: best.map(|choice| choice.text.as_str()),
            hit: answer.is_labelled().then_some(*hit),
            choices,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn choices_have_the_order_of_the_raw_data() {
        let choice = |text: &str, choice_index, score, correct| ScoredChoice {
            text: text.into(),
            name: None,
            choice_index,
            score,
            correct,
        };
        let answer = |correct: fn(bool) -> Option<bool>| Answer {
            example_id: "val-0".into(),
            source_id: Some("mine".into()),
            question_id: Some(7),
            group_id: None,
            idx: None,
            choices: vec![choice("pond", 2, -1.5, correct(false)), choice("tree", 0, -2.0, correct(true))],
            predicted: Some(0),
            hit: false,
        };
        assert_eq!(
            json!(AnswerLine::new(&answer(Some))),
            json!({
                "example_id": "val-0", "source_id": "mine", "question_id": 7,
                "predicted": 2, "predicted_text": "pond", "hit": false,
                "choices": [
                    {"text": "tree", "choice_index": 0, "score": -2.0, "correct": true},
                    {"text": "pond", "choice_index": 2, "score": -1.5, "correct": false},
                ],
            })
        );
        // Without answers there is nothing to be correct.
        let unlabelled = json!(AnswerLine::new(&answer(|_| None)));
        assert_eq!((unlabelled.get("hit"), unlabelled["choices"][0].get("correct")), (None, None));
    }
}
