//! GLM's operations for CPUs, each with a backward pass of its own: matrix products by libtorch, everything between them in
//! as few passes over memory as there can be (see [`glm_kernels`]).
//!
//! They differ from libtorch's own in what they keep and where gradients go. A parameter's gradient is added to its place in
//! the model's buffer at once, so no function here returns one for it. Biases are not added by the matrix product but by the
//! pass behind it, which also sums up their gradients. Dropout is a function of the batch's keys ([`crate::batch::key`]).
//!
//! Storage is 32 bits, 64 bits or bfloat16; parameters are 32 bits for the first and last.

pub mod attention;
pub mod clock;
pub mod embedding;
pub mod gelu;
pub mod linear;
pub mod residual;
pub mod scores;

use glm_kernels::accumulate;
use glm_kernels::number::{Bf16, Element};
use libtorch_ext::parallel::for_each;
use tch::{Device, Kind, TchError, Tensor};

/// Tokens that one task works on: enough that handing it out costs nothing, few enough that tasks even out.
const TOKENS_A_TASK: usize = 32;
/// Numbers that one task adds up where there are no tokens.
const NUMBERS_A_TASK: usize = 1 << 16;

/// Whether a forward pass in `kind` with parameters in `master` can go through these functions.
pub fn serves(device: Device, kind: Kind, master: Kind) -> bool {
    let kinds = matches!((kind, master), (Kind::Float | Kind::BFloat16, Kind::Float) | (Kind::Double, Kind::Double));
    device == Device::Cpu && kinds
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
    let mut parts = vec![vec![T::Real::default(); width]; (values.len() / width).div_ceil(TOKENS_A_TASK)];
    let tasks = parts.iter_mut().zip(values.chunks(width * TOKENS_A_TASK));
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
    let tasks = total.chunks_mut(NUMBERS_A_TASK).zip(values.chunks(NUMBERS_A_TASK));
    for_each(tasks, |(total, values)| accumulate::add(total, values))
}

/// Where the gradient of a parameter is added up; [`crate::model::parameters::Parameters::alloc_grads`] has made that place. A
/// model that is only evaluated has none, and would fail in the backward pass.
fn gradient_of(parameter: &Tensor) -> Result<Tensor, TchError> {
    let gradient = parameter.f_grad()?;
    if gradient.defined() { gradient.f_detach() } else { Ok(gradient) }
}

/// A gradient as the functions here need it: contiguous; zeros where there is none.
fn whole(gradient: Option<&Tensor>, like: &Tensor) -> Result<Tensor, TchError> {
    match gradient {
        Some(gradient) => gradient.f_contiguous(),
        None => like.f_zeros_like(),
    }
}
