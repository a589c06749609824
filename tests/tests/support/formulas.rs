//! Published formulas of the metrics of classification.

use std::collections::BTreeSet;

/// Accuracy, macro F1, F1 of label 1, and exact match of groups, by the published formulas.
pub(crate) fn formulas(pairs: &[(usize, usize)], groups: &[String]) -> [(&'static str, f64); 4] {
    let share = |count: usize, of: usize| count as f64 / of.max(1) as f64;
    let f1 = |label: usize| {
        let both = pairs.iter().filter(|pair| **pair == (label, label)).count();
        let either = pairs.iter().filter(|pair| pair.0 == label).count() + pairs.iter().filter(|pair| pair.1 == label).count();
        2.0 * share(both, either)
    };
    let labels: BTreeSet<usize> = pairs.iter().flat_map(|pair| [pair.0, pair.1]).collect();
    let wrong: BTreeSet<&String> =
        pairs.iter().zip(groups).filter(|(pair, _)| pair.0 != pair.1).map(|(_, group)| group).collect();
    let all: BTreeSet<&String> = groups.iter().collect();
    [
        ("accuracy", share(pairs.iter().filter(|pair| pair.0 == pair.1).count(), pairs.len())),
        ("f1_macro", labels.iter().map(|&label| f1(label)).sum::<f64>() / labels.len().max(1) as f64),
        ("f1a", f1(1)),
        ("em", share(all.len() - wrong.len(), all.len())),
    ]
}
