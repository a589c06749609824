//! Metrics of pairs: those of the generated texts, and the loss on the targets.

use std::collections::HashMap;

use arrow_array::RecordBatch;
use glm_schemas::seq2seq::PairView;
use glm_schemas::seq2seq::encoding::PairEncoder;

use super::super::generation::Prediction;
use super::super::metrics::{MetricInfo, Metrics, Role, Totals, Unit};
use super::super::{Answer, Evaluator, RowError, Scores};
use super::settings::Metric;
use super::unfit;
use crate::text_metrics::answer::{self, AnswerScore};
use crate::text_metrics::bleu::Bleu;
use crate::text_metrics::rouge::rouge;
use crate::text_metrics::summary::{Cleaning, published_rouge, sentence_lines};

const QUALITY: Role = Role::Quality { higher_is_better: true };

const fn share(name: &'static str, label: &'static str, meaning: &'static str) -> MetricInfo {
    MetricInfo { name, label, unit: Unit::Share, role: QUALITY, meaning }
}

const LOSS: MetricInfo = MetricInfo {
    name: "loss",
    label: "loss",
    unit: Unit::Number,
    role: Role::Quality { higher_is_better: false },
    meaning: "negative log probability per target token",
};

const PAIRS: MetricInfo = MetricInfo { name: "pairs", label: "pairs", unit: Unit::Count, role: Role::Total, meaning: "pairs" };

/// All metrics of pairs: of generated summaries, translations and answers, in this order, then those of the targets.
pub const METRICS: [MetricInfo; 11] = [
    share("rouge1", "ROUGE-1", "F1 of words, best reference"),
    share("rouge2", "ROUGE-2", "F1 of pairs of words"),
    share("rouge_lsum", "ROUGE-L", "F1 of longest common subsequences"),
    share("published_rouge1", "ROUGE-1 published", "without short and repeated sentences"),
    share("published_rouge2", "ROUGE-2 published", "the same for pairs of words"),
    share("published_rouge_l", "ROUGE-L published", "the same for subsequences"),
    share("bleu", "BLEU", "BLEU-4 of all texts"),
    share("f1", "F1", "words shared with an answer"),
    share("exact_match", "exact match", "text equal to an answer"),
    LOSS,
    PAIRS,
];

static ROUGE: [MetricInfo; 8] = [METRICS[0], METRICS[1], METRICS[2], METRICS[3], METRICS[4], METRICS[5], LOSS, PAIRS];
static BLEU: [MetricInfo; 3] = [METRICS[6], LOSS, PAIRS];
static EM_F1: [MetricInfo; 4] = [METRICS[7], METRICS[8], LOSS, PAIRS];
/// Metrics of the targets alone.
static TARGETS: [MetricInfo; 2] = [LOSS, PAIRS];

/// Descriptions of the metrics of an evaluation; the first selects the best checkpoint.
pub(super) fn metrics_of(metric: Metric) -> &'static [MetricInfo] {
    match metric {
        Metric::Rouge => &ROUGE,
        Metric::Bleu => &BLEU,
        Metric::EmF1 => &EM_F1,
    }
}

/// Computes the metrics of predictions, given the metrics of their targets.
pub(super) fn metrics(metric: Metric, predictions: &[Prediction], targets: &Metrics) -> Metrics {
    let compared: Vec<&Prediction> = predictions.iter().filter(|prediction| !prediction.references.is_empty()).collect();
    let mut values = match metric {
        Metric::Rouge => summaries(&compared).to_vec(),
        Metric::Bleu => vec![translations(&compared)],
        Metric::EmF1 => answers(&compared).to_vec(),
    };
    let infos = metrics_of(metric);
    let first = format!("{} {}", infos[0].label, infos[0].format(values[0]));
    values.extend([targets.get(LOSS.name).unwrap_or(0.0), targets.get(PAIRS.name).unwrap_or(0.0)]);
    let texts = format!("{} generated texts", compared.len());
    let summary = format!("{first} ({texts}), loss {:.4}", values[values.len() - 2]);
    Metrics::new(infos, &values).described(texts, summary)
}

/// Means of ROUGE-1, ROUGE-2 and ROUGE-L, plain and as published. Each pair has the scores of its best reference by ROUGE-1.
fn summaries(predictions: &[&Prediction]) -> [f64; 6] {
    let mut sums = [0.0; 6];
    for Prediction { prediction, references, .. } in predictions {
        let plain = references.iter().map(|reference| {
            let scores = rouge(&sentence_lines(reference), &sentence_lines(prediction));
            [scores.rouge1.f, scores.rouge2.f, scores.rouge_lsum.f]
        });
        let published = references.iter().map(|reference| {
            let scores = published_rouge(reference, prediction, Cleaning::CnnDm);
            [scores.rouge1.f, scores.rouge2.f, scores.rouge_lsum.f]
        });
        let best = |scores: &mut dyn Iterator<Item = [f64; 3]>| {
            scores.reduce(|best, other| if other[0] > best[0] { other } else { best }).unwrap_or_default()
        };
        let (plain, published) = (best(&mut { plain }), best(&mut { published }));
        for (sum, score) in sums.iter_mut().zip(plain.into_iter().chain(published)) {
            *sum += score;
        }
    }
    sums.map(|sum| sum / predictions.len().max(1) as f64)
}

fn translations(predictions: &[&Prediction]) -> f64 {
    let mut bleu = Bleu::default();
    for Prediction { prediction, references, .. } in predictions {
        // Predictions of an uncased vocabulary are in lower case.
        bleu.add(prediction, references.iter().map(String::as_str), true);
    }
    bleu.score()
}

/// F1 and exact match over questions; the prediction of a question asked of several windows is that of the first with an answer.
fn answers(predictions: &[&Prediction]) -> [f64; 2] {
    let mut places = HashMap::<&str, usize>::new();
    let mut questions: Vec<(Vec<&Prediction>, &[String])> = Vec::new();
    for prediction in predictions {
        let id = prediction.group_id.as_deref().unwrap_or(&prediction.example_id);
        let place = *places.entry(id).or_insert_with(|| {
            questions.push((Vec::new(), &prediction.references));
            questions.len() - 1
        });
        questions[place].0.push(prediction);
    }
    let (mut exact, mut f1) = (0.0, 0.0);
    for (windows, references) in &questions {
        let texts: Vec<String> = windows.iter().map(|window| cleaned(window)).collect();
        let prediction = answer::of_windows(texts.iter().map(String::as_str));
        let prediction = if windows.len() == 1 { &texts[0] } else { prediction };
        let score: AnswerScore = answer::score(prediction, references.iter().map(String::as_str));
        exact += score.exact;
        f1 += score.f1;
    }
    let count = questions.len().max(1) as f64;
    [f1 / count, exact / count]
}

/// A prediction that the source lacks may differ from it in the spaces that the tokenizer adds.
fn cleaned(window: &Prediction) -> String {
    let prediction = &window.prediction;
    if window.source.to_lowercase().contains(prediction) { prediction.clone() } else { answer::joined(prediction) }
}

/// Sums over the targets of an evaluation.
#[derive(Debug, Clone)]
pub(super) struct PairEvaluator {
    encoder: PairEncoder,
    log_prob: f64,
    tokens: usize,
    pairs: usize,
}

impl PairEvaluator {
    pub(super) fn new(encoder: PairEncoder) -> Self {
        Self { encoder, log_prob: 0.0, tokens: 0, pairs: 0 }
    }
}

impl Evaluator for PairEvaluator {
    fn add(&mut self, rows: &RecordBatch, row: usize, _key: u64, scores: Scores<'_>) -> Result<Option<Answer>, RowError> {
        let view = PairView::try_new(rows)?;
        let size = self.encoder.size(&view.pair(row)?).map_err(unfit(&view, row))?;
        self.log_prob += scores.log_probs.iter().sum::<f64>();
        self.tokens += size.targets;
        self.pairs += 1;
        Ok(None)
    }

    fn totals(&self) -> Totals {
        vec![self.log_prob, self.tokens as f64, self.pairs as f64].into()
    }

    fn metrics(&self, totals: &Totals) -> Metrics {
        let total = |i: usize| totals.sum(i);
        let (loss, pairs) = (-total(0) / total(1).max(1.0), total(2));
        let summary = format!("loss {loss:.4} ({pairs} pairs)");
        Metrics::new(&TARGETS, &[loss, pairs]).described(format!("{pairs} pairs"), summary)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prediction(id: &str, group: Option<&str>, prediction: &str, references: &[&str]) -> Prediction {
        Prediction {
            example_id: id.to_owned(),
            source_id: None,
            group_id: group.map(str::to_owned),
            source: String::new(),
            prediction: prediction.to_owned(),
            score: -1.0,
            references: references.iter().map(|&text| text.to_owned()).collect(),
        }
    }

    fn targets() -> Metrics {
        Metrics::new(&TARGETS, &[1.5, 3.0])
    }

    #[test]
    fn a_short_summary_counts_except_as_published() {
        let predictions = [prediction("a", None, "a rope stops", &["x", "A rope stops"]), prediction("b", None, "", &["y"])];
        let metrics = metrics(Metric::Rouge, &predictions, &targets());
        assert_eq!(
            (metrics.get("rouge1"), metrics.get("rouge_lsum"), metrics.get("published_rouge1")),
            (Some(0.5), Some(0.5), Some(0.0))
        );
        assert_eq!((metrics.get("loss"), metrics.get("pairs")), (Some(1.5), Some(3.0)));
        assert_eq!(metrics.summary, "ROUGE-1 50.00 % (2 generated texts), loss 1.5000");
    }

    #[test]
    fn windows_of_a_question_are_one_answer() {
        let predictions = [
            prediction("a-0", Some("q"), "n / a", &["Lake Tarn"]),
            prediction("b", None, "bo", &["Bo", "Al"]),
            prediction("a-1", Some("q"), "lake tarn", &["Lake Tarn"]),
            prediction("c", None, "n/a", &["N/A"]),
            prediction("d", None, "x", &[]),
        ];
        let metrics = metrics(Metric::EmF1, &predictions, &targets());
        assert_eq!((metrics.get("exact_match"), metrics.get("f1")), (Some(1.0), Some(1.0)));
    }

    #[test]
    fn bleu_ignores_case() {
        let predictions = [prediction("a", None, "one two three four", &["One two three four"])];
        assert_eq!(metrics(Metric::Bleu, &predictions, &targets()).get("bleu"), Some(1.0));
    }

    #[test]
    fn every_family_of_metrics_is_listed() {
        for metric in [Metric::Rouge, Metric::Bleu, Metric::EmF1] {
            assert!(metrics_of(metric).iter().all(|info| METRICS.contains(info)));
        }
    }
}
