//! Files of answers as the leaderboards of SuperGLUE and GLUE expect them, and those of other tasks in the same form.

use std::collections::HashSet;
use std::io::{self, Write};

use glm_schemas::manifest::{ClozeManifest, Manifest};
use indexmap::IndexMap;
use serde::Serialize;
use serde_json::Value;

use super::AnswerFormat;
use crate::command::eval::write_line;
use crate::task::Answer;

/// Form of a task's lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `{"idx", "label"}` with the text of the best choice.
    Text,
    /// `{"idx", "label"}` with the name of the best choice.
    Label,
    /// `{"idx", "passage": {"questions": [{"idx", "answers": [{"idx", "label"}]}]}}`, a line per passage.
    Answers,
}

/// Names of tasks in manifests and of their files.
const FILES: [(&str, &str); 19] = [
    ("record", "ReCoRD.jsonl"),
    ("superglue/record", "ReCoRD.jsonl"),
    ("superglue/boolq", "BoolQ.jsonl"),
    ("superglue/cb", "CB.jsonl"),
    ("superglue/copa", "COPA.jsonl"),
    ("superglue/multirc", "MultiRC.jsonl"),
    ("superglue/rte", "RTE.jsonl"),
    ("superglue/wic", "WiC.jsonl"),
    ("superglue/wsc", "WSC.jsonl"),
    ("superglue/wsc-candidates", "WSC.jsonl"),
    ("superglue/ax-b", "AX-b.jsonl"),
    ("superglue/ax-g", "AX-g.jsonl"),
    ("glue/cola", "CoLA.tsv"),
    ("glue/sst-2", "SST-2.tsv"),
    ("glue/mrpc", "MRPC.tsv"),
    ("glue/qqp", "QQP.tsv"),
    ("glue/mnli", "MNLI-m.tsv"),
    ("glue/mnli-mm", "MNLI-mm.tsv"),
    ("glue/qnli", "QNLI.tsv"),
];

/// Form of the answers of a data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Submission {
    form: Form,
    /// Name of the file in a submission to SuperGLUE or GLUE, if the task has one.
    pub(super) file: Option<&'static str>,
    /// All labels; empty if choices have no names.
    labels: Vec<String>,
}

/// Index that two questions share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Duplicate(pub(super) String);

/// Line of [`AnswerFormat::Plain`].
#[derive(Debug, Serialize)]
struct Named<'a> {
    /// Id of the question in the raw data, or that of its row if it has none.
    id: &'a str,
    /// Index of the best choice in the raw data; none if the model would write another answer.
    predicted: Option<usize>,
    /// Text of the best choice.
    predicted_text: Option<&'a str>,
    /// Its name, if choices have names.
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<Value>,
}

#[derive(Debug, Serialize)]
struct Labelled<'a> {
    idx: &'a Value,
    label: Value,
}

#[derive(Debug, Serialize)]
struct Passage<'a> {
    idx: &'a Value,
    passage: Questions<'a>,
}

#[derive(Debug, Serialize)]
struct Questions<'a> {
    questions: Vec<Question<'a>>,
}

#[derive(Debug, Serialize)]
struct Question<'a> {
    idx: &'a Value,
    answers: Vec<Labelled<'a>>,
}

impl Submission {
    /// The form of a data set's answers.
    pub(super) fn of(manifest: &Manifest) -> Self {
        let cloze = manifest.cloze.as_ref();
        let task = cloze.map_or(manifest.settings.format.as_str(), |cloze| cloze.task.as_str());
        let file = FILES.iter().find(|(name, _)| *name == task).map(|(_, file)| *file);
        let labels = cloze.map(|ClozeManifest { labels, .. }| labels.clone()).unwrap_or_default();
        let form = match task {
            "superglue/multirc" => Form::Answers,
            _ if labels.is_empty() => Form::Text,
            _ => Form::Label,
        };
        Self { form, file, labels }
    }

    /// Format of the task's file; [`AnswerFormat::Plain`] if it has none.
    pub(super) fn format(&self) -> AnswerFormat {
        match self.file {
            Some(file) if file.ends_with(".tsv") => AnswerFormat::Glue,
            Some(_) => AnswerFormat::Superglue,
            None => AnswerFormat::Plain,
        }
    }

    /// The name of the label that is predicted: a number if it is one, else a text. Where the model would write another answer than the
    /// only choice, it is the first label that this choice has not.
    fn label(&self, answer: &Answer) -> Value {
        let name = match answer.predicted_choice() {
            Some(best) if self.form == Form::Text => Some(best.text.as_str()),
            Some(best) => best.name.as_deref(),
            None => {
                let of_choice = answer.choices.first().and_then(|choice| choice.name.as_deref());
                self.labels.iter().map(String::as_str).find(|label| Some(*label) != of_choice)
            }
        };
        let name = name.unwrap_or_default();
        match name.parse::<i64>() {
            Ok(number) if self.form != Form::Text && number.to_string() == name => number.into(),
            _ => name.into(),
        }
    }

    /// Writes answers, which are in the order of the data set.
    ///
    /// # Errors
    /// Errors of the file.
    pub(super) fn write(&self, format: AnswerFormat, answers: &[Answer], file: &mut dyn Write) -> io::Result<()> {
        match format {
            AnswerFormat::Plain => answers.iter().try_for_each(|answer| write_line(file, &self.named(answer))),
            AnswerFormat::Glue => self.write_table(answers, file),
            AnswerFormat::Superglue => self.write_lines(answers, file),
        }
    }

    fn named<'a>(&self, answer: &'a Answer) -> Named<'a> {
        let best = answer.predicted_choice();
        Named {
            id: answer.source_id.as_ref().unwrap_or(&answer.example_id),
            predicted: best.map(|choice| choice.choice_index),
            predicted_text: best.map(|choice| choice.text.as_str()),
            label: (!self.labels.is_empty()).then(|| self.label(answer)),
        }
    }

    /// Writes a table of indices and labels, separated by tabs.
    fn write_table(&self, answers: &[Answer], file: &mut dyn Write) -> io::Result<()> {
        writeln!(file, "index\tprediction")?;
        let plain = |value: Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        answers.iter().try_for_each(|answer| writeln!(file, "{}\t{}", plain(self.index(answer)), plain(self.label(answer))))
    }

    fn write_lines(&self, answers: &[Answer], file: &mut dyn Write) -> io::Result<()> {
        let indices: Vec<Value> = answers.iter().map(|answer| self.index(answer)).collect();
        let mut lines = answers.iter().zip(&indices);
        match self.form {
            Form::Text | Form::Label => {
                lines.try_for_each(|(answer, idx)| write_line(file, &Labelled { idx, label: self.label(answer) }))
            }
            Form::Answers => {
                let mut passages: IndexMap<String, (&Value, IndexMap<String, Question<'_>>)> = IndexMap::new();
                for (answer, idx) in lines {
                    let [passage, question, own] = ["passage", "question", "answer"].map(|part| &idx[part]);
                    let (_, questions) = passages.entry(passage.to_string()).or_insert_with(|| (passage, IndexMap::new()));
                    let question = questions
                        .entry(question.to_string())
                        .or_insert_with(|| Question { idx: question, answers: Vec::new() });
                    question.answers.push(Labelled { idx: own, label: self.label(answer) });
                }
                passages.into_values().try_for_each(|(idx, questions)| {
                    let questions = questions.into_values().collect();
                    write_line(file, &Passage { idx, passage: Questions { questions } })
                })
            }
        }
    }

    /// Index of a question in the raw data: of SuperGLUE's ReCoRD a number, else as the record has it.
    fn index(&self, answer: &Answer) -> Value {
        let of_record = || answer.idx.as_deref().and_then(|idx| serde_json::from_str(idx).ok());
        match self.form {
            Form::Text => answer.question_id.into(),
            Form::Label | Form::Answers => of_record().unwrap_or_else(|| answer.question_id.into()),
        }
    }

    /// Returns the first index that two answers share: only one of them would count.
    pub(super) fn duplicate(&self, answers: &[Answer]) -> Option<Duplicate> {
        let mut seen = HashSet::new();
        let mut indices = answers.iter().map(|answer| self.index(answer).to_string());
        indices.find(|idx| !seen.insert(idx.clone())).map(Duplicate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::ScoredChoice;

    fn answer(idx: &str, question_id: i64, names: &[&str], predicted: Option<usize>) -> Answer {
        let choice = |(choice_index, name): (usize, &&str)| ScoredChoice {
            text: format!("text {choice_index}"),
            name: Some((*name).to_owned()),
            choice_index,
            score: -1.0,
            correct: None,
        };
        Answer {
            example_id: "test".to_owned(),
            source_id: None,
            question_id: Some(question_id),
            group_id: None,
            idx: Some(idx.to_owned()),
            choices: names.iter().enumerate().map(choice).collect(),
            predicted,
            hit: false,
        }
    }

    fn lines(form: Form, answers: &[Answer]) -> String {
        let labels = vec!["False".to_owned(), "True".to_owned()];
        let mut text = Vec::new();
        Submission { form, file: None, labels }.write(AnswerFormat::Superglue, answers, &mut text).expect("lines");
        String::from_utf8(text).expect("text")
    }

    #[test]
    fn labels_are_names_or_numbers() {
        let answers = [
            answer("7", 0, &["false", "true"], Some(1)),
            answer("\"b\"", 1, &["0", "1"], Some(0)),
            answer("1", 2, &["True"], None),
        ];
        let expected = r#"{"idx":7,"label":"true"}
{"idx":"b","label":0}
{"idx":1,"label":"False"}
"#;
        assert_eq!(lines(Form::Label, &answers), expected);
    }

    #[test]
    fn answers_of_glue_are_a_table() {
        let answers = [answer("7", 0, &["0", "1"], Some(1)), answer("\"b\"", 1, &["entailment", "neutral"], Some(0))];
        let submission = Submission { form: Form::Label, file: Some("QQP.tsv"), labels: vec!["0".to_owned(), "1".to_owned()] };
        let mut text = Vec::new();
        submission.write(submission.format(), &answers, &mut text).expect("lines");
        assert_eq!(String::from_utf8(text).expect("text"), "index\tprediction\n7\t1\nb\tentailment\n");
    }

    #[test]
    fn answers_about_entities_are_texts() {
        let answers = [answer("{}", 3, &["1", "2"], Some(0)), answer("{}", 9, &["1", "2"], Some(1))];
        assert_eq!(lines(Form::Text, &answers), "{\"idx\":3,\"label\":\"text 0\"}\n{\"idx\":9,\"label\":\"text 1\"}\n");
    }

    #[test]
    fn answers_about_a_passage_are_one_line() {
        let of = |passage: u8, question: u8, own: u8, predicted| {
            let idx = format!(r#"{{"passage":{passage},"question":{question},"answer":{own}}}"#);
            answer(&idx, 0, &["0", "1"], Some(predicted))
        };
        let found = lines(Form::Answers, &[of(5, 2, 0, 1), of(5, 2, 1, 0), of(5, 3, 2, 1), of(4, 0, 3, 0)]);
        let expected = r#"{"idx":5,"passage":{"questions":[{"idx":2,"answers":[{"idx":0,"label":1},{"idx":1,"label":0}]},{"idx":3,"answers":[{"idx":2,"label":1}]}]}}
{"idx":4,"passage":{"questions":[{"idx":0,"answers":[{"idx":3,"label":0}]}]}}
"#;
        assert_eq!(found, expected);
    }

    #[test]
    fn an_index_counts_once() {
        let of = |form, answers: &[Answer]| Submission { form, file: None, labels: Vec::new() }.duplicate(answers);
        let answers = [answer("7", 0, &[], None), answer("8", 0, &[], None), answer("7", 1, &[], None)];
        assert_eq!(of(Form::Label, &answers), Some(Duplicate("7".to_owned())));
        assert_eq!(of(Form::Label, &answers[..2]), None);
        assert_eq!(of(Form::Text, &answers[1..]), None);
    }
}
