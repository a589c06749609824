//! Fused kernels for CPUs, each with a backward pass of its own: matrix products by libtorch, everything between them in as few
//! passes over memory as possible (see [`glm_kernels`]).
//!
//! They differ from libtorch's operators in what they save and where gradients go. The gradient of a parameter is added to the
//! model's gradient buffer directly, so no function here returns one for it. Biases are not added by the matrix product but by
//! the operation that follows, which also sums their gradients. Dropout is a function of the batch's keys
//! ([`crate::batch::key`]).
//!
//! Activations are fp32, fp64 or bf16; parameters are fp32 for fp32 and bf16 activations, fp64 for fp64 ones. Matrix products in bf16 cast
//! the weights, unless there are copies of them ([`Parameters::computed`]).

pub mod attention;
pub mod cached;
pub mod embedding;
pub mod gelu;
pub mod linear;
pub mod residual;
pub mod scores;

use std::ops::Range;
use std::sync::Arc;

use glm_kernels::accumulate;
use glm_kernels::dropout::Site;
use glm_kernels::number::{Bf16, Element};
use libtorch_ext::parallel::for_each;
use tch::{Device, Kind, TchError, Tensor};

use self::attention::Projected;
use self::residual::Addend;
use super::fused::{contiguous, gradient_of, pending};
use super::{Ops, Projection, Queries};
use crate::batch::device::DeviceBatch;
use crate::batch::packed::Batch;
use crate::model::layers::{LayerNorm, Linear};
use crate::model::parameters::Parameters;
use crate::model::pass::Pass;

/// Tokens per task: enough that handing out a task costs nothing, few enough that tasks even out.
const TOKENS_PER_TASK: usize = 32;
/// Numbers per task where there are no tokens.
const NUMBERS_PER_TASK: usize = 1 << 16;

/// Multiplications up to which starting other threads takes longer than the work.
const SMALL: usize = 1 << 18;

/// Returns true if there are kernels for activations of one kind and parameters of another on a device.
pub fn is_supported(device: Device, activations: Kind, parameters: Kind) -> bool {
    let kinds = matches!((activations, parameters), (Kind::Float | Kind::BFloat16, Kind::Float) | (Kind::Double, Kind::Double));
    device == Device::Cpu && kinds
}

/// Calls `body` with each task: on all threads if the tasks have many multiplications together, else on this one.
fn for_each_if_large<T: Send>(multiplications: usize, tasks: Vec<T>, body: impl Fn(T) + Sync) -> Result<(), TchError> {
    if multiplications > SMALL {
        return for_each(tasks, body);
    }
    tasks.into_iter().for_each(body);
    Ok(())
}

/// Operations on one batch.
#[derive(Debug)]
pub struct CpuOps<'a> {
    batch: &'a Arc<Batch>,
    scored: &'a Tensor,
    parameters: &'a Parameters,
    kind: Kind,
    /// Dropout keys of all tokens.
    keys: Arc<[u64]>,
    /// Dropout keys of the scored tokens.
    scored_keys: Arc<[u64]>,
}

impl<'a> CpuOps<'a> {
    /// Operations on one batch.
    pub fn new(batch: &'a DeviceBatch, pass: &Pass, parameters: &'a Parameters) -> Self {
        let (inputs, targets) = (&batch.host.inputs, &batch.host.targets);
        let keys: Arc<[u64]> = inputs.token_key.as_slice().into();
        let scored_keys = targets.scored.iter().map(|&token| keys[token as usize]).collect();
        Self { batch: &batch.host, scored: &batch.scored, parameters, kind: pass.kind, keys, scored_keys }
    }

    /// `x Wᵀ` with some rows of `weight`.
    fn product(&self, x: &Tensor, weight: &Tensor, rows: Range<i64>) -> Result<Tensor, TchError> {
        linear::linear(x, weight, self.parameters.computed(weight, self.kind)?, rows)
    }
}

impl Ops for CpuOps<'_> {
    fn scored(&self) -> &Tensor {
        self.scored
    }

    fn embed(&self, tables: [&Tensor; 3], dropout: Site) -> Result<Tensor, TchError> {
        embedding::embed(tables, self.batch, dropout, self.kind)
    }

    fn linear<'a>(&self, x: &Tensor, weight: &Tensor, bias: Option<&'a Tensor>) -> Result<Projection<'a>, TchError> {
        Ok(Projection { values: self.product(x, weight, 0..weight.size2()?.0)?, bias })
    }

    fn bias_gelu(&self, x: Projection<'_>) -> Result<Tensor, TchError> {
        gelu::bias_gelu(x.values, pending(x.bias)?)
    }

    fn norm(&self, x: &Tensor, norm: &LayerNorm) -> Result<Tensor, TchError> {
        residual::norm(x, norm)
    }

    fn add_norm(
        &self,
        residual: &Tensor,
        branch: Projection<'_>,
        norm: &LayerNorm,
        queries: Queries,
        dropout: Site,
    ) -> Result<(Tensor, Tensor), TchError> {
        let keys = match queries {
            Queries::All => Arc::clone(&self.keys),
            Queries::Scored => Arc::clone(&self.scored_keys),
        };
        let addend = Addend { values: branch.values, bias: pending(branch.bias)?, keys, site: dropout };
        residual::add_and_norm(residual, addend, norm)
    }

    fn attention(
        &self,
        x: &Tensor,
        query_key_value: &Linear,
        heads: i64,
        queries: Queries,
        dropout: Site,
    ) -> Result<Tensor, TchError> {
        let weight = query_key_value.weight();
        let (all, hidden) = weight.size2()?;
        let projected = match queries {
            Queries::All => Projected::Together(self.product(x, weight, 0..all)?),
            Queries::Scored => Projected::Apart {
                query: self.product(&self.of_queries(x, queries)?, weight, 0..hidden)?,
                key_value: self.product(x, weight, hidden..all)?,
            },
        };
        attention::attention(&projected, query_key_value.bias(), self.batch, heads, dropout)
    }

    fn target_log_probs(&self, logits: Tensor) -> Result<Tensor, TchError> {
        scores::target_log_probs(logits, self.batch)
    }
}

/// A number of libtorch's.
pub(crate) trait Stored: Element {
    /// libtorch's name of it.
    const KIND: Kind;
    /// libtorch's name of what it is computed with.
    const REAL: Kind;
}

impl Stored for f32 {
    const KIND: Kind = Kind::Float;
    const REAL: Kind = Kind::Float;
}

impl Stored for f64 {
    const KIND: Kind = Kind::Double;
    const REAL: Kind = Kind::Double;
}

impl Stored for Bf16 {
    const KIND: Kind = Kind::BFloat16;
    const REAL: Kind = Kind::Float;
}

/// Calls a generic function with the storage type of a kind.
macro_rules! by_kind {
    ($kind:expr, $function:ident($($argument:expr),* $(,)?)) => {
        match $kind {
            tch::Kind::Float => $function::<f32>($($argument),*),
            tch::Kind::Double => $function::<f64>($($argument),*),
            tch::Kind::BFloat16 => $function::<glm_kernels::number::Bf16>($($argument),*),
            other => Err(tch::TchError::Kind(format!("{other:?} has no fused kernels"))),
        }
    };
}
pub(crate) use by_kind;

/// Checks that a tensor's memory is `numel` numbers of `kind` in a row on the CPU.
fn check(tensor: &Tensor, kind: Kind) -> Result<usize, TchError> {
    if !tensor.defined() {
        return Err(TchError::Kind("there is no room for gradients: Glm::alloc_grads makes it".to_owned()));
    }
    let found = tensor.f_kind()?;
    if found != kind || tensor.device() != Device::Cpu || !tensor.is_contiguous() {
        let device = tensor.device();
        return Err(TchError::Kind(format!("expected contiguous {kind:?} on the CPU, found {found:?} on {device:?}")));
    }
    Ok(tensor.numel())
}

/// The numbers of a contiguous tensor.
///
/// # Safety
/// Nothing writes to the tensor's memory while the slice lives.
unsafe fn values<T: Copy>(tensor: &Tensor, kind: Kind) -> Result<&[T], TchError> {
    let n = check(tensor, kind)?;
    if n == 0 {
        return Ok(&[]);
    }
    // SAFETY: the check above; the storage lives as long as the tensor that is borrowed, and nothing writes meanwhile.
    Ok(unsafe { std::slice::from_raw_parts(tensor.data_ptr().cast::<T>().cast_const(), n) })
}

/// The numbers of a contiguous tensor, to be written.
///
/// # Safety
/// Nothing else reads or writes the tensor's memory while the slice lives.
unsafe fn values_mut<T: Copy>(tensor: &mut Tensor, kind: Kind) -> Result<&mut [T], TchError> {
    let n = check(tensor, kind)?;
    if n == 0 {
        return Ok(&mut []);
    }
    // SAFETY: the check above; the storage lives as long as the tensor that is borrowed, and is used by nothing else.
    Ok(unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr().cast::<T>(), n) })
}

/// Adds the sum of the rows of `values` `[tokens, width]` to `total` `[width]`, in parts that do not depend on the threads.
fn add_rows<T: Element>(total: &mut [T::Real], values: &[T]) -> Result<(), TchError> {
    let width = total.len();
    let mut parts = vec![vec![T::Real::default(); width]; (values.len() / width).div_ceil(TOKENS_PER_TASK)];
    let tasks = parts.iter_mut().zip(values.chunks(width * TOKENS_PER_TASK));
    for_each(tasks, |(part, values)| accumulate::add_rows(part, values))?;
    accumulate::add_parts(total, &parts);
    Ok(())
}

/// Adds `values` to a gradient of the same shape.
fn add_to_gradient<T: Stored>(gradient: &mut Tensor, values: &Tensor) -> Result<(), TchError> {
    // SAFETY: `values` was made by a matrix product whose only owner is the caller.
    let values = unsafe { self::values::<T>(values, T::KIND) }?;
    // SAFETY: one backward pass at a time adds to a model's gradients, and this one is borrowed for as long.
    let total = unsafe { values_mut::<T::Real>(gradient, T::REAL) }?;
    if total.len() != values.len() {
        return Err(TchError::Shape(format!("{} gradients for {} numbers", values.len(), total.len())));
    }
    let tasks = total.chunks_mut(NUMBERS_PER_TASK).zip(values.chunks(NUMBERS_PER_TASK));
    for_each(tasks, |(total, values)| accumulate::add(total, values))
}
