//! Log probabilities of targets, from logits.

use glm_kernels::cuda::calls::{ScoresBackward, ScoresForward, ScoresGroups};
use libtorch_ext::autograd::record;
use tch::{Kind, TchError, Tensor};

use super::launch::{Form, Launcher};
use super::{contiguous, number};
use crate::batch::blocks::TargetTables;
use crate::batch::packed::Targets;
use crate::model::ops::clock::{Stage, timed};
use crate::model::ops::fused::check_targets;

/// For each group, the sum of `log softmax(logits)[target]` over its targets: `[groups]` in fp32. `logits` `[scored, words]` must be
/// the result of a linear layer and used by nothing else: its memory receives its gradient.
///
/// # Errors
/// A [`TchError`]; a target outside the vocabulary is one.
pub(super) fn target_log_probs(
    launcher: Launcher,
    logits: Tensor,
    targets: &Targets,
    tables: &TargetTables,
) -> Result<Tensor, TchError> {
    let ((scored, words), device, groups) = (logits.size2()?, logits.device(), targets.groups);
    check_targets(targets, words)?;
    let saved = logits.f_detach()?;
    let lse = Tensor::f_empty([scored], (Kind::Float, device))?;
    let out = Tensor::f_empty([groups as i64], (Kind::Float, device))?;
    timed(Stage::Scores, device, || {
        let call = ScoresForward { logits: &saved, lse: &lse, words: number(words)? };
        // SAFETY: the logits are contiguous [scored, words], lse is fp32 [scored].
        unsafe { launcher.launch(Form::default(), [scored as usize, 1], call) }?;
        let (first, targets) = (&tables.group_first, &tables.group_targets);
        let call = ScoresGroups { logits: &saved, lse: &lse, first, targets, out: &out, words: number(words)? };
        // SAFETY: the tables hold ranges of targets for each group, whose words were checked above; out is fp32 [groups].
        unsafe { launcher.launch(Form::default(), [groups, 1], call) }
    })?;
    let (first, targets, like) = (tables.scored_first.shallow_clone(), tables.scored_targets.shallow_clone(), out.f_detach()?);
    record(c"glm::target_log_probs", &[&logits], &[&out], move |grads| {
        timed(Stage::Scores, device, || {
            let d_groups = contiguous(grads[0].as_ref(), &like)?;
            let (first, targets) = (&first, &targets);
            let call = ScoresBackward { logits: &saved, lse: &lse, d_groups: &d_groups, first, targets, words: number(words)? };
            // SAFETY: as above, with ranges of targets for each scored token.
            unsafe { launcher.launch(Form::default(), [scored as usize, 1], call) }
        })?;
        Ok(vec![Some(saved)])
    })?;
    Ok(out)
}
