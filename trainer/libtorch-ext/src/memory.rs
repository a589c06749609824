//! Memory of tensors that exists only while it is needed.
//!
//! Views of a tensor share its memory. They survive while it does not exist, so that a function recorded for the backward pass can hold a
//! view of a gradient for which there is memory only later.

use tch::{TchError, Tensor};

use crate::ffi::{self, as_raw, check};

/// Gives a tensor zeros, unless its memory exists. Tensors that share the memory see them too.
///
/// # Errors
/// A [`TchError`], for example out of memory; a tensor that is part of a larger one cannot be given memory of its own.
pub fn allocate_zeros(tensor: &Tensor) -> Result<(), TchError> {
    // SAFETY: the tensor outlives the call.
    check(unsafe { ffi::glm_ext_allocate_zeros(as_raw(tensor)) })
}

/// Returns a number that all handles to a variable share, as [`Tensor::shallow_clone`] makes them, and no other tensor while one of them
/// lives. Views of the same memory have others.
pub fn identity(tensor: &Tensor) -> usize {
    // SAFETY: the tensor outlives the call.
    unsafe { ffi::glm_ext_identity(as_raw(tensor)) as usize }
}

/// Frees the memory of a tensor and of all that share it. They keep their shapes.
///
/// # Errors
/// A [`TchError`].
///
/// # Safety
/// Nobody reads or writes the tensor, or one that shares its memory, before [`allocate_zeros`].
pub unsafe fn release(tensor: &Tensor) -> Result<(), TchError> {
    // SAFETY: the tensor outlives the call; the caller guarantees the rest.
    check(unsafe { ffi::glm_ext_release(as_raw(tensor)) })
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    #[test]
    fn handles_share_an_identity_and_views_do_not() {
        let tensor = Tensor::ones([6], (Kind::Float, Device::Cpu));
        let known = identity(&tensor);
        assert_eq!(identity(&tensor.shallow_clone()), known);
        assert_ne!(identity(&tensor.narrow(0, 0, 6)), known);
        let mut handle = tensor.shallow_clone();
        handle.set_data(&Tensor::zeros([2], (Kind::Float, Device::Cpu)));
        assert_eq!((identity(&handle), tensor.size()), (known, vec![2]));
    }

    #[test]
    fn views_see_memory_that_is_allocated_again() {
        let tensor = Tensor::ones([6], (Kind::Float, Device::Cpu));
        let view = tensor.narrow(0, 2, 4).view([2, 2]);
        allocate_zeros(&tensor).expect("exists");
        assert_eq!(view.sum(Kind::Float).double_value(&[]), 4.0, "memory that exists is not touched");
        // SAFETY: not used before it is allocated again.
        unsafe { release(&tensor) }.expect("released");
        assert_eq!((view.size(), tensor.size()), (vec![2, 2], vec![6]));
        allocate_zeros(&tensor).expect("memory");
        assert_eq!(view.sum(Kind::Float).double_value(&[]), 0.0);
        let _filled = view.shallow_clone().fill_(3.0);
        assert_eq!(Vec::<f64>::try_from(&tensor).expect("numbers"), [0.0, 0.0, 3.0, 3.0, 3.0, 3.0]);
    }
}
