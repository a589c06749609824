//! The cloze head: how likely each choice is, and the loss over a question's choices.

use tch::{Kind, Reduction, TchError, Tensor};

use super::glm::Glm;
use super::ops::cpu as fused;
use super::pass::Pass;
use crate::batch::device::DeviceBatch;

/// Score of a choice that a question does not have, as in the published loss.
const MISSING_CHOICE: f64 = -10000.0;

/// `score(c) = Σ log softmax(logits)[target]` over the positions of choice `c`, without length normalisation: `[choices]`.
///
/// Log softmax and sum are computed in 32 bits at least, because half precision flips answers.
///
/// # Errors
/// A [`TchError`].
pub fn choice_scores(model: &Glm, batch: &DeviceBatch, pass: &Pass) -> Result<Tensor, TchError> {
    let logits = model.scored_logits(batch, pass)?;
    if model.is_fused(pass) {
        return fused::scores::choice_scores(logits, &batch.host);
    }
    let score_kind = if pass.kind == Kind::Double { Kind::Double } else { Kind::Float };
    let log_probabilities = logits.f_log_softmax(-1, score_kind)?;
    let words = log_probabilities.size2()?.1;
    let pairs = batch.scored_of_pair.f_mul_scalar(words)?.f_add(&batch.target)?;
    let of_pairs = log_probabilities.f_reshape([-1])?.f_index_select(0, &pairs)?;
    let zeros = Tensor::f_zeros([batch.choices], (score_kind, of_pairs.device()))?;
    zeros.f_index_add(0, &batch.choice_of_pair, &of_pairs)
}

/// Cross entropy over each question's choices, summed over the batch's questions.
///
/// A sum, so that the caller divides by the questions of the whole optimizer step and batches of uneven size weigh rightly.
///
/// # Errors
/// A [`TchError`]; the batch must be labelled.
pub fn loss_sum(scores: &Tensor, batch: &DeviceBatch) -> Result<Tensor, TchError> {
    let missing = Tensor::f_full([1], MISSING_CHOICE, (scores.f_kind()?, scores.device()))?;
    let with_missing = Tensor::f_cat(&[scores, &missing], 0)?;
    let by_question = with_missing.f_index_select(0, &batch.choice_table.f_reshape([-1])?)?.f_view_as(&batch.choice_table)?;
    by_question.f_cross_entropy_loss(&batch.label, None::<&Tensor>, Reduction::Sum, -100, 0.0)
}
