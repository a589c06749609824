//! Declarations of the C interface of `csrc`. `csrc/ext.h` describes the ownership of arguments and results.

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
    fn glm_ext_libtorch_version() -> *mut c_char;
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
    pub(crate) fn glm_ext_backward(outputs: *const TensorPtr, gradients: *const TensorPtr, n: usize) -> *mut c_char;
    pub(crate) fn glm_ext_allocate_zeros(tensor: TensorPtr) -> *mut c_char;
    pub(crate) fn glm_ext_identity(tensor: TensorPtr) -> *const c_void;
    pub(crate) fn glm_ext_release(tensor: TensorPtr) -> *mut c_char;
    pub(crate) fn glm_ext_grad_enabled() -> c_int;
    pub(crate) fn glm_ext_matmul_nt(out: *mut TensorPtr, a: TensorPtr, b: TensorPtr) -> *mut c_char;
    pub(crate) fn glm_ext_linear_nt(out: *mut TensorPtr, x: TensorPtr, weight: TensorPtr, bias: TensorPtr) -> *mut c_char;
    pub(crate) fn glm_ext_add_product_tn(total: TensorPtr, a: TensorPtr, b: TensorPtr) -> *mut c_char;
    pub(crate) fn glm_ext_stream_handle(device: c_int, out: *mut *mut c_void) -> *mut c_char;
    pub(crate) fn glm_ext_fused_adamw(
        params: *const TensorPtr,
        grads: *const TensorPtr,
        exp_avgs: *const TensorPtr,
        exp_avg_sqs: *const TensorPtr,
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
    pub(crate) fn glm_ext_set_current_device(device: c_int) -> *mut c_char;
    pub(crate) fn glm_ext_current_device() -> c_int;
    pub(crate) fn glm_ext_stream_from_pool(device: c_int, out: *mut *mut c_void) -> *mut c_char;
    pub(crate) fn glm_ext_stream_current(device: c_int, out: *mut *mut c_void) -> *mut c_char;
    pub(crate) fn glm_ext_stream_free(stream: *mut c_void);
    pub(crate) fn glm_ext_stream_exchange(stream: *const c_void, before: *mut *mut c_void) -> *mut c_char;
    pub(crate) fn glm_ext_event_record(stream: *const c_void, timing: c_int, out: *mut *mut c_void) -> *mut c_char;
    pub(crate) fn glm_ext_event_block(event: *const c_void, stream: *const c_void) -> *mut c_char;
    pub(crate) fn glm_ext_event_query(event: *const c_void, reached: *mut c_int) -> *mut c_char;
    pub(crate) fn glm_ext_event_synchronize(event: *const c_void) -> *mut c_char;
    pub(crate) fn glm_ext_event_elapsed(begin: *const c_void, end: *const c_void, milliseconds: *mut f64) -> *mut c_char;
    pub(crate) fn glm_ext_event_free(event: *mut c_void);
    pub(crate) fn glm_ext_record_stream(tensor: TensorPtr, stream: *const c_void) -> *mut c_char;
    pub(crate) fn glm_ext_peak_bytes(device: c_int, bytes: *mut u64) -> *mut c_char;
    pub(crate) fn glm_ext_release_memory(device: c_int) -> *mut c_char;
    pub(crate) fn glm_ext_available_bytes(device: c_int, bytes: *mut u64) -> *mut c_char;
    pub(crate) fn glm_ext_copy_async(to: TensorPtr, from: TensorPtr) -> *mut c_char;
    #[cfg(feature = "cuda")]
    pub(crate) fn glm_ext_disable_cudnn_attention();
    pub(crate) fn glm_ext_empty_pinned(bytes: usize, out: *mut TensorPtr) -> *mut c_char;
}

/// Returns the tensor's pointer, to be borrowed by C++ for the duration of a call.
pub(crate) fn as_raw(tensor: &Tensor) -> TensorPtr {
    tensor.as_ptr().cast_mut().cast()
}

/// Converts the return value of a C function to a result.
pub(crate) fn check(message: *mut c_char) -> Result<(), TchError> {
    // SAFETY: a message is NUL-terminated and owned by the caller, see csrc/ext.h.
    unsafe { take_text(message) }.map_or(Ok(()), |text| Err(TchError::Torch(text)))
}

/// Returns the version of the loaded libtorch, if it says.
pub(crate) fn libtorch_version() -> Option<String> {
    // SAFETY: the result is NUL-terminated and owned by the caller, or null.
    unsafe { take_text(glm_ext_libtorch_version()) }
}

/// Copies a text and frees it; `None` for null.
///
/// # Safety
/// `text` is null, or NUL-terminated and owned by the caller, who does not use it afterwards.
unsafe fn take_text(text: *mut c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: as the caller promises.
    let copy = unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned();
    // SAFETY: as above; the text is not used afterwards.
    unsafe { glm_ext_free(text) };
    Some(copy)
}
