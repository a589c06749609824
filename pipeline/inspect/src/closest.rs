//! Suggestions for a mistyped id.

/// Collects the ids with the smallest edit distance to a given one.
pub(super) struct Closest<'a> {
    wanted: &'a str,
    typed: Vec<char>,
    /// Distance and id, closest first; ids with equal distance keep their order.
    found: Vec<(usize, String)>,
}

/// Maximum number of suggestions.
const MAX_SUGGESTIONS: usize = 3;

impl<'a> Closest<'a> {
    /// Starts without candidates.
    pub(super) fn new(wanted: &'a str) -> Self {
        Self { wanted, typed: wanted.chars().collect(), found: Vec::new() }
    }

    /// Considers one id.
    pub(super) fn add(&mut self, id: &str) {
        // An id that differs in more than a third of its characters is not a typing error.
        let limit = if self.found.len() < MAX_SUGGESTIONS {
            self.typed.len().div_ceil(3) + 1
        } else {
            self.found[MAX_SUGGESTIONS - 1].0
        };
        let Some(distance) = distance_below(&self.typed, self.wanted, id, limit) else { return };
        if self.found.iter().all(|(_, other)| other != id) {
            let at = self.found.partition_point(|&(other, _)| other <= distance);
            self.found.insert(at, (distance, id.to_owned()));
            self.found.truncate(MAX_SUGGESTIONS);
        }
    }

    /// Returns the collected ids, closest first.
    pub(super) fn ids(self) -> Vec<String> {
        self.found.into_iter().map(|(_, id)| id).collect()
    }
}

/// Returns the case-insensitive edit distance if it is below `limit`.
fn distance_below(typed: &[char], text: &str, id: &str, limit: usize) -> Option<usize> {
    if limit == 0 {
        return None;
    }
    if text.eq_ignore_ascii_case(id) {
        return Some(0);
    }
    if typed.len().abs_diff(id.chars().count()) >= limit {
        return None;
    }
    let mut row: Vec<usize> = (0..=typed.len()).collect();
    for (line, other) in id.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        let mut least = row[0];
        for (column, &one) in typed.iter().enumerate() {
            let replaced = diagonal + usize::from(!one.eq_ignore_ascii_case(&other));
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
            least = least.min(row[column + 1]);
        }
        if least >= limit {
            return None;
        }
    }
    row.last().copied().filter(|&distance| distance < limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn distance(a: &str, b: &str) -> Option<usize> {
        distance_below(&a.chars().collect::<Vec<_>>(), a, b, 5)
    }

    #[test]
    fn distances_below_the_limit() {
        for (a, b, expected) in [
            ("kitten", "sitting", Some(3)),
            ("", "abc", Some(3)),
            ("abc", "", Some(3)),
            ("Train-P1", "train-p1", Some(0)),
            ("é", "è", Some(1)),
            ("abcdef", "ghijkl", None),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn the_closest_come_first() {
        let mut closest = Closest::new("train-p11-q2");
        for id in ["dev-p1-q2", "train-p1-q1", "train-p1-q2", "train-p11-q3", "train-p1-q2", "train-p91-q2", "other"] {
            closest.add(id);
        }
        assert_eq!(closest.ids(), ["train-p1-q2", "train-p11-q3", "train-p91-q2"]);
    }
}
