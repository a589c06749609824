//! Which of many ids were perhaps meant.

/// Collects the ids that differ least from the one that was typed.
pub(super) struct Closest<'a> {
    wanted: &'a str,
    typed: Vec<char>,
    /// Distance and id, the closest first; of ids as close, the one that came first.
    found: Vec<(usize, String)>,
}

/// How many ids are suggested at most.
const SUGGESTIONS: usize = 3;

impl<'a> Closest<'a> {
    /// Nothing seen yet.
    pub(super) fn new(wanted: &'a str) -> Self {
        Self { wanted, typed: wanted.chars().collect(), found: Vec::new() }
    }

    /// Looks at one id.
    pub(super) fn look_at(&mut self, id: &str) {
        // More differences than a third of what was typed is another id.
        let worst =
            if self.found.len() < SUGGESTIONS { self.typed.len().div_ceil(3) + 1 } else { self.found[SUGGESTIONS - 1].0 };
        let Some(distance) = distance_below(&self.typed, self.wanted, id, worst) else { return };
        if self.found.iter().all(|(_, other)| other != id) {
            let at = self.found.partition_point(|&(other, _)| other <= distance);
            self.found.insert(at, (distance, id.to_owned()));
            self.found.truncate(SUGGESTIONS);
        }
    }

    /// The ids, the closest first.
    pub(super) fn ids(self) -> Vec<String> {
        self.found.into_iter().map(|(_, id)| id).collect()
    }
}

/// The number of characters to insert, remove or replace, where it is below `limit`. Upper and lower case are the same.
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
    fn differences_are_counted() {
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
            closest.look_at(id);
        }
        assert_eq!(closest.ids(), ["train-p1-q2", "train-p11-q3", "train-p91-q2"]);
    }
}
