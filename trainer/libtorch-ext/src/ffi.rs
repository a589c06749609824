//! The C interface of `csrc`, see `csrc/ext.h` for who owns what.

use std::ffi::{CStr, c_char, c_int, c_void};

use tch::{TchError, Tensor};

/// `at::Tensor *`.
pub(crate) type TensorPtr = *mut c_void;

pub(crate) type BackwardFn = unsafe extern "C" fn(
    closure: *mut c_void,
    grads: *const TensorPtr,
    n_grads: usize,
    out: *mut TensorPtr,
    n_out: usize,
) -> *mut c_char;

unsafe extern "C" {
    fn glm_ext_free(message: *mut c_char);
    pub(crate) fn glm_ext_record(
        inputs: *const TensorPtr,
        n_inputs: usize,
        outputs: *const TensorPtr,
        n_outputs: usize,
        closure: *mut c_void,
        backward: BackwardFn,
        drop: unsafe extern "C" fn(*mut c_void),
        name: *const c_char,
    ) -> *mut c_char;
    pub(crate) fn glm_ext_set_gradient(parameter: TensorPtr, gradient: TensorPtr) -> *mut c_char;
    pub(crate) fn glm_ext_grad_enabled() -> c_int;
    pub(crate) fn glm_ext_matmul_nt(out: *mut TensorPtr, a: TensorPtr, b: TensorPtr) -> *mut c_char;
    pub(crate) fn glm_ext_fused_adamw(
        params: *const TensorPtr,
        grads: *const TensorPtr,
        first: *const TensorPtr,
        second: *const TensorPtr,
        steps: *const TensorPtr,
        n: usize,
        lr: TensorPtr,
        beta1: f64,
        beta2: f64,
        weight_decay: f64,
        eps: f64,
        scale: TensorPtr,
        found_inf: TensorPtr,
    ) -> *mut c_char;
    pub(crate) fn glm_ext_parallel_for(
        n: usize,
        grain: usize,
        body: unsafe extern "C" fn(*mut c_void, usize, usize),
        context: *mut c_void,
    ) -> *mut c_char;
    pub(crate) fn glm_ext_stream_from_pool(device: c_int, out: *mut *mut c_void) -> *mut c_char;
    pub(crate) fn glm_ext_stream_current(device: c_int, out: *mut *mut c_void) -> *mut c_char;
    pub(crate) fn glm_ext_stream_free(stream: *mut c_void);
    pub(crate) fn glm_ext_stream_exchange(stream: *const c_void, before: *mut *mut c_void) -> *mut c_char;
    pub(crate) fn glm_ext_event_record(stream: *const c_void, out: *mut *mut c_void) -> *mut c_char;
    pub(crate) fn glm_ext_event_block(event: *const c_void, stream: *const c_void) -> *mut c_char;
    pub(crate) fn glm_ext_event_query(event: *const c_void, done: *mut c_int) -> *mut c_char;
    pub(crate) fn glm_ext_event_synchronize(event: *const c_void) -> *mut c_char;
    pub(crate) fn glm_ext_event_free(event: *mut c_void);
    pub(crate) fn glm_ext_record_stream(tensor: TensorPtr, stream: *const c_void) -> *mut c_char;
    pub(crate) fn glm_ext_peak_bytes(device: c_int, bytes: *mut u64) -> *mut c_char;
}

/// The pointer to lend to C++.
pub(crate) fn lend(tensor: &Tensor) -> TensorPtr {
    tensor.as_ptr().cast_mut().cast()
}

/// Turns what a C function returned into a result.
pub(crate) fn check(message: *mut c_char) -> Result<(), TchError> {
    if message.is_null() {
        return Ok(());
    }
    // SAFETY: a message that is not null ends with a zero byte and is ours to free, see csrc/ext.h.
    let text = unsafe { CStr::from_ptr(message) }.to_string_lossy().into_owned();
    // SAFETY: as above; it is not used behind this line.
    unsafe { glm_ext_free(message) };
    Err(TchError::Torch(text))
}
