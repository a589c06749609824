//! Metrics of cloze questions, and the formulas of those that are not a mean over questions.

use std::collections::BTreeMap;

use super::super::metrics::{MetricInfo, Role, Unit};
use super::settings::{ClozeMetric, MetricList};

const QUALITY: Role = Role::Quality { higher_is_better: true };

const fn share(name: &'static str, label: &'static str, role: Role, meaning: &'static str) -> MetricInfo {
    MetricInfo { name, label, unit: Unit::Share, role, meaning }
}

const fn total(name: &'static str, meaning: &'static str) -> MetricInfo {
    MetricInfo { name, label: name, unit: Unit::Count, role: Role::Total, meaning }
}

/// All metrics of cloze questions, those of ReCoRD first.
pub static METRICS: [MetricInfo; 12] = [
    share("accuracy", "accuracy", QUALITY, "the best choice is correct"),
    total("hits", "questions whose best choice is correct"),
    total("questions", "questions"),
    share("f1", "F1", QUALITY, "words shared with a correct answer (SuperGLUE)"),
    share("exact_match", "exact match", QUALITY, "text equal to a correct answer (SuperGLUE)"),
    share("chance", "chance", Role::Baseline, "random choice"),
    share("most_frequent", "most frequent entity", Role::Baseline, "the choice mentioned most often in the passage"),
    share("f1_macro", "macro F1", QUALITY, "mean F1 of the labels"),
    share("f1a", "F1a", QUALITY, "F1 of the second label, over all answers"),
    share("em", "EM", QUALITY, "groups without a wrong answer"),
    share("matthews", "Matthews correlation", QUALITY, "correlation of predicted and right labels, from -100 to 100 %"),
    share("majority", "most frequent label", Role::Baseline, "the label of most questions"),
];

/// Descriptions of the metrics of a list, with the totals and the baselines that go with them.
pub(super) fn infos(list: MetricList) -> Vec<&'static MetricInfo> {
    let [.., chance, entity, _, _, _, _, label] = &METRICS;
    let of_name = |name: &str| METRICS.iter().find(|info| info.name == name);
    let mut infos: Vec<_> = list.metrics().filter_map(|metric| of_name(metric.name())).collect();
    infos.splice(1..1, ["hits", "questions"].into_iter().filter_map(of_name));
    let of_words = |metric| matches!(metric, ClozeMetric::F1 | ClozeMetric::ExactMatch);
    infos.extend([chance, if list.metrics().any(of_words) { entity } else { label }]);
    infos
}

/// Number of questions by label.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct LabelCounts {
    /// Questions with this label.
    pub(super) labelled: u64,
    /// Questions for which it is predicted.
    pub(super) predicted: u64,
    /// Questions for which it is predicted and right.
    pub(super) both: u64,
}

impl LabelCounts {
    /// Harmonic mean of precision and recall; 0 where there is nothing to divide.
    pub(super) fn f1(&self) -> f64 {
        let sum = self.labelled + self.predicted;
        if sum == 0 { 0.0 } else { 2.0 * self.both as f64 / sum as f64 }
    }

    fn add(counts: &mut BTreeMap<usize, Self>, label: usize, predicted: usize) {
        counts.entry(label).or_default().labelled += 1;
        let of_predicted = counts.entry(predicted).or_default();
        of_predicted.predicted += 1;
        of_predicted.both += u64::from(label == predicted);
    }
}

/// Number of questions in a group, and of those answered correctly.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct GroupCounts {
    /// Questions.
    pub(super) questions: u64,
    /// Those answered correctly.
    pub(super) hits: u64,
}

/// Counts by label and by group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// By index of the label.
    pub(super) labels: BTreeMap<usize, LabelCounts>,
    /// By id of the group.
    pub(super) groups: BTreeMap<String, GroupCounts>,
}

/// Prefixes of the names in [`Totals::counts`](super::super::metrics::Totals::counts).
const LABEL: &str = "label ";
const GROUP: &str = "group ";

impl Counts {
    /// Counts a labelled question.
    pub(super) fn add_label(&mut self, label: usize, predicted: usize) {
        LabelCounts::add(&mut self.labels, label, predicted);
    }

    /// Counts a question of a group.
    pub(super) fn add_to_group(&mut self, group: &str, hit: bool) {
        if !self.groups.contains_key(group) {
            self.groups.insert(group.to_owned(), GroupCounts::default());
        }
        if let Some(counts) = self.groups.get_mut(group) {
            counts.questions += 1;
            counts.hits += u64::from(hit);
        }
    }

    /// The counts by name, to be added over ranks.
    pub(super) fn named(&self) -> BTreeMap<String, Vec<u64>> {
        let label = |(label, counts): (&usize, &LabelCounts)| {
            (format!("{LABEL}{label}"), vec![counts.labelled, counts.predicted, counts.both])
        };
        let group = |(group, counts): (&String, &GroupCounts)| (format!("{GROUP}{group}"), vec![counts.questions, counts.hits]);
        self.labels.iter().map(label).chain(self.groups.iter().map(group)).collect()
    }

    /// The counts with these names.
    pub(super) fn of_named(named: &BTreeMap<String, Vec<u64>>) -> Self {
        let mut found = Self::default();
        for (name, counts) in named {
            let count = |i: usize| counts.get(i).copied().unwrap_or(0);
            if let Some(Ok(label)) = name.strip_prefix(LABEL).map(str::parse) {
                let counts = LabelCounts { labelled: count(0), predicted: count(1), both: count(2) };
                found.labels.insert(label, counts);
            } else if let Some(group) = name.strip_prefix(GROUP) {
                found.groups.insert(group.to_owned(), GroupCounts { questions: count(0), hits: count(1) });
            }
        }
        found
    }

    /// Mean F1 of the labels that questions have or for which they are predicted.
    pub(super) fn macro_f1(&self) -> f64 {
        self.labels.values().map(LabelCounts::f1).sum::<f64>() / self.labels.len().max(1) as f64
    }

    /// F1 of a label.
    pub(super) fn f1_of(&self, label: usize) -> f64 {
        self.labels.get(&label).map_or(0.0, LabelCounts::f1)
    }

    /// Correlation of predicted and right labels; 0 where there is nothing to divide. For two labels this is Matthews' coefficient, for more
    /// its generalisation by Gorodkin (2004).
    pub(super) fn matthews(&self) -> f64 {
        let sum = |of: fn(&LabelCounts) -> f64| self.labels.values().map(of).sum::<f64>();
        let (all, both) = (sum(|label| label.labelled as f64), sum(|label| label.both as f64));
        let expected = sum(|label| label.labelled as f64 * label.predicted as f64);
        let labelled = all * all - sum(|label| (label.labelled as f64).powi(2));
        let predicted = all * all - sum(|label| (label.predicted as f64).powi(2));
        let product = labelled * predicted;
        if product > 0.0 { (both * all - expected) / product.sqrt() } else { 0.0 }
    }

    /// Share of groups whose questions are all answered correctly.
    pub(super) fn exact_groups(&self) -> f64 {
        let exact = self.groups.values().filter(|group| group.hits == group.questions).count();
        exact as f64 / self.groups.len().max(1) as f64
    }

    /// Number of questions with the most frequent label.
    pub(super) fn majority(&self) -> u64 {
        self.labels.values().map(|counts| counts.labelled).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    /// A value of a published metric.
    #[derive(Debug, Deserialize)]
    struct Published {
        name: String,
        metric: String,
        predictions: Vec<usize>,
        labels: Vec<usize>,
        #[serde(default)]
        question_idx: Vec<u64>,
        value: f64,
    }

    #[test]
    fn values_are_the_published_ones_however_questions_are_distributed() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/golden/superglue/metrics.json");
        let published: Vec<Published> = serde_json::from_str(&std::fs::read_to_string(path).expect("read")).expect("json");
        assert_eq!(published.len(), 27);
        for Published { name, metric, predictions, labels, question_idx, value } in published {
            let mut ranks = [Counts::default(), Counts::default(), Counts::default()];
            for (i, (&predicted, &label)) in predictions.iter().zip(&labels).enumerate() {
                let rank = &mut ranks[i * 7 % 5 % 3];
                rank.add_label(label, predicted);
                if let Some(group) = question_idx.get(i) {
                    rank.add_to_group(&group.to_string(), predicted == label);
                }
            }
            let mut totals = super::super::super::metrics::Totals::default();
            ranks.iter().for_each(|rank| totals.add(&[], rank.named()));
            let counts = Counts::of_named(&totals.counts);
            let found = match metric.as_str() {
                "accuracy" => {
                    100.0 * counts.labels.values().map(|label| label.both).sum::<u64>() as f64 / labels.len().max(1) as f64
                }
                "f1" => counts.f1_of(1),
                "f1_macro" => counts.macro_f1(),
                "multirc_em" => counts.exact_groups(),
                other => panic!("unknown metric {other}"),
            };
            assert!((found - value).abs() < 1e-12, "{metric} of {name}: {found} instead of {value}");
        }
    }

    #[test]
    fn the_correlation_of_two_labels_is_that_of_matthews() {
        let of = |true_positive: usize, false_positive: usize, false_negative: usize, true_negative: usize| {
            let mut counts = Counts::default();
            let cells = [(1, 1, true_positive), (0, 1, false_positive), (1, 0, false_negative), (0, 0, true_negative)];
            cells.iter().for_each(|&(label, predicted, count)| (0..count).for_each(|_| counts.add_label(label, predicted)));
            counts.matthews()
        };
        let (tp, fp, fn_, tn) = (6.0_f64, 2.0, 1.0, 3.0);
        let expected = (tp * tn - fp * fn_) / ((tp + fp) * (tp + fn_) * (tn + fp) * (tn + fn_)).sqrt();
        assert!((of(6, 2, 1, 3) - expected).abs() < 1e-12);
        assert_eq!([of(4, 0, 0, 5), of(0, 4, 5, 0), of(4, 5, 0, 0), of(0, 0, 0, 0)], [1.0, -1.0, 0.0, 0.0]);
    }

    #[test]
    fn a_list_comes_with_totals_and_baselines() {
        let names = |list| infos(list).into_iter().map(|info| info.name).collect::<Vec<_>>();
        let record: Vec<_> = METRICS[..7].iter().map(|info| info.name).collect();
        assert_eq!(names(MetricList::AUTO), record);
        let multirc = MetricList::of_names(["f1a", "em", "accuracy"]).expect("names");
        assert_eq!(names(multirc), ["f1a", "hits", "questions", "em", "accuracy", "chance", "majority"]);
    }
}
