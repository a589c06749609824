//! Synthetic row groups for tests.

use std::path::Path;
use std::sync::Arc;

use glm_schemas::vocab::SpecialIds;

use super::mmap::DecodedGroup;
use super::pack::{Packer, Sample};
use crate::task::cloze::questions::{SyntheticQuestion, rows};
use crate::task::cloze::{Cloze, ClozeForm, ClozeSettings, Truncation};
use crate::task::{Purpose, Task};

/// Cloze questions of at most `max_seq_len` tokens per choice, truncated as published.
pub(super) fn task(max_seq_len: usize) -> Arc<dyn Task> {
    Arc::new(Cloze::new(
        SpecialIds::BERT_UNCASED,
        max_seq_len,
        Truncation::Choice,
        ClozeSettings::default(),
        ClozeForm::default(),
    ))
}

/// Row group that begins its split.
pub(super) fn group(questions: &[SyntheticQuestion]) -> Arc<DecodedGroup> {
    group_at(questions, 0)
}

/// Row group whose first row has this index in its split.
pub(super) fn group_at(questions: &[SyntheticQuestion], first_row: usize) -> Arc<DecodedGroup> {
    let rows = rows(questions, first_row);
    let group = DecodedGroup::try_new(&*task(512), Path::new("synthetic"), rows, first_row);
    Arc::new(group.expect("keeps the contract"))
}

/// All rows of a group, numbered from `first_ordinal` on.
pub(super) fn samples(group: &Arc<DecodedGroup>, first_ordinal: u64) -> Vec<Sample> {
    (0..group.rows())
        .map(|row| Sample { group: Arc::clone(group), row, part: 0, ordinal: first_ordinal + row as u64 })
        .collect()
}

/// Packer of questions for evaluation.
pub(super) fn packer(max_seq_len: usize, micro_batch_tokens: usize) -> Packer {
    Packer { task: task(max_seq_len), purpose: Purpose::Evaluate, micro_batch_tokens, share: None, seed: 0 }
}
