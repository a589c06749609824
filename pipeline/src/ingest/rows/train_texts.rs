//! Texts of the training split, to count those of other splits that are among them.

use std::collections::HashSet;

use glm_schemas::manifest::Split;

/// Texts of the training split, by hash. A text takes about 16 bytes.
#[derive(Default)]
pub(in crate::ingest) struct TrainTexts(HashSet<u64>);

impl TrainTexts {
    /// Adds a text of the training split; returns true for a text of another split that the training split has.
    pub(super) fn overlaps(&mut self, split: Split, hash: u64) -> bool {
        if split == Split::Train {
            self.0.insert(hash);
            return false;
        }
        self.0.contains(&hash)
    }
}
