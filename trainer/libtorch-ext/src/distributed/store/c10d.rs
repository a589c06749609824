//! Functions with which `csrc/store.cpp` makes a store one of c10d, for gloo and NCCL.

use std::ffi::{CString, c_char, c_int, c_void};
use std::ptr::null_mut;
use std::time::Duration;

use super::Store;
use super::error::StoreError;
use super::protocol::Request;
use crate::distributed::ffi::Bytes;

/// C++ function that copies bytes to where `target` points.
type Sink = unsafe extern "C" fn(target: *mut c_void, bytes: *const u8, size: usize);

/// `ext_store_calls`: the functions of a store. The first argument of each is a pointer to a [`Store`], which [`Calls::free`]
/// takes. They return null, or a message allocated with malloc.
#[repr(C)]
#[derive(Debug)]
pub(in crate::distributed) struct Calls {
    clone: unsafe extern "C" fn(*const Store, *mut *mut Store) -> *mut c_char,
    free: unsafe extern "C" fn(*mut Store),
    set: unsafe extern "C" fn(*const Store, Bytes<'_>, Bytes<'_>) -> *mut c_char,
    compare_set: unsafe extern "C" fn(*const Store, Bytes<'_>, Bytes<'_>, Bytes<'_>, Sink, *mut c_void) -> *mut c_char,
    get: unsafe extern "C" fn(*const Store, Bytes<'_>, u64, Sink, *mut c_void) -> *mut c_char,
    add: unsafe extern "C" fn(*const Store, Bytes<'_>, i64, *mut i64) -> *mut c_char,
    check: unsafe extern "C" fn(*const Store, *const Bytes<'_>, usize, *mut c_int) -> *mut c_char,
    wait: unsafe extern "C" fn(*const Store, *const Bytes<'_>, usize, u64) -> *mut c_char,
    delete: unsafe extern "C" fn(*const Store, Bytes<'_>, *mut c_int) -> *mut c_char,
    count: unsafe extern "C" fn(*const Store, *mut i64) -> *mut c_char,
}

/// The functions of [`Store`].
pub(in crate::distributed) static CALLS: Calls = Calls { clone, free, set, compare_set, get, add, check, wait, delete, count };

/// Writes the value of a result to `out` and returns null, or returns the message of its error.
///
/// # Safety
/// `out` is valid for writes.
unsafe fn write<T>(result: Result<T, StoreError>, out: *mut T) -> *mut c_char {
    match result {
        Ok(value) => {
            // SAFETY: the caller guarantees it.
            unsafe { out.write(value) };
            null_mut()
        }
        Err(error) => message(&error),
    }
}

fn message(error: &StoreError) -> *mut c_char {
    let text = CString::new(error.to_string().replace('\0', "?")).unwrap_or_default();
    // SAFETY: the text is NUL-terminated.
    unsafe { libc::strdup(text.as_ptr()) }
}

fn done(result: Result<(), StoreError>) -> *mut c_char {
    result.map_or_else(|error| message(&error), |()| null_mut())
}

/// # Safety
/// `sink` may be called with `target`.
unsafe fn pass(result: Result<Vec<u8>, StoreError>, sink: Sink, target: *mut c_void) -> *mut c_char {
    done(result.map(|value| {
        // SAFETY: the value outlives the call, and the caller guarantees the rest.
        unsafe { sink(target, value.as_ptr(), value.len()) }
    }))
}

/// Converts a timeout of c10d, in which 0 means no timeout.
fn duration(milliseconds: u64) -> Duration {
    Duration::from_millis(if milliseconds == 0 { u64::MAX } else { milliseconds })
}

/// # Safety
/// `keys` points to `count` keys that are borrowed for the lifetime of the result.
unsafe fn list<'a>(keys: *const Bytes<'a>, count: usize) -> Vec<&'a [u8]> {
    // SAFETY: the caller guarantees it.
    (0..count).map(|index| unsafe { (*keys.add(index)).as_slice() }).collect()
}

// The functions of `CALLS` are called by `RustStore` in csrc/store.cpp: `store` was created by `Box::into_raw` and not freed,
// bytes are borrowed for the call, and outputs are valid for writes.

unsafe extern "C" fn clone(store: *const Store, out: *mut *mut Store) -> *mut c_char {
    // SAFETY: see above.
    unsafe { write((*store).try_clone().map(|other| Box::into_raw(Box::new(other))), out) }
}

unsafe extern "C" fn free(store: *mut Store) {
    // SAFETY: see above; it is called once.
    drop(unsafe { Box::from_raw(store) });
}

unsafe extern "C" fn set(store: *const Store, key: Bytes<'_>, value: Bytes<'_>) -> *mut c_char {
    // SAFETY: see above.
    done(unsafe { (*store).set_bytes(key.as_slice(), value.as_slice()) })
}

unsafe extern "C" fn compare_set(
    store: *const Store,
    key: Bytes<'_>,
    expected: Bytes<'_>,
    desired: Bytes<'_>,
    sink: Sink,
    target: *mut c_void,
) -> *mut c_char {
    // SAFETY: see above.
    unsafe { pass((*store).compare_set(key.as_slice(), expected.as_slice(), desired.as_slice()), sink, target) }
}

unsafe extern "C" fn get(store: *const Store, key: Bytes<'_>, wait: u64, sink: Sink, target: *mut c_void) -> *mut c_char {
    // SAFETY: see above.
    unsafe { pass((*store).get_bytes(key.as_slice(), duration(wait)), sink, target) }
}

unsafe extern "C" fn add(store: *const Store, key: Bytes<'_>, amount: i64, sum: *mut i64) -> *mut c_char {
    // SAFETY: see above.
    unsafe { write((*store).number(&Request::Add { key: key.as_slice(), amount }), sum) }
}

unsafe extern "C" fn check(store: *const Store, keys: *const Bytes<'_>, count: usize, all: *mut c_int) -> *mut c_char {
    // SAFETY: see above.
    unsafe { write((*store).number(&Request::Check { keys: list(keys, count) }).map(|all| c_int::from(all != 0)), all) }
}

unsafe extern "C" fn wait(store: *const Store, keys: *const Bytes<'_>, count: usize, wait: u64) -> *mut c_char {
    // SAFETY: see above.
    done(unsafe { (*store).wait_bytes(list(keys, count), duration(wait)) })
}

unsafe extern "C" fn delete(store: *const Store, key: Bytes<'_>, deleted: *mut c_int) -> *mut c_char {
    // SAFETY: see above.
    unsafe {
        write((*store).number(&Request::Delete { key: key.as_slice() }).map(|deleted| c_int::from(deleted != 0)), deleted)
    }
}

unsafe extern "C" fn count(store: *const Store, keys: *mut i64) -> *mut c_char {
    // SAFETY: see above.
    unsafe { write((*store).number(&Request::Count), keys) }
}
