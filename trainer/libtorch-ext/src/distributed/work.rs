//! What a group has been asked to do and may not have done yet.

use std::ffi::c_void;
use std::time::Duration;

use tch::TchError;

use super::{during, failed, ffi, milliseconds};
use crate::ffi::check;

/// Something that a [`super::ProcessGroup`] does in the background; it owns the tensors, and [`Self::wait`] gives them back.
///
/// A work that is dropped goes on all the same: the other ranks count on it.
#[derive(Debug)]
#[must_use = "the result is there once it has been waited for"]
pub struct Work<T> {
    handle: Handle,
    result: T,
    what: String,
}

impl<T> Work<T> {
    /// # Safety
    /// `raw` came from a function of `csrc/distributed.cpp` that starts work, and is not used elsewhere.
    pub(super) unsafe fn new(raw: *mut c_void, result: T, what: String) -> Self {
        Self { handle: Handle(raw), result, what }
    }

    /// Whether it has ended, well or not.
    pub fn is_done(&self) -> bool {
        // SAFETY: the work is alive.
        unsafe { ffi::glm_ext_work_is_done(self.handle.0) != 0 }
    }

    /// Waits so long at most, and says whether it is done. A loop around this can look at a flag that a signal sets.
    ///
    /// # Errors
    /// A [`TchError`] where it failed: a rank is gone, or did not come within the group's timeout.
    pub fn wait_for(&mut self, patience: Duration) -> Result<bool, TchError> {
        let mut done = 0;
        // SAFETY: the work is alive, and `done` has room for the answer.
        let waited = check(unsafe { ffi::glm_ext_work_wait(self.handle.0, milliseconds(patience), &mut done) });
        during(waited, || self.what.clone())?;
        Ok(done != 0)
    }

    /// Waits for its result.
    ///
    /// # Errors
    /// As [`Self::wait_for`]; also where it is not done after `timeout`. It goes on then, and the tensors are lost.
    pub fn wait(mut self, timeout: Duration) -> Result<T, TchError> {
        if self.wait_for(timeout)? {
            Ok(self.result)
        } else {
            Err(failed(format!("{}: not done after {timeout:?}", self.what)))
        }
    }
}

/// `ext_work *`.
#[derive(Debug)]
struct Handle(*mut c_void);

// SAFETY: a `c10d::Work` may be waited for and released on any thread.
unsafe impl Send for Handle {}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: `Work::new` got the pointer for itself, and it is not used again.
        unsafe { ffi::glm_ext_work_free(self.0) };
    }
}
