//! Vectors that are divided among ranks, and whole only while they are needed.

use std::ffi::{c_char, c_void};
use std::ptr::null_mut;

use tch::{TchError, Tensor};

use super::error::with_context;
use super::ffi;
use super::group::ProcessGroup;
use crate::ffi::{as_raw, check};

/// A vector of which each rank holds a part. There is memory for all of it from [`Self::start`] to [`Self::release`], and the values are
/// there after [`Self::gather`].
///
/// It may be sent to the thread of a backward pass. All ranks start to gather the same vectors in the same order, and in the same order
/// relative to the slices of a [`Reducer`](super::Reducer) of the group. Several vectors may be on their way at once.
///
/// Dropping it does not wait.
#[derive(Debug)]
pub struct DividedVector {
    raw: *mut c_void,
    wait_limit: u64,
    /// Rank and size of the group, for errors.
    place: String,
}

// SAFETY: the C++ object holds references to a process group, its work and tensors, none of which is bound to a thread.
unsafe impl Send for DividedVector {}

impl DividedVector {
    /// Divides the vector `whole`, whose memory is released. `part` is this rank's part, the same number of elements on each rank; it may
    /// be in another kind, and is converted before it is sent.
    ///
    /// # Errors
    /// A [`TchError`] if the parts of all ranks are not as many elements as the whole.
    ///
    /// # Safety
    /// Nobody reads or writes the whole, or a tensor that shares its memory, unless it is gathered.
    pub unsafe fn new(group: &ProcessGroup, whole: &Tensor, part: &Tensor) -> Result<Self, TchError> {
        let mut raw = null_mut();
        // SAFETY: group and tensors outlive the call, and C++ keeps references to them; `raw` is valid for writes.
        let created = check(unsafe { ffi::glm_ext_gather_new(group.raw(), as_raw(whole), as_raw(part), &mut raw) });
        let place = group.describe("gathering a divided vector");
        with_context(created, || place.clone())?;
        let divided = Self { raw, wait_limit: group.wait_limit(), place };
        // SAFETY: the caller guarantees it.
        unsafe { divided.release() }?;
        Ok(divided)
    }

    /// Starts to fill the whole with the parts of all ranks, unless that has been done since the last [`Self::release`]. The part must not
    /// change before [`Self::gather`].
    ///
    /// # Errors
    /// A [`TchError`], for example out of memory.
    pub fn start(&self) -> Result<(), TchError> {
        // SAFETY: the C++ object is alive.
        self.check(unsafe { ffi::glm_ext_gather_start(self.raw) })
    }

    /// Fills the whole with the parts of all ranks, or waits until that is done if it has been started. On a GPU only the current stream
    /// waits for the other ranks.
    ///
    /// # Errors
    /// A [`TchError`], for example out of memory, or if another rank failed or timed out.
    pub fn gather(&self) -> Result<(), TchError> {
        self.start()?;
        // SAFETY: the C++ object is alive.
        self.check(unsafe { ffi::glm_ext_gather_wait(self.raw, self.wait_limit) })
    }

    /// Frees the memory of the whole. Waits for the other ranks first if it is still on its way.
    ///
    /// # Errors
    /// A [`TchError`] if another rank failed or timed out meanwhile.
    ///
    /// # Safety
    /// As with [`Self::new`].
    pub unsafe fn release(&self) -> Result<(), TchError> {
        // SAFETY: the C++ object is alive; the caller guarantees that nobody uses the memory.
        self.check(unsafe { ffi::glm_ext_gather_release(self.raw, self.wait_limit) })
    }

    /// Returns the error of a C++ function.
    fn check(&self, message: *mut c_char) -> Result<(), TchError> {
        with_context(check(message), || self.place.clone())
    }
}

impl Drop for DividedVector {
    fn drop(&mut self) {
        // SAFETY: `raw` was returned by `new` and is not used again.
        unsafe { ffi::glm_ext_gather_free(self.raw) };
    }
}
