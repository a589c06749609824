//! Detection of duplicate passages by hash.
//!
//! A passage is repeated in the row of each of its questions, and rows are sorted by number of choices. Comparing adjacent rows
//! is therefore not enough: 16 bytes of hash and the index of every passage are kept in memory.

use std::collections::{HashMap, HashSet};

use serde::Serialize;
use sha2::{Digest, Sha256};

/// Maximum number of examples.
const MAX_EXAMPLES: usize = 5;

/// Half a sha256, long enough to make collisions practically impossible.
type Key = [u8; 16];

/// Passages that occur more than once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Shared {
    /// Number of passages.
    pub passages: usize,
    /// Number of questions about the copies: within a split, those of later indices; across splits, those of the later split.
    pub questions: usize,
    /// First question about each of the first few passages.
    pub example_ids: Vec<String>,
}

impl Shared {
    fn add(&mut self, new_passage: bool, example_id: &str) {
        self.questions += 1;
        if new_passage {
            self.passages += 1;
            if self.example_ids.len() < MAX_EXAMPLES {
                self.example_ids.push(example_id.to_owned());
            }
        }
    }
}

/// Passages of one split.
#[derive(Debug, Default)]
pub(super) struct Passages {
    /// First index of every text.
    first: HashMap<Key, i64>,
    /// Texts with further indices.
    again: HashSet<(Key, i64)>,
    /// Texts that also occur in another split.
    elsewhere: HashSet<Key>,
    pub(super) duplicates: Shared,
    pub(super) shared: Shared,
}

impl Passages {
    /// Adds the passage of one question; `other` holds the passages of the split that should not share any.
    pub(super) fn add(&mut self, text: &str, index: i64, example_id: &str, other: Option<&Self>) {
        let digest = Sha256::digest(text);
        let mut key = Key::default();
        key.copy_from_slice(&digest[..16]);
        if *self.first.entry(key).or_insert(index) != index {
            self.duplicates.add(self.again.insert((key, index)), example_id);
        }
        if other.is_some_and(|other| other.first.contains_key(&key)) {
            self.shared.add(self.elsewhere.insert(key), example_id);
        }
    }

    /// Returns the number of distinct texts.
    pub(super) fn distinct(&self) -> usize {
        self.first.len()
    }

    /// Returns the number of distinct pairs of text and index.
    pub(super) fn indices(&self) -> usize {
        self.first.len() + self.again.len()
    }
}
