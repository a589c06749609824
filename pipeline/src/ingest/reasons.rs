//! Reasons of rejected records, grouped by kind.

use std::collections::HashMap;
use std::fmt;

use serde::Serialize;

/// Maximum number of kinds; a file of another format could have one per record.
const MAX_KINDS: usize = 40;
/// Maximum length of the text of a kind, in characters.
const KIND_CHARS: usize = 200;
/// Maximum number of kinds in a summary.
const SHOWN_KINDS: usize = 5;

/// Number of rejects of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RejectReason {
    /// Number of entries in the list of rejects.
    pub count: usize,
    /// Reason of the first one.
    pub reason: String,
    /// Raw file of the first one.
    pub file: String,
    /// Line of the first one in that file.
    pub line: u64,
}

impl fmt::Display for RejectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, reason, file, line } = self;
        let first = if *count == 1 { "" } else { "first: " };
        write!(f, "{count} × {reason} ({first}{file}, line {line})")
    }
}

/// Counter of reasons.
#[derive(Debug, Default)]
pub(super) struct Reasons {
    kinds: HashMap<String, RejectReason>,
    /// Entries of further kinds.
    others: usize,
}

impl Reasons {
    /// Counts the reason of a record.
    pub(super) fn add(&mut self, file: &str, line: u64, reason: &str) {
        let kind = kind(reason);
        match self.kinds.get_mut(&kind) {
            Some(known) => known.count += 1,
            None if self.kinds.len() >= MAX_KINDS => self.others += 1,
            None => {
                let reason = RejectReason { count: 1, reason: reason.to_owned(), file: file.to_owned(), line };
                self.kinds.insert(kind, reason);
            }
        }
    }

    /// Returns the most frequent kinds, and the number of entries of all others.
    pub(super) fn most_frequent(&self) -> (Vec<RejectReason>, usize) {
        let mut kinds: Vec<_> = self.kinds.iter().collect();
        kinds.sort_by(|(a_kind, a), (b_kind, b)| b.count.cmp(&a.count).then_with(|| a_kind.cmp(b_kind)));
        let others = kinds.iter().skip(SHOWN_KINDS).map(|(_, reason)| reason.count).sum::<usize>() + self.others;
        (kinds.into_iter().take(SHOWN_KINDS).map(|(_, reason)| reason.clone()).collect(), others)
    }
}

impl fmt::Display for Reasons {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (reasons, others) = self.most_frequent();
        let mut parts: Vec<_> = reasons.iter().map(ToString::to_string).collect();
        parts.extend((others > 0).then(|| format!("{others} × other reasons")));
        f.write_str(&parts.join(", "))
    }
}

/// Returns the kind of a reason: its text without numbers and quoted text.
pub fn kind(reason: &str) -> String {
    let mut kind = String::with_capacity(reason.len());
    let mut quote = None;
    for c in reason.chars() {
        match quote {
            Some(end) => {
                if c == end {
                    quote = None;
                    kind.push('…');
                    kind.push(c);
                }
            }
            None if c == '`' || c == '"' => {
                quote = Some(c);
                kind.push(c);
            }
            None if c.is_ascii_digit() => {
                if !kind.ends_with('#') {
                    kind.push('#');
                }
            }
            None => kind.push(c),
        }
    }
    if let Some((end, _)) = kind.char_indices().nth(KIND_CHARS) {
        kind.truncate(end);
    }
    kind
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_grouped_and_sorted_by_frequency() {
        let mut reasons = Reasons::default();
        for (line, reason) in ["no `a`", "question 1: no `b`", "question 2: no `c`", "not JSON"].into_iter().enumerate() {
            reasons.add("train.jsonl", line as u64 + 1, reason);
        }
        let (frequent, others) = reasons.most_frequent();
        assert_eq!((frequent.len(), others), (3, 0));
        assert_eq!(
            reasons.to_string(),
            "2 × question 1: no `b` (first: train.jsonl, line 2), 1 × no `a` (train.jsonl, line 1), \
             1 × not JSON (train.jsonl, line 4)"
        );
        for line in 0..9_000 {
            reasons.add("x", line, &"x".repeat(line as usize % 100));
        }
        assert_eq!(reasons.kinds.len(), MAX_KINDS);
        let (frequent, others) = reasons.most_frequent();
        assert_eq!(frequent.iter().map(|reason| reason.count).sum::<usize>() + others, 9_004);
        assert_eq!(kind(&"é".repeat(300)).chars().count(), KIND_CHARS);
    }
}
