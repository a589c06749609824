//! Passages that occur more than once, by hash.
//!
//! A passage stands in the row of every one of its questions, and rows are sorted by number of choices; so it cannot be told from
//! its neighbours, only from what is remembered: 16 bytes of hash and its index.

use std::collections::{HashMap, HashSet};

use serde::Serialize;
use sha2::{Digest, Sha256};

/// Most examples that are named.
const MAX_EXAMPLES: usize = 5;

/// Half a sha256: no two of all passages in the world share it by chance.
type Key = [u8; 16];

/// Passages that occur where they should not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Shared {
    /// How many passages.
    pub passages: usize,
    /// How many questions ask about them. Those of the copies: within a split of the later index, else of the later split.
    pub questions: usize,
    /// The first question about each of the first few.
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

/// The passages of one split.
#[derive(Debug, Default)]
pub(super) struct Passages {
    /// Under which index a text was seen first.
    first: HashMap<Key, i64>,
    /// Texts seen again under another index.
    again: HashSet<(Key, i64)>,
    /// Texts that another split holds, too.
    elsewhere: HashSet<Key>,
    pub(super) duplicates: Shared,
    pub(super) shared: Shared,
}

impl Passages {
    /// Takes the passage of one question; `other` are those of the split that it should not share any with.
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

    /// Number of texts.
    pub(super) fn distinct(&self) -> usize {
        self.first.len()
    }

    /// Number of texts, those under several indices counted several times.
    pub(super) fn indices(&self) -> usize {
        self.first.len() + self.again.len()
    }
}
