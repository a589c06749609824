//! The C interface of `csrc/store.cpp` and `csrc/distributed.cpp`, see `csrc/ext.h` for who owns what.

use std::ffi::{c_char, c_int, c_void};
use std::marker::PhantomData;

use crate::ffi::TensorPtr;

/// `ext_bytes`: bytes that are lent to C++.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Bytes<'a> {
    data: *const u8,
    size: usize,
    lent: PhantomData<&'a [u8]>,
}

impl<'a> From<&'a [u8]> for Bytes<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self { data: bytes.as_ptr(), size: bytes.len(), lent: PhantomData }
    }
}

impl<'a> From<&'a str> for Bytes<'a> {
    fn from(text: &'a str) -> Self {
        text.as_bytes().into()
    }
}

/// `ext_make_nccl *`, which C++ calls and Rust hands on.
pub(super) type MakeNccl = unsafe extern "C" fn();

unsafe extern "C" {
    pub(super) fn glm_ext_store_new(
        host: Bytes<'_>,
        port: u16,
        listener: c_int,
        world_size: u64,
        timeout: u64,
        out: *mut *mut c_void,
    ) -> *mut c_char;
    pub(super) fn glm_ext_store_clone(store: *const c_void, out: *mut *mut c_void) -> *mut c_char;
    pub(super) fn glm_ext_store_free(store: *mut c_void);
    pub(super) fn glm_ext_store_join(store: *mut c_void) -> *mut c_char;
    pub(super) fn glm_ext_store_set(store: *mut c_void, key: Bytes<'_>, value: Bytes<'_>) -> *mut c_char;
    pub(super) fn glm_ext_store_get(
        store: *mut c_void,
        key: Bytes<'_>,
        value: *mut *mut c_char,
        size: *mut usize,
    ) -> *mut c_char;
    pub(super) fn glm_ext_store_add(store: *mut c_void, key: Bytes<'_>, amount: i64, sum: *mut i64) -> *mut c_char;
    pub(super) fn glm_ext_store_delete(store: *mut c_void, key: Bytes<'_>, existed: *mut c_int) -> *mut c_char;
    pub(super) fn glm_ext_store_check(store: *mut c_void, keys: *const Bytes<'_>, n: usize, all: *mut c_int) -> *mut c_char;
    pub(super) fn glm_ext_store_wait(store: *mut c_void, keys: *const Bytes<'_>, n: usize, timeout: u64) -> *mut c_char;

    pub(super) fn glm_ext_group_new(
        store: *const c_void,
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
    pub(super) fn glm_ext_group_all_reduce(
        group: *const c_void,
        tensor: TensorPtr,
        op: u8,
        out: *mut *mut c_void,
    ) -> *mut c_char;
    pub(super) fn glm_ext_group_broadcast(
        group: *const c_void,
        tensor: TensorPtr,
        root: c_int,
        out: *mut *mut c_void,
    ) -> *mut c_char;
    pub(super) fn glm_ext_group_all_gather(
        group: *const c_void,
        tensor: TensorPtr,
        outputs: *const TensorPtr,
        n: usize,
        out: *mut *mut c_void,
    ) -> *mut c_char;
    pub(super) fn glm_ext_group_barrier(group: *const c_void, out: *mut *mut c_void) -> *mut c_char;
    pub(super) fn glm_ext_group_monitored_barrier(group: *const c_void, timeout: u64) -> *mut c_char;

    pub(super) fn glm_ext_work_is_done(work: *mut c_void) -> c_int;
    pub(super) fn glm_ext_work_wait(work: *mut c_void, timeout: u64, done: *mut c_int) -> *mut c_char;
    pub(super) fn glm_ext_work_free(work: *mut c_void);

    pub(super) fn glm_ext_reducer_new(
        group: *const c_void,
        parameters: *const TensorPtr,
        n: usize,
        first_bucket: u64,
        bucket: u64,
        find_unused: c_int,
        average: c_int,
        out: *mut *mut c_void,
    ) -> *mut c_char;
    pub(super) fn glm_ext_reducer_free(reducer: *mut c_void) -> *mut c_char;
    pub(super) fn glm_ext_reducer_prepare(reducer: *mut c_void, outputs: *const TensorPtr, n: usize) -> *mut c_char;
    pub(super) fn glm_ext_reducer_finish(reducer: *mut c_void, buckets: *mut u64) -> *mut c_char;
    pub(super) fn glm_ext_reducer_reset(reducer: *mut c_void) -> *mut c_char;
}
