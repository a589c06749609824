//! Records as filled patterns: the context in segments, and choices.

mod choices;
mod filling;

use serde_json::Value;

use self::filling::Filling;
use super::error::ExampleError;
use super::record::Record;
use super::task::PatternTask;

/// Part of a context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextSegment {
    /// Text.
    pub text: String,
    /// True if it may be truncated.
    pub truncatable: bool,
}

/// Choice of an example.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExampleChoice {
    /// Text.
    pub text: String,
    /// Label that it stands for.
    pub name: String,
    /// True if it is right.
    pub correct: bool,
    /// Index in the list of labels or of the record's choices.
    pub index: usize,
}

/// Ids of an example.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExampleIds {
    /// Name of the example without its split; `None` if the record has no id.
    pub name: Option<String>,
    /// Name of the examples that are scored together.
    pub group: Option<String>,
    /// Index of the raw record in JSON, for files of predictions.
    pub idx: Option<String>,
    /// Id of the record as text.
    pub source_id: Option<String>,
    /// Id of the record if it is a number.
    pub record: Option<i64>,
    /// Id of the question if it is a number.
    pub question: Option<i64>,
}

/// A filled pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// Ids.
    pub ids: ExampleIds,
    /// First text that may be truncated; empty if there is none.
    pub passage: String,
    /// The whole context, with [`BLANK`](glm_text::question::BLANK) for the blank.
    pub query: String,
    /// The context without the blank.
    pub segments: Vec<TextSegment>,
    /// The blank stands before the segment with this number.
    pub blank: usize,
    /// First segment of group B.
    pub group_b: usize,
    /// Choices.
    pub choices: Vec<ExampleChoice>,
    /// Right label; `None` if it is unknown.
    pub label: Option<String>,
}

/// Use of the examples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Training: every example needs a label.
    Train,
    /// Evaluation.
    Evaluate,
    /// Prediction: labels are not read.
    Predict,
}

/// Examples of a record.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Examples {
    /// Examples, or why they are rejected.
    pub examples: Vec<Result<Example, ExampleError>>,
    /// Number of examples that training leaves out.
    pub left_out: usize,
}

impl PatternTask {
    /// Fills the pattern with a record.
    ///
    /// # Errors
    /// [`ExampleError`] if the record is not a JSON object, or lacks a list of examples.
    pub fn examples(&self, record: &str, purpose: Use) -> Result<Examples, ExampleError> {
        // A record on one line needs no line number, which would be taken for that of the file.
        let message = |error: serde_json::Error| error.to_string().replace(" at line 1 column ", " at column ");
        let root: Value = serde_json::from_str(record).map_err(|error| ExampleError::Json(message(error)))?;
        if !root.is_object() {
            return Err(ExampleError::NotAnObject);
        }
        let mut records = vec![Record::new(&root)];
        for lists in &self.file.each {
            records = records.iter().map(|record| record.items(&lists.0)).collect::<Result<Vec<_>, _>>()?.concat();
        }
        let mut found = Examples::default();
        for (number, record) in records.into_iter().enumerate() {
            let filling = Filling { task: self, record, number, mirrored: false };
            let label = filling.label(purpose);
            if let (Use::Train, Ok(Some(label)), Some(kept)) = (purpose, &label, &self.file.label.train)
                && self.file.label.names.get(*label) != Some(kept)
            {
                found.left_out += 1;
                continue;
            }
            let label = match label {
                Ok(label) => label,
                Err(error) => {
                    found.examples.push(Err(error));
                    continue;
                }
            };
            found.add(filling.examples(label, purpose));
            if purpose == Use::Train && self.file.mirror.is_some() {
                let mirrored = Filling { mirrored: true, ..filling };
                found.add(mirrored.examples(label.map(|label| usize::from(label == 0)), purpose));
            }
        }
        Ok(found)
    }
}

impl Examples {
    fn add(&mut self, examples: Result<Vec<Example>, ExampleError>) {
        match examples {
            Ok(examples) => self.examples.extend(examples.into_iter().map(Ok)),
            Err(error) => self.examples.push(Err(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn task(name: &str, number: usize) -> PatternTask {
        PatternTask::open(name, Some(number), false).expect("a pattern")
    }

    fn one(task: &PatternTask, record: &str, purpose: Use) -> Example {
        let mut found = task.examples(record, purpose).expect("a record").examples;
        assert_eq!(found.len(), 1);
        found.remove(0).expect("an example")
    }

    #[test]
    fn a_record_fills_the_segments_of_its_pattern() {
        let record = r#"{"premise": "It ‘rained’.", "hypothesis": "It was wet.", "label": "not_entailment", "idx": "7"}"#;
        let example = one(&task("superglue/rte", 0), record, Use::Train);
        let texts: Vec<_> = example.segments.iter().map(|one| (one.text.as_str(), one.truncatable)).collect();
        let expected =
            [("\"", false), ("It was wet", true), ("\" ?", false), (", \"", false), ("It 'rained'.", true), ("\"", false)];
        assert_eq!(texts, expected);
        assert_eq!((example.blank, example.group_b, example.passage.as_str()), (3, 3, "It was wet"));
        assert_eq!(example.query, "\"It was wet\" ? [BLANK], \"It 'rained'.\"");
        let choices: Vec<_> = example.choices.iter().map(|one| (one.text.as_str(), one.name.as_str(), one.correct)).collect();
        assert_eq!(choices, [("Yes", "entailment", false), ("No", "not_entailment", true)]);
        assert_eq!((example.ids.name.as_deref(), example.ids.idx.as_deref()), (Some("7"), Some("7")));
        assert_eq!(example.label.as_deref(), Some("not_entailment"));
        assert_eq!(one(&task("superglue/rte", 0), record, Use::Predict).label, None);
    }

    #[test]
    fn mirrored_examples_exchange_their_choices() {
        let record = r#"{"premise": "P.", "choice1": "A.", "choice2": "B.", "question": "cause", "label": 1, "idx": 4}"#;
        let copa = task("superglue/copa", 1);
        let both = copa.examples(record, Use::Train).expect("a record").examples;
        let seen: Vec<_> = both
            .into_iter()
            .map(|example| {
                let example = example.expect("an example");
                let right: Vec<_> = example.choices.iter().map(|choice| (choice.text.clone(), choice.correct)).collect();
                (example.ids.name.expect("a name"), example.query, right, example.label.expect("a label"))
            })
            .collect();
        let choices = |a: &str, b: &str, first: bool| vec![(a.to_owned(), first), (b.to_owned(), !first)];
        assert_eq!(seen[0], ("4".into(), "A or B? P because [BLANK].".into(), choices("A", "B", false), "1".into()));
        assert_eq!(seen[1], ("4m".into(), "B or A? P because [BLANK].".into(), choices("B", "A", true), "0".into()));
        assert_eq!(copa.examples(record, Use::Evaluate).expect("a record").examples.len(), 1);
    }

    #[test]
    fn candidates_come_in_groups_of_nine() {
        let candidates: Vec<_> = (0..11).chain([3]).map(|i| json!({"text": format!("c{i}")})).collect();
        let record = json!({
            "text": "Bo saw it.", "target": {"span1_text": "the cat", "span2_text": "it", "span2_index": 2},
            "candidates": candidates, "label": true, "idx": 0,
        });
        let wsc = task("superglue/wsc-candidates", 2);
        let found = wsc.examples(&record.to_string(), Use::Train).expect("a record").examples;
        let texts = |number: usize| -> Vec<String> {
            found[number].as_ref().expect("an example").choices.iter().map(|choice| choice.text.clone()).collect()
        };
        assert_eq!(texts(0), ["the cat", "c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8"]);
        assert_eq!(texts(1), ["the cat", "c9", "c10", "c0", "c1", "c2", "c3", "c4", "c5", "c6"]);
        assert_eq!(found[1].as_ref().expect("an example").ids.name.as_deref(), Some("0-1"));
        let example = one(&wsc, &record.to_string().replace("true", "false"), Use::Evaluate);
        assert_eq!((example.choices.len(), example.label.as_deref()), (12, Some("False")));
        assert!(example.choices.iter().all(|choice| !choice.correct));
        let left_out = wsc.examples(&record.to_string().replace("true", "false"), Use::Train).expect("a record");
        assert_eq!((left_out.examples.len(), left_out.left_out), (0, 1));
    }

    #[test]
    fn what_is_wrong_with_a_record_is_named() {
        let error = |record: &str, purpose| {
            let mut found = task("superglue/boolq", 0).examples(record, purpose).expect("a record").examples;
            found.remove(0).expect_err("rejected").to_string()
        };
        let record = |rest: &str| format!("{{\"question\": \"q\"{rest}}}");
        assert_eq!(error(&record(", \"label\": true"), Use::Train), "the field `passage` is missing");
        let passage = ", \"passage\": \"p\"";
        assert_eq!(error(&record(passage), Use::Train), "no label in the field `label`, and examples for training need one");
        assert_eq!(
            error(&record(", \"passage\": [1], \"label\": true"), Use::Evaluate),
            "the field `passage` holds a list, expected a text or a number"
        );
        assert_eq!(
            error(&record(", \"passage\": \"p\", \"label\": \"maybe\""), Use::Evaluate),
            "the field `label` holds `maybe`, expected one of false, true"
        );
        assert!(task("superglue/boolq", 0).examples("[1]", Use::Train).is_err());
        assert!(task("superglue/multirc", 0).examples("{}", Use::Train).is_err());
    }
}
