//! Answers of the latest evaluation, `RUNDIR/answers.jsonl`: counts over all questions, and the questions with the smallest margins.
//!
//! ```text
//! {"kind":"evaluation","step":600,"samples":19200,"split":"val",...}   one line
//! {"kind":"answer","example_id":"val-p3-q7","margin":-4.1,...}         one line per question, worst first
//! ```
//!
//! The margin of a question is the score of its best right choice minus that of its best wrong one: a question with a margin above 0
//! was answered correctly. Questions whose choices are all right or all wrong are counted but not listed. Every rank keeps
//! its own worst questions; rank 0 merges and writes them.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};

use serde::{Deserialize, Serialize};
use tch::TchError;

use crate::distributed::World;
use crate::record::metrics::EvalRecord;
use crate::task::{Answer, ScoredChoice};

/// Name of the file in the run folder.
pub const ANSWERS_FILE: &str = "answers.jsonl";
/// Maximum number of questions to keep.
const MAX_KEPT: usize = 1000;
/// Margins are counted in bins of one half; the outermost bins hold everything beyond ten.
const BINS_PER_UNIT: f64 = 2.0;
const LAST_BIN: f64 = 20.0;

/// Line of the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Line {
    /// The first line.
    Evaluation(Summary),
    /// A question.
    Answer(Judged),
}

/// Identity of an evaluation, and its counts over all questions.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Optimizer steps completed before.
    pub step: u64,
    /// Questions trained on before.
    pub samples: u64,
    /// The split.
    pub split: String,
    /// Questions that were evaluated.
    pub questions: usize,
    /// Questions whose best choice is right.
    pub hits: usize,
    /// Counts by number of choices.
    #[serde(with = "pairs")]
    pub by_choices: BTreeMap<usize, Count>,
    /// Number of questions with a margin of at least `bin / 2` and below `(bin + 1) / 2`; the first and the last bin include
    /// everything beyond.
    #[serde(with = "pairs")]
    pub margins: BTreeMap<i32, usize>,
}

/// Number of questions, and of hits among them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// The questions.
    pub questions: usize,
    /// The hits.
    pub hits: usize,
}

/// Answer to a question. Scores that are not finite are `None`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// The question.
    pub example_id: String,
    /// Id in the raw data, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_id: Option<String>,
    /// Score of its best right choice minus that of its best wrong one.
    pub margin: Option<f64>,
    /// The score of every choice.
    pub scores: Vec<Option<f64>>,
    /// Index of every choice in the raw data.
    #[serde(default)]
    pub choice_index: Vec<usize>,
    /// Index of the chosen answer; `None` if the model would write another one.
    pub predicted: Option<usize>,
    /// Indices of the right choices.
    pub correct: Vec<usize>,
    /// True if the chosen answer is right.
    pub hit: bool,
}

impl Judged {
    fn new(answer: Answer) -> Self {
        let right = |choice: &ScoredChoice| choice.correct == Some(true);
        let best =
            |of: bool| answer.choices.iter().filter(|choice| right(choice) == of).map(|choice| choice.score).reduce(f64::max);
        let margin = best(true).zip(best(false)).map(|(right, wrong)| right - wrong).filter(|margin| margin.is_finite());
        let correct = answer.choices.iter().enumerate().filter(|(_, choice)| right(choice)).map(|(place, _)| place).collect();
        let finite = |choice: &ScoredChoice| choice.score.is_finite().then_some(choice.score);
        let scores = answer.choices.iter().map(finite).collect();
        let choice_index = answer.choices.iter().map(|choice| choice.choice_index).collect();
        let Answer { example_id, source_id, predicted, hit, .. } = answer;
        Self { example_id, source_id, margin, scores, choice_index, predicted, correct, hit }
    }

    /// Returns true if there are both right and wrong choices.
    fn is_contest(&self) -> bool {
        !self.correct.is_empty() && self.correct.len() < self.scores.len()
    }

    /// Orders by margin, smallest first; missing margins (scores that are not finite) come before all others. Ties are broken by
    /// id, so that the order does not depend on the number of ranks.
    fn worse(&self, other: &Self) -> Ordering {
        let margin = |judged: &Self| judged.margin.unwrap_or(f64::NEG_INFINITY);
        margin(self).total_cmp(&margin(other)).then_with(|| self.example_id.cmp(&other.example_id))
    }
}

/// Heap entry; the top of the heap is the question with the largest margin.
#[derive(Debug)]
struct ByMargin(Judged);

impl Ord for ByMargin {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.worse(&other.0)
    }
}

impl PartialOrd for ByMargin {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for ByMargin {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for ByMargin {}

/// Accumulates the answers of an evaluation.
#[derive(Debug, Default)]
pub struct Answers {
    counts: Summary,
    worst: BinaryHeap<ByMargin>,
}

/// Answers of one rank.
#[derive(Debug, Serialize, Deserialize)]
struct Share {
    counts: Summary,
    worst: Vec<Judged>,
}

impl Answers {
    /// Adds an answer.
    pub fn add(&mut self, answer: Answer) {
        let judged = Judged::new(answer);
        let of = self.counts.by_choices.entry(judged.scores.len()).or_default();
        of.questions += 1;
        of.hits += usize::from(judged.hit);
        if let Some(margin) = judged.margin {
            let bin = (margin * BINS_PER_UNIT).floor().clamp(-LAST_BIN, LAST_BIN - 1.0) as i32;
            *self.counts.margins.entry(bin).or_default() += 1;
        }
        // If all choices are right, or none is, there is nothing to distinguish.
        if judged.is_contest() {
            self.keep(judged);
        }
    }

    /// Returns true if there is no answer: some tasks have none.
    pub fn is_empty(&self) -> bool {
        self.counts.by_choices.is_empty()
    }

    fn keep(&mut self, judged: Judged) {
        self.worst.push(ByMargin(judged));
        if self.worst.len() > MAX_KEPT {
            self.worst.pop();
        }
    }

    /// Merges the answers of all ranks. Must be called on every rank.
    ///
    /// # Errors
    /// Returns a [`TchError`] if another rank has failed.
    pub fn gathered(self, world: Option<&World>) -> Result<Self, TchError> {
        let Some(world) = world else { return Ok(self) };
        let Self { counts, worst } = self;
        let own = Share { counts, worst: worst.into_iter().map(|of| of.0).collect() };
        let bytes = serde_json::to_vec(&own).unwrap_or_default();
        let mut all = Self::default();
        for share in world.gather_bytes(&bytes)? {
            match serde_json::from_slice(&share) {
                Ok(share) => all.merge(share),
                Err(error) => {
                    tracing::warn!("cannot read the answers of another rank ({error}); {ANSWERS_FILE} will lack them")
                }
            }
        }
        Ok(all)
    }

    fn merge(&mut self, share: Share) {
        for (choices, Count { questions, hits }) in share.counts.by_choices {
            let of = self.counts.by_choices.entry(choices).or_default();
            of.questions += questions;
            of.hits += hits;
        }
        for (bin, questions) in share.counts.margins {
            *self.counts.margins.entry(bin).or_default() += questions;
        }
        share.worst.into_iter().for_each(|judged| self.keep(judged));
    }

    /// Returns the content of the file, for the evaluation of `split` described by `record`.
    ///
    /// # Errors
    /// Returns errors of the serializer, which do not occur in practice.
    pub fn lines(self, record: &EvalRecord, split: &str) -> Result<Vec<u8>, serde_json::Error> {
        let of_all = |metric: &str| record.evaluation.metrics.get(metric).unwrap_or(0.0) as usize;
        let summary = Summary {
            step: record.step,
            samples: record.samples,
            split: split.to_owned(),
            questions: of_all("questions"),
            hits: of_all("hits"),
            ..self.counts
        };
        let worst = self.worst.into_sorted_vec().into_iter().map(|of| Line::Answer(of.0));
        let mut text = Vec::new();
        for line in std::iter::once(Line::Evaluation(summary)).chain(worst) {
            serde_json::to_writer(&mut text, &line)?;
            text.push(b'\n');
        }
        Ok(text)
    }
}

/// Serializes a map as a list of pairs, because serde reads map keys of a tagged enum as strings only.
mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<K: Serialize, V: Serialize, S: Serializer>(
        map: &BTreeMap<K, V>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map)
    }

    pub(super) fn deserialize<'de, K: Deserialize<'de> + Ord, V: Deserialize<'de>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<K, V>, D::Error> {
        Ok(Vec::<(K, V)>::deserialize(deserializer)?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::metrics::SplitRows;
    use crate::task::cloze::METRICS;
    use crate::task::metrics::{Evaluation, Metrics};

    fn answer(id: usize, scores: &[f64], correct: &[usize]) -> Answer {
        let predicted = (0..scores.len()).max_by(|&a, &b| scores[a].total_cmp(&scores[b])).expect("choices");
        let hit = correct.contains(&predicted);
        let predicted = Some(predicted);
        let choice = |(place, &score): (usize, &f64)| ScoredChoice {
            text: format!("choice {place}"),
            name: None,
            choice_index: place,
            score,
            correct: Some(correct.contains(&place)),
        };
        let choices = scores.iter().enumerate().map(choice).collect();
        Answer {
            example_id: format!("q{id:04}"),
            source_id: None,
            question_id: None,
            group_id: None,
            idx: None,
            choices,
            predicted,
            hit,
        }
    }

    fn read(answers: Answers) -> (Summary, Vec<Judged>) {
        let metrics = Metrics::new(&METRICS, &[0.3, 1.0, 3.0]);
        let evaluation = Evaluation { metrics, seconds: 0.1 };
        let text = answers
            .lines(
                &EvalRecord { step: 7, samples: 56, split_rows: SplitRows { count: 2, word: "questions" }, evaluation },
                "val",
            )
            .expect("json");
        let mut lines = std::str::from_utf8(&text).expect("text").lines().map(|line| serde_json::from_str(line).expect("line"));
        let Some(Line::Evaluation(summary)) = lines.next() else { panic!("no summary") };
        let judged = lines.map(|line| if let Line::Answer(judged) = line { judged } else { panic!("{line:?}") });
        (summary, judged.collect())
    }

    #[test]
    fn worst_questions_come_first_and_all_are_counted() {
        let mut answers = Answers::default();
        answers.add(answer(1, &[-1.0, -3.2, -9.0], &[0]));
        answers.add(answer(2, &[-1.0, -3.0], &[1]));
        answers.add(answer(3, &[f64::NAN, f64::NAN], &[1]));
        answers.add(answer(4, &[-1.0], &[0]));
        let (summary, judged) = read(answers);
        assert_eq!((summary.step, summary.questions, summary.split.as_str()), (7, 3, "val"));
        assert_eq!(summary.by_choices[&2], Count { questions: 2, hits: 1 });
        assert_eq!((summary.by_choices[&1], judged.len()), (Count { questions: 1, hits: 1 }, 3));
        assert_eq!(summary.margins, BTreeMap::from([(-4, 1), (4, 1)]));
        let order: Vec<_> = judged.iter().map(|judged| (judged.example_id.as_str(), judged.margin)).collect();
        assert_eq!(order[..2], [("q0003", None), ("q0002", Some(-2.0))]);
        assert_eq!(judged[0].scores, [None, None]);
    }

    #[test]
    fn kept_questions_do_not_depend_on_the_distribution_over_ranks() {
        let all: Vec<Answer> = (0..MAX_KEPT + 300).map(|i| answer(i, &[-(((i * 7919) % 1301) as f64), -500.0], &[0])).collect();
        let mut whole = Answers::default();
        let mut shares = [Answers::default(), Answers::default()];
        for (i, answer) in all.into_iter().enumerate() {
            whole.add(answer.clone());
            shares[i % 3 % 2].add(answer);
        }
        let mut merged = Answers::default();
        for Answers { counts, worst } in shares {
            merged.merge(Share { counts, worst: worst.into_iter().map(|of| of.0).collect() });
        }
        let whole = read(whole);
        assert_eq!(whole.1.len(), MAX_KEPT);
        assert_eq!(whole, read(merged));
    }
}
