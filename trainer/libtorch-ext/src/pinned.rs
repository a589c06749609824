//! Page-locked memory of the host, which a GPU copies from and to while it computes.

use std::ptr::null_mut;

use tch::{Kind, TchError, Tensor};

use crate::ffi::{self, TensorPtr, as_raw, check};

/// Returns an uninitialized tensor on the CPU in page-locked memory. libtorch's allocator rounds its size up to a power of two,
/// and keeps freed memory for later tensors.
///
/// # Errors
/// A [`TchError`] without a GPU, or out of memory.
pub fn empty_pinned(shape: &[i64], kind: Kind) -> Result<Tensor, TchError> {
    let elements: i64 = shape.iter().product();
    let bytes = usize::try_from(elements).map_err(|_| TchError::Shape(format!("negative size in {shape:?}")))?
        * kind.elt_size_in_bytes();
    let mut out: TensorPtr = null_mut();
    // SAFETY: `out` is valid for writes.
    check(unsafe { ffi::glm_ext_empty_pinned(bytes, &mut out) })?;
    // SAFETY: the call succeeded, so `out` is a tensor owned by the caller.
    let memory = unsafe { Tensor::from_ptr(out.cast()) };
    memory.f_view_dtype(kind)?.f_view(shape)
}

/// Starts a copy between a GPU and page-locked memory, or within the GPU, on the GPU's current stream. The tensors have the same
/// shape. The values arrive when that stream gets there; until then, `from` must not change and `to` must not be read. An
/// [`Event`](crate::stream::Event) marks that time. libtorch's allocators do not reuse memory that is freed meanwhile.
///
/// Between tensors on the CPU, the copy is done when this returns.
///
/// # Errors
/// A [`TchError`] if the shapes do not match, or of the device.
pub fn copy_async(to: &Tensor, from: &Tensor) -> Result<(), TchError> {
    // SAFETY: both tensors outlive the call.
    check(unsafe { ffi::glm_ext_copy_async(as_raw(to), as_raw(from)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_on_the_cpu_are_done_at_once() {
        let (to, from) = (Tensor::zeros([2], (Kind::Float, tch::Device::Cpu)), Tensor::from_slice(&[1.0_f32, 2.0]));
        copy_async(&to, &from).expect("same shape");
        assert_eq!(Vec::<f32>::try_from(to).expect("numbers"), [1.0, 2.0]);
        assert!(copy_async(&Tensor::zeros([3], (Kind::Float, tch::Device::Cpu)), &from).is_err());
    }

    #[test]
    fn page_locked_memory_needs_a_gpu() {
        if crate::cuda::load().is_ok() && tch::Cuda::is_available() {
            let tensor = empty_pinned(&[2, 3], Kind::Float).expect("memory");
            assert_eq!((tensor.size(), tensor.kind(), tensor.device()), (vec![2, 3], Kind::Float, tch::Device::Cpu));
            return;
        }
        let error = empty_pinned(&[3], Kind::Int64).expect_err("no GPU");
        assert!(error.to_string().contains("needs a GPU"), "{error}");
        assert!(empty_pinned(&[-1], Kind::Int64).is_err());
    }
}
