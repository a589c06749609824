//! Checks and values that the fused implementations share.

use tch::{TchError, Tensor};

use crate::batch::packed::{Inputs, Targets};

/// Returns the bias that a fused operation adds.
pub(super) fn pending(bias: Option<&Tensor>) -> Result<&Tensor, TchError> {
    bias.ok_or_else(|| TchError::Shape("the fused kernels need the bias of the linear layer before them".to_owned()))
}

/// Returns the tensor that the gradient of a parameter is added to, which
/// [`alloc_grads`](crate::model::parameters::Parameters::alloc_grads) has allocated. A model that is only evaluated has none, and would
/// fail in the backward pass.
pub(super) fn gradient_of(parameter: &Tensor) -> Result<Tensor, TchError> {
    let gradient = parameter.f_grad()?;
    if gradient.defined() { gradient.f_detach() } else { Ok(gradient) }
}

/// Returns a gradient as the kernels need it: contiguous; zeros if there is none.
pub(super) fn contiguous(gradient: Option<&Tensor>, like: &Tensor) -> Result<Tensor, TchError> {
    match gradient {
        Some(gradient) => gradient.f_contiguous(),
        None => like.f_zeros_like(),
    }
}

/// Checks that the tables of words, positions and block positions have the rows that a batch looks up.
pub(super) fn check_lookups(tables: [&Tensor; 3], inputs: &Inputs) -> Result<(), TchError> {
    for (table, rows) in tables.iter().zip(inputs.lookups()) {
        let allowed = 0..table.size2()?.0;
        if let Some(row) = rows.iter().find(|row| !allowed.contains(row)) {
            return Err(TchError::Shape(format!("row {row} of a table of embeddings with {} rows", allowed.end)));
        }
    }
    Ok(())
}

/// Checks that all targets are in a vocabulary of `words` words.
pub(super) fn check_targets(targets: &Targets, words: i64) -> Result<(), TchError> {
    match targets.token.iter().find(|target| !(0..words).contains(target)) {
        Some(target) => Err(TchError::Shape(format!("target {target} of {words} words"))),
        None => Ok(()),
    }
}
