//! Losses of a batch of questions, from the log probabilities of their choices.

use tch::{Reduction, TchError, Tensor};

use super::settings::Loss;

/// Score of missing choices, which pad a question to the largest number of choices in the batch; as in the published loss.
const MISSING_CHOICE: f64 = -10000.0;

/// Columns of a batch of questions that its loss needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct LossColumns<'a> {
    /// Groups of each question's choices, padded to the largest number of choices with the number of groups: `[questions · choices]`.
    pub(super) table: &'a Tensor,
    /// Index of each question's label among its choices: `[questions]`.
    pub(super) label: &'a Tensor,
    /// Number of targets of each group: `[groups]`.
    pub(super) targets: &'a Tensor,
}

/// Loss summed over questions, or over their targets with [`Loss::TokenCrossEntropy`]. `log_probs` is that of each group, `[groups]`; the
/// score of a choice is its log probability divided by the number of its targets to the power of `penalty`.
///
/// # Errors
/// Errors of libtorch.
pub(super) fn loss(loss: Loss, penalty: f64, log_probs: &Tensor, columns: LossColumns<'_>) -> Result<Tensor, TchError> {
    let LossColumns { table, label, targets } = columns;
    let kind = log_probs.f_kind()?;
    if loss.is_of_tokens() {
        return log_probs.f_sum(kind)?.f_neg();
    }
    let scores = match penalty {
        0.0 => log_probs.shallow_clone(),
        penalty => log_probs.f_mul(&targets.f_totype(kind)?.f_pow_tensor_scalar(-penalty)?)?,
    };
    let missing = Tensor::f_full([1], MISSING_CHOICE, (kind, log_probs.device()))?;
    let with_missing = Tensor::f_cat(&[&scores, &missing], 0)?;
    let by_question = with_missing.f_index_select(0, table)?.f_view([label.numel() as i64, -1])?;
    let cross_entropy = || by_question.f_cross_entropy_loss(label, None::<&Tensor>, Reduction::Sum, -100, 0.0);
    let right = || by_question.f_gather(1, &label.f_unsqueeze(1)?, false);
    match loss {
        Loss::Auto | Loss::CrossEntropy | Loss::TokenCrossEntropy => cross_entropy(),
        Loss::Generative => right()?.f_sum(kind)?.f_neg(),
        Loss::Mix => cross_entropy()?.f_sub(&right()?.f_sum(kind)?),
        Loss::Hinge => {
            // The right choice itself adds 1 to the sum of each question.
            let within = by_question.f_sub(&right()?)?.f_add_scalar(1.0)?.f_clamp_min(0.0)?;
            within.f_sum(kind)?.f_sub_scalar(label.numel() as f64)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Loss of two questions: scores -1, -2.5 (2 and 3 targets, the second is right) and -3, -1, -2 (1, 2, 4 targets, the first is right).
    fn of(kind: Loss, penalty: f64) -> f64 {
        let log_probs = Tensor::from_slice(&[-1.0_f64, -2.5, -3.0, -1.0, -2.0]);
        let (table, label) = (Tensor::from_slice(&[0_i64, 1, 5, 2, 3, 4]), Tensor::from_slice(&[1_i64, 0]));
        let targets = Tensor::from_slice(&[2_i64, 3, 1, 2, 4]);
        let columns = LossColumns { table: &table, label: &label, targets: &targets };
        loss(kind, penalty, &log_probs, columns).expect("loss").double_value(&[])
    }

    fn log_sum_exp(scores: &[f64]) -> f64 {
        scores.iter().map(|score| score.exp()).sum::<f64>().ln()
    }

    fn assert_near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-12, "{found} {expected}");
    }

    #[test]
    fn losses_are_those_of_their_formulas() {
        let cross_entropy = 2.5 + log_sum_exp(&[-1.0, -2.5]) + 3.0 + log_sum_exp(&[-3.0, -1.0, -2.0]);
        for default in [Loss::Auto, Loss::CrossEntropy] {
            assert_near(of(default, 0.0), cross_entropy);
        }
        assert_near(of(Loss::Generative, 0.0), 5.5);
        assert_near(of(Loss::Mix, 0.0), cross_entropy + 5.5);
        assert_near(of(Loss::Hinge, 0.0), 2.5 + 3.0 + 2.0);
        assert_near(of(Loss::TokenCrossEntropy, 0.0), 9.5);
    }

    #[test]
    fn the_length_penalty_divides_by_a_power_of_the_targets() {
        assert_near(of(Loss::Generative, 1.0), 2.5 / 3.0 + 3.0);
        assert_near(of(Loss::Generative, 0.5), 2.5 / 3.0_f64.sqrt() + 3.0);
        assert_near(of(Loss::Hinge, 1.0), 1.0 - 0.5 + 2.5 / 3.0 + (1.0 - 0.5 + 3.0) + (1.0 - 0.5 + 3.0));
    }
}
