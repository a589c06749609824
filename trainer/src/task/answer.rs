//! Answers to questions with choices.

use serde::Serialize;

/// Scored choices of one example.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Id of the example.
    pub example_id: String,
    /// Id of the example in the raw data, if it has one.
    pub source_id: Option<String>,
    /// Index of the example in the raw data.
    pub question_id: Option<i64>,
    /// Name of the examples that are scored together, if it is one of several.
    pub group_id: Option<String>,
    /// Index of the raw record in JSON, if it has one.
    pub idx: Option<String>,
    /// The choices, in stored order.
    pub choices: Vec<ScoredChoice>,
    /// Place of the best choice in `choices`; the first one if several are equal. `None` if the model would write another answer.
    pub predicted: Option<usize>,
    /// True if the best choice is correct, or if no choice is and none was predicted.
    pub hit: bool,
}

impl Answer {
    /// Returns the choice that is predicted, if one is.
    pub fn predicted_choice(&self) -> Option<&ScoredChoice> {
        self.choices.get(self.predicted?)
    }

    /// Returns true if the correct choices are known.
    pub fn is_labelled(&self) -> bool {
        self.choices.iter().any(|choice| choice.correct.is_some())
    }
}

/// Choice of an example with its score.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ScoredChoice {
    /// Text.
    pub text: String,
    /// Label that it stands for, if choices have names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Index in the list of choices of the raw data.
    pub choice_index: usize,
    /// Score: a sum of log probabilities.
    pub score: f64,
    /// True if it is correct; `None` if that is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correct: Option<bool>,
}
