//! Evaluation of cloze questions: their answers, and sums over them.

use arrow_array::RecordBatch;
use glm_schemas::cloze::encoding::{ChoiceEncoder, Question};
use glm_schemas::cloze::{ChoiceView, ClozeView};
use glm_schemas::vocab::TokenId;

use super::super::metrics::{Metrics, Totals};
use super::super::{Answer, Evaluator, RowError, ScoredChoice, Scores};
use super::metrics::{Counts, infos};
use super::settings::ClozeSettings;
use super::text_match::best_match;

/// Index of the first of the best scores; `None` without scores.
fn best(scores: &[f64]) -> Option<usize> {
    let mut best = 0;
    for (choice, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = choice;
        }
    }
    (!scores.is_empty()).then_some(best)
}

/// Returns the answer to question `row` from the scores of its choices.
fn answer(settings: &ClozeSettings, encoder: &ChoiceEncoder, view: &ClozeView<'_>, row: usize, scores: Scores<'_>) -> Answer {
    let label_name = view.label_name(row);
    let labelled = view.label(row).is_some() || label_name.is_some();
    let scored = |(place, (choice, &log_prob)): (usize, (ChoiceView<'_>, &f64))| {
        let targets = encoder.targets(choice.ids.len());
        ScoredChoice {
            text: choice.text.unwrap_or_default().to_owned(),
            name: choice.name.map(str::to_owned),
            choice_index: choice.index.unwrap_or(place),
            score: score(settings, log_prob, targets),
            correct: labelled.then(|| choice.correct || (label_name.is_some() && choice.name == label_name)),
        }
    };
    let choices: Vec<ScoredChoice> = view.choices(row).zip(scores.log_probs).enumerate().map(scored).collect();
    let predicted = match settings.loss.is_of_tokens() {
        true => scores.greedy.iter().position(|&greedy| greedy),
        false => best(&choices.iter().map(|choice| choice.score).collect::<Vec<_>>()),
    };
    let is_right = |choice: &ScoredChoice| choice.correct == Some(true);
    // No answer is right where no choice is.
    let hit = predicted.map_or_else(|| !choices.iter().any(is_right), |place| is_right(&choices[place]));
    Answer {
        example_id: view.example_id(row).to_owned(),
        source_id: view.source_id(row).map(str::to_owned),
        question_id: view.question_id(row),
        group_id: view.group_id(row).map(str::to_owned),
        idx: view.idx(row).map(str::to_owned),
        choices,
        predicted,
        hit,
    }
}

/// Score of a choice with this log probability and number of targets.
fn score(settings: &ClozeSettings, log_prob: f64, targets: usize) -> f64 {
    match settings.penalty() {
        0.0 => log_prob,
        penalty => log_prob / (targets as f64).powf(penalty),
    }
}

/// Sums over the questions of an evaluation whose answer is known.
#[derive(Debug, Clone)]
pub(super) struct ClozeEvaluator {
    settings: ClozeSettings,
    encoder: ChoiceEncoder,
    hits: usize,
    questions: usize,
    f1: f64,
    exact_matches: usize,
    /// Expected hits of guessing among the choices.
    chance: f64,
    /// Expected hits of guessing the choice whose tokens occur most often in the passage, at random among equals.
    most_frequent: f64,
    counts: Counts,
}

impl ClozeEvaluator {
    pub(super) fn new(settings: ClozeSettings, encoder: ChoiceEncoder) -> Self {
        Self {
            settings,
            encoder,
            hits: 0,
            questions: 0,
            f1: 0.0,
            exact_matches: 0,
            chance: 0.0,
            most_frequent: 0.0,
            counts: Counts::default(),
        }
    }

    fn add_answer(&mut self, view: &ClozeView<'_>, row: usize, answer: &Answer) {
        if !answer.is_labelled() {
            return;
        }
        self.questions += 1;
        self.hits += usize::from(answer.hit);
        let correct = || answer.choices.iter().filter(|choice| choice.correct == Some(true));
        let found = best_match(
            answer.predicted_choice().map_or("", |choice| choice.text.as_str()),
            correct().map(|choice| choice.text.as_str()),
        );
        self.f1 += found.f1;
        self.exact_matches += usize::from(found.exact);
        if let (Some(label), Some(predicted)) = (correct().next(), answer.predicted) {
            self.counts.add_label(label.choice_index, answer.choices[predicted].choice_index);
        }
        self.counts.add_to_group(answer.group_id.as_ref().unwrap_or(&answer.example_id), answer.hit);
        let question = view.question(row);
        let is_correct = answer.choices.iter().map(|choice| choice.correct == Some(true));
        let mentions = view.choices(row).map(|choice| mentions(&question, choice.ids));
        let choices: Vec<(bool, u32)> = is_correct.zip(mentions).collect();
        let most = choices.iter().map(|(_, mentions)| *mentions).max().unwrap_or(0);
        self.chance += correct_share(&choices, |_| true);
        self.most_frequent += correct_share(&choices, |mentions| mentions == most);
    }
}

impl Evaluator for ClozeEvaluator {
    fn add(&mut self, rows: &RecordBatch, row: usize, _: u64, scores: Scores<'_>) -> Result<Option<Answer>, RowError> {
        let view = ClozeView::try_new(rows)?;
        let answer = answer(&self.settings, &self.encoder, &view, row, scores);
        self.add_answer(&view, row, &answer);
        Ok(Some(answer))
    }

    fn totals(&self) -> Totals {
        let Self { hits, questions, f1, exact_matches, chance, most_frequent, .. } = *self;
        let sums = vec![hits as f64, questions as f64, f1, exact_matches as f64, chance, most_frequent];
        Totals { sums, counts: self.counts.named() }
    }

    fn metrics(&self, totals: &Totals) -> Metrics {
        let infos = infos(self.settings.metrics);
        let counts = Counts::of_named(&totals.counts);
        let (hits, questions) = (totals.sum(0) as u64, totals.sum(1) as u64);
        let share = |i: usize| totals.sum(i) / totals.sum(1).max(1.0);
        let value = |name: &str| match name {
            "accuracy" => share(0),
            "hits" => totals.sum(0),
            "questions" => totals.sum(1),
            "f1" => share(2),
            "exact_match" => share(3),
            "chance" => share(4),
            "most_frequent" => share(5),
            "f1_macro" => counts.macro_f1(),
            "f1a" => counts.f1_of(SECOND),
            "em" => counts.exact_groups(),
            "matthews" => counts.matthews(),
            _ => counts.majority() as f64 / totals.sum(1).max(1.0),
        };
        let values: Vec<f64> = infos.iter().map(|info| value(info.name)).collect();
        let (first, chance) = (infos[0], 100.0 * share(4));
        let examples = format!("{hits} of {questions} questions");
        let of = if first.name == "accuracy" { format!("{hits} of {questions}") } else { format!("{questions} questions") };
        let summary = format!("{} {} ({of}), chance {chance:.1} %", first.label, first.format(values[0]));
        Metrics::new(infos, &values).described(examples, summary)
    }
}

/// Index of the label of F1a.
const SECOND: usize = 1;

/// Share of correct choices among those whose number of mentions is `considered`.
fn correct_share(choices: &[(bool, u32)], considered: impl Fn(u32) -> bool) -> f64 {
    let among: Vec<bool> = choices.iter().filter(|(_, mentions)| considered(*mentions)).map(|(correct, _)| *correct).collect();
    among.iter().filter(|correct| **correct).count() as f64 / among.len().max(1) as f64
}

/// Number of times that `choice` occurs in the truncatable segments: in the passage, of the form of ReCoRD.
fn mentions(question: &Question<'_>, choice: &[TokenId]) -> u32 {
    let passages = question.segments.iter().filter(|segment| segment.truncatable);
    passages.map(|segment| occurrences(segment.ids, choice)).sum()
}

/// Number of times that `choice` occurs in `passage`.
fn occurrences(passage: &[TokenId], choice: &[TokenId]) -> u32 {
    if choice.is_empty() {
        return 0;
    }
    passage.windows(choice.len()).filter(|window| *window == choice).count() as u32
}

#[cfg(test)]
mod tests {
    use glm_schemas::cloze::encoding::BlankPosition;
    use glm_schemas::vocab::SpecialIds;

    use super::*;
    use crate::task::cloze::questions::{SyntheticQuestion, rows};
    use crate::task::cloze::settings::Loss;
    use crate::task::metrics::Evaluation;

    /// A question whose choices are correct or not, and are mentioned in the passage so often.
    fn question(choices: &[(bool, usize)]) -> RecordBatch {
        let token = |choice: usize| 100 + choice as TokenId;
        let mut question = SyntheticQuestion::of_length(0, 0);
        for (choice, (correct, mentions)) in choices.iter().enumerate() {
            question.choices.push(vec![token(choice)]);
            question.texts.push(format!("choice {}", choice / 2));
            question.correct.push(*correct);
            question.passage.extend(std::iter::repeat_n(token(choice), *mentions));
        }
        rows(&[question], 0)
    }

    fn evaluator() -> ClozeEvaluator {
        ClozeEvaluator::new(ClozeSettings::default(), encoder(true))
    }

    fn encoder(end_of_piece: bool) -> ChoiceEncoder {
        ChoiceEncoder::new(SpecialIds::BERT_UNCASED, 512).with_form(end_of_piece, BlankPosition::Blank)
    }

    fn scores(log_probs: &[f64]) -> Scores<'_> {
        Scores { log_probs, greedy: &[] }
    }

    fn evaluate(rows: &RecordBatch, log_probs: &[&[f64]]) -> (Metrics, Totals) {
        let mut evaluator = evaluator();
        for log_probs in log_probs {
            evaluator.add(rows, 0, 0, scores(log_probs)).expect("columns");
        }
        (evaluator.metrics(&evaluator.totals()), evaluator.totals())
    }

    #[test]
    fn the_first_of_the_best_choices_is_the_answer() {
        let rows = question(&[(false, 0), (true, 0), (true, 0)]);
        let view = ClozeView::try_new(&rows).expect("view");
        let found = answer(&ClozeSettings::default(), &encoder(true), &view, 0, scores(&[-3.0, -1.0, -1.0]));
        assert_eq!((found.example_id.as_str(), found.predicted, found.hit), ("q0", Some(1), true));
        let choices: Vec<_> = found.choices.iter().map(|choice| (choice.text.as_str(), choice.score, choice.correct)).collect();
        let expected = [("choice 0", -3.0, Some(false)), ("choice 0", -1.0, Some(true)), ("choice 1", -1.0, Some(true))];
        assert_eq!(choices, expected);
    }

    #[test]
    fn guesses_count_by_their_odds() {
        let rows = question(&[(true, 2), (false, 2), (false, 1), (false, 0)]);
        let (metrics, totals) = evaluate(&rows, &[&[1.0, 2.0, 3.0, 4.0]]);
        let get = |name| metrics.get(name).expect("metric");
        assert_eq!((get("hits"), get("chance"), get("most_frequent")), (0.0, 0.25, 0.5));
        let mut both = totals.clone();
        both.add(&totals.sums, totals.counts);
        let both = evaluator().metrics(&both);
        assert_eq!((both.get("questions"), both.get("chance"), both.get("most_frequent")), (Some(2.0), Some(0.25), Some(0.5)));
        // The answer is choice 3, whose text is that of choice 2: not that of the correct choice 0.
        assert_eq!((both.get("f1"), both.get("exact_match")), (Some(0.5), Some(0.0)));
    }

    #[test]
    fn wrong_choice_with_the_text_of_a_correct_one_matches_but_is_not_a_hit() {
        let rows = question(&[(true, 0), (false, 0), (false, 0)]);
        let (metrics, _) = evaluate(&rows, &[&[1.0, 2.0, 1.0], &[1.0, 1.0, 2.0]]);
        let get = |name| metrics.get(name).expect("metric");
        assert_eq!((get("hits"), get("exact_match"), get("f1")), (0.0, 0.5, 0.75));
    }

    #[test]
    fn table_and_summary_fit_a_terminal() {
        let metrics = evaluator().metrics(&vec![1234.0, 10_000.0, 5000.0, 2500.0, 1234.0, 2000.0].into());
        assert_eq!(metrics.summary, "accuracy 12.34 % (1234 of 10000), chance 12.3 %");
        let text = Evaluation { metrics, seconds: 12.34 }.to_string();
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(text.starts_with("accuracy               12.34 %   1234 of 10000 questions, 12.3 s\nF1"), "{text}");
        assert_eq!(text.lines().count(), 5);
    }

    #[test]
    fn the_length_penalty_prefers_long_choices() {
        let mut question = SyntheticQuestion::of_length(5, 2);
        question.choices[1] = vec![8, 9, 10];
        let rows = rows(&[question], 0);
        let view = ClozeView::try_new(&rows).expect("view");
        let of = |length_penalty, end_of_piece| {
            let settings = ClozeSettings { length_penalty, ..ClozeSettings::default() };
            let answer = answer(&settings, &encoder(end_of_piece), &view, 0, scores(&[-4.0, -6.0]));
            (answer.predicted, answer.choices.iter().map(|choice| choice.score).collect::<Vec<_>>())
        };
        assert_eq!(of(0.0, true), (Some(0), vec![-4.0, -6.0]));
        assert_eq!(of(1.0, true), (Some(1), vec![-2.0, -1.5]));
        assert_eq!(of(1.0, false), (Some(1), vec![-4.0, -2.0]));
    }

    #[test]
    fn an_answer_that_the_model_would_not_write_is_not_predicted() {
        let settings = ClozeSettings { loss: Loss::TokenCrossEntropy, ..ClozeSettings::default() };
        for (correct, greedy, hit) in [(true, true, true), (true, false, false), (false, true, false), (false, false, true)] {
            // The label of the one choice, or that of none.
            let label_name = Some(if correct { "True" } else { "False" });
            let rows =
                rows(&[SyntheticQuestion { correct: vec![correct], label_name, ..SyntheticQuestion::of_length(0, 1) }], 0);
            let mut evaluator = ClozeEvaluator::new(settings, encoder(true));
            let scores = Scores { log_probs: &[-1.0], greedy: &[greedy] };
            let answer = evaluator.add(&rows, 0, 0, scores).expect("columns").expect("answer");
            assert_eq!((answer.predicted, answer.hit), (greedy.then_some(0), hit), "{correct} {greedy}");
            assert_eq!(evaluator.metrics(&evaluator.totals()).get("hits"), Some(f64::from(u8::from(hit))));
        }
    }

    #[test]
    fn mentions_are_counted_by_tokens() {
        assert_eq!(occurrences(&[1, 2, 1, 2, 3], &[1, 2]), 2);
        assert_eq!(occurrences(&[1, 2], &[]), 0);
        assert_eq!(occurrences(&[1], &[1, 2]), 0);
    }
}
