//! Declarations of the C interface of `csrc/store.cpp`, `csrc/group.cpp`, `csrc/gather.cpp` and `csrc/reducer.cpp`. `csrc/ext.h` describes the
//! ownership of arguments and results.

use std::ffi::{c_char, c_int, c_void};
use std::marker::PhantomData;
use std::time::Duration;

use crate::ffi::TensorPtr;

/// Converts a timeout to milliseconds for c10d, which takes 0 to mean no timeout and overflows for very long ones.
pub(super) fn milliseconds(timeout: Duration) -> u64 {
    const YEAR: u128 = 365 * 24 * 3600 * 1000;
    timeout.as_millis().clamp(1, YEAR) as u64
}

/// `ext_bytes`: bytes that the callee borrows, in Rust or in C++.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(super) struct Bytes<'a> {
    data: *const u8,
    size: usize,
    borrowed: PhantomData<&'a [u8]>,
}

impl<'a> From<&'a [u8]> for Bytes<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self { data: bytes.as_ptr(), size: bytes.len(), borrowed: PhantomData }
    }
}

impl<'a> From<&'a str> for Bytes<'a> {
    fn from(text: &'a str) -> Self {
        text.as_bytes().into()
    }
}

impl<'a> Bytes<'a> {
    /// Returns the bytes.
    ///
    /// # Safety
    /// Bytes from C++ must be valid for the lifetime `'a`.
    pub(super) unsafe fn as_slice(&self) -> &'a [u8] {
        // The pointer of an empty vector of C++ may be null.
        match self.size {
            0 => &[],
            // SAFETY: the caller guarantees it.
            size => unsafe { std::slice::from_raw_parts(self.data, size) },
        }
    }
}

/// `ext_make_nccl *`. Rust only passes it to C++.
pub(super) type MakeNccl = unsafe extern "C" fn();

unsafe extern "C" {
    pub(super) fn glm_ext_agent_store_set(
        host: Bytes<'_>,
        port: u16,
        timeout: u64,
        key: Bytes<'_>,
        value: Bytes<'_>,
    ) -> *mut c_char;
    pub(super) fn glm_ext_agent_store_get(
        host: Bytes<'_>,
        port: u16,
        timeout: u64,
        key: Bytes<'_>,
        value: *mut *mut c_char,
        size: *mut usize,
    ) -> *mut c_char;

    pub(super) fn glm_ext_group_new(
        store: *mut c_void,
        calls: *const c_void,
        name: Bytes<'_>,
        rank: c_int,
        size: c_int,
        timeout: u64,
        address: Bytes<'_>,
        make_nccl: Option<MakeNccl>,
        device: c_int,
        out: *mut *mut c_void,
    ) -> *mut c_char;
    pub(super) fn glm_ext_group_free(group: *mut c_void);
    pub(super) fn glm_ext_group_all_reduce_sum(group: *const c_void, tensor: TensorPtr, timeout: u64) -> *mut c_char;
    pub(super) fn glm_ext_group_queue_sum(group: *const c_void, tensor: TensorPtr, timeout: u64) -> *mut c_char;
    pub(super) fn glm_ext_group_check(group: *const c_void) -> *mut c_char;
    pub(super) fn glm_ext_group_broadcast(group: *const c_void, tensor: TensorPtr, root: c_int, timeout: u64) -> *mut c_char;
    pub(super) fn glm_ext_group_all_gather(
        group: *const c_void,
        tensor: TensorPtr,
        outputs: *const TensorPtr,
        n: usize,
        timeout: u64,
    ) -> *mut c_char;
    pub(super) fn glm_ext_group_queue_gather(
        group: *const c_void,
        whole: TensorPtr,
        part: TensorPtr,
        timeout: u64,
    ) -> *mut c_char;
    pub(super) fn glm_ext_group_barrier(group: *const c_void, timeout: u64) -> *mut c_char;

    pub(super) fn glm_ext_gather_new(
        group: *const c_void,
        whole: TensorPtr,
        part: TensorPtr,
        out: *mut *mut c_void,
    ) -> *mut c_char;
    pub(super) fn glm_ext_gather_free(gather: *mut c_void);
    pub(super) fn glm_ext_gather_start(gather: *mut c_void) -> *mut c_char;
    pub(super) fn glm_ext_gather_wait(gather: *mut c_void, timeout: u64) -> *mut c_char;
    pub(super) fn glm_ext_gather_release(gather: *mut c_void, timeout: u64) -> *mut c_char;

    pub(super) fn glm_ext_reducer_new(
        group: *const c_void,
        parameters: *const TensorPtr,
        n: usize,
        units: *const TensorPtr,
        temporary: *const u8,
        n_units: usize,
        totals: TensorPtr,
        bucket: u64,
        bf16: c_int,
        multiple: u64,
        out: *mut *mut c_void,
    ) -> *mut c_char;
    pub(super) fn glm_ext_reducer_free(reducer: *mut c_void) -> *mut c_char;
    pub(super) fn glm_ext_reducer_prepare(reducer: *mut c_void, timeout: u64) -> *mut c_char;
    pub(super) fn glm_ext_reducer_start(reducer: *mut c_void) -> *mut c_char;
    pub(super) fn glm_ext_reducer_finish(reducer: *mut c_void, timeout: u64) -> *mut c_char;
    pub(super) fn glm_ext_reducer_reset(reducer: *mut c_void) -> *mut c_char;
    pub(super) fn glm_ext_reducer_slices(reducer: *const c_void) -> usize;
    pub(super) fn glm_ext_reducer_slice(reducer: *const c_void, index: usize, begin: *mut u64, end: *mut u64);
    pub(super) fn glm_ext_reducer_overlapped(reducer: *const c_void) -> usize;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_never_zero_or_too_long() {
        assert_eq!(milliseconds(Duration::ZERO), 1);
        assert_eq!(milliseconds(Duration::from_secs(2)), 2000);
        assert!(milliseconds(Duration::MAX) < 1 << 36);
    }
}
