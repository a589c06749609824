//! Current device, streams, events and memory statistics of a GPU.
//!
//! The functions use libtorch's device-independent interface, so this module builds without CUDA. Without a GPU every function
//! returns an error, except that [`current_device`] returns none.

use std::ffi::{c_int, c_void};
use std::ptr::null_mut;
use std::time::Duration;

use tch::{TchError, Tensor};

use crate::ffi::{self, as_raw, check};

/// Sets the GPU that the calling thread uses where no other is given. Every thread that uses a GPU should set it: a thread starts
/// with GPU 0, and some functions of CUDA then reserve memory there for this process, even if all tensors are on another GPU.
///
/// # Errors
/// A [`TchError`] if there is no such GPU.
pub fn set_current_device(device: usize) -> Result<(), TchError> {
    // SAFETY: a call without pointers.
    check(unsafe { ffi::glm_ext_set_current_device(device as c_int) })
}

/// Returns the GPU that the calling thread uses where no other is given, or `None` without a GPU or before
/// [`crate::cuda::load`].
pub fn current_device() -> Option<usize> {
    // SAFETY: a call without pointers.
    usize::try_from(unsafe { ffi::glm_ext_current_device() }).ok()
}

/// A queue of work on a GPU. Operations on one stream run in order; different streams run concurrently.
#[derive(Debug)]
pub struct Stream {
    raw: *mut c_void,
}

// SAFETY: a `c10::Stream` consists of three integers, which are never modified.
unsafe impl Send for Stream {}
// SAFETY: as above.
unsafe impl Sync for Stream {}

impl Stream {
    /// Returns a stream from the GPU's pool, different from the default stream.
    ///
    /// # Errors
    /// A [`TchError`] if there is no such GPU.
    pub fn from_pool(device: usize) -> Result<Self, TchError> {
        let mut raw = null_mut();
        // SAFETY: `raw` is valid for writes.
        check(unsafe { ffi::glm_ext_stream_from_pool(device as c_int, &mut raw) })?;
        Ok(Self { raw })
    }

    /// Returns the current stream of this thread.
    ///
    /// # Errors
    /// A [`TchError`] if there is no such GPU.
    pub fn current(device: usize) -> Result<Self, TchError> {
        let mut raw = null_mut();
        // SAFETY: `raw` is valid for writes.
        check(unsafe { ffi::glm_ext_stream_current(device as c_int, &mut raw) })?;
        Ok(Self { raw })
    }

    /// Runs `body` with this stream as the thread's current stream.
    ///
    /// # Errors
    /// A [`TchError`] of the device or of `body`.
    pub fn scope<T>(&self, body: impl FnOnce() -> Result<T, TchError>) -> Result<T, TchError> {
        struct Restore(Stream);
        impl Drop for Restore {
            fn drop(&mut self) {
                let mut replaced = null_mut();
                // SAFETY: the stream is alive, and `replaced` is valid for writes.
                if check(unsafe { ffi::glm_ext_stream_exchange(self.0.raw, &mut replaced) }).is_ok() {
                    drop(Stream { raw: replaced });
                }
            }
        }
        let mut previous = null_mut();
        // SAFETY: the stream is alive, and `previous` is valid for writes.
        check(unsafe { ffi::glm_ext_stream_exchange(self.raw, &mut previous) })?;
        let _restore = Restore(Stream { raw: previous });
        body()
    }

    /// Records that this stream uses `tensor`, which was allocated on another stream. The allocator then does not reuse its
    /// memory before the work queued on this stream is done.
    ///
    /// # Errors
    /// A [`TchError`] of the device.
    pub fn uses(&self, tensor: &Tensor) -> Result<(), TchError> {
        // SAFETY: both outlive the call.
        check(unsafe { ffi::glm_ext_record_stream(as_raw(tensor), self.raw) })
    }
}

/// Returns the `CUstream` of the current stream of this thread.
///
/// # Errors
/// A [`TchError`] if there is no such GPU.
pub fn current_handle(device: usize) -> Result<*mut c_void, TchError> {
    let mut handle = null_mut();
    // SAFETY: `handle` is valid for writes.
    check(unsafe { ffi::glm_ext_stream_handle(device as c_int, &mut handle) })?;
    Ok(handle)
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: `raw` was returned by one of the functions above and is not used again.
        unsafe { ffi::glm_ext_stream_free(self.raw) };
    }
}

/// A point in a stream's queue that threads and other streams can wait for.
#[derive(Debug)]
pub struct Event {
    raw: *mut c_void,
}

// SAFETY: an event may be waited for and destroyed on any thread, and is recorded only once, in `record_with`.
unsafe impl Send for Event {}

impl Event {
    /// Records an event after the work queued on `stream` so far.
    ///
    /// # Errors
    /// A [`TchError`] of the device.
    pub fn record(stream: &Stream) -> Result<Self, TchError> {
        Self::record_with(stream, false)
    }

    fn record_with(stream: &Stream, timing: bool) -> Result<Self, TchError> {
        let mut raw = null_mut();
        // SAFETY: the stream is alive, and `raw` is valid for writes.
        check(unsafe { ffi::glm_ext_event_record(stream.raw, c_int::from(timing), &mut raw) })?;
        Ok(Self { raw })
    }

    /// Makes `stream` wait for the event, without blocking the calling thread.
    ///
    /// # Errors
    /// A [`TchError`] of the device.
    pub fn block(&self, stream: &Stream) -> Result<(), TchError> {
        // SAFETY: both are alive.
        check(unsafe { ffi::glm_ext_event_block(self.raw, stream.raw) })
    }

    /// Returns true if the event is reached, without waiting.
    ///
    /// # Errors
    /// A [`TchError`] of the device.
    pub fn is_reached(&self) -> Result<bool, TchError> {
        let mut reached = 0;
        // SAFETY: the event is alive, and `reached` is valid for writes.
        check(unsafe { ffi::glm_ext_event_query(self.raw, &mut reached) })?;
        Ok(reached != 0)
    }

    /// Blocks the calling thread until the event is reached.
    ///
    /// # Errors
    /// A [`TchError`] of the device.
    pub fn synchronize(&self) -> Result<(), TchError> {
        // SAFETY: the event is alive.
        check(unsafe { ffi::glm_ext_event_synchronize(self.raw) })
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: `raw` was returned by `record_with` and is not used again.
        unsafe { ffi::glm_ext_event_free(self.raw) };
    }
}

/// An event with a time stamp, which the GPU writes when it reaches the event.
#[derive(Debug)]
pub struct TimingEvent(Event);

impl TimingEvent {
    /// Records an event after the work queued on `stream` so far.
    ///
    /// # Errors
    /// A [`TchError`] of the device.
    pub fn record(stream: &Stream) -> Result<Self, TchError> {
        Event::record_with(stream, true).map(Self)
    }

    /// Returns the time between an earlier event of the same GPU and this one, after waiting for both.
    ///
    /// # Errors
    /// A [`TchError`] of the device.
    pub fn elapsed_since(&self, earlier: &Self) -> Result<Duration, TchError> {
        let mut milliseconds = 0.0;
        // SAFETY: both events are alive, and `milliseconds` is valid for writes.
        check(unsafe { ffi::glm_ext_event_elapsed(earlier.0.raw, self.0.raw, &mut milliseconds) })?;
        Ok(Duration::try_from_secs_f64(milliseconds / 1e3).unwrap_or_default())
    }
}

/// Returns the peak number of bytes allocated by tensors of this process on a GPU.
///
/// # Errors
/// A [`TchError`] if there is no such GPU.
pub fn peak_bytes(device: usize) -> Result<u64, TchError> {
    let mut bytes = 0;
    // SAFETY: `bytes` is valid for writes.
    check(unsafe { ffi::glm_ext_peak_bytes(device as c_int, &mut bytes) })?;
    Ok(bytes)
}

/// Returns cached memory that no tensor uses to the GPU, and lets [`peak_bytes`] start anew.
///
/// # Errors
/// A [`TchError`] if there is no such GPU.
pub fn release_memory(device: usize) -> Result<(), TchError> {
    // SAFETY: the call has no requirements.
    check(unsafe { ffi::glm_ext_release_memory(device as c_int) })
}

/// Returns the number of bytes that tensors of this process can still allocate on a GPU.
///
/// # Errors
/// A [`TchError`] if there is no such GPU.
pub fn available_bytes(device: usize) -> Result<u64, TchError> {
    let mut bytes = 0;
    // SAFETY: `bytes` is valid for writes.
    check(unsafe { ffi::glm_ext_available_bytes(device as c_int, &mut bytes) })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_fail_without_a_gpu() {
        if tch::Cuda::is_available() {
            return;
        }
        assert!(set_current_device(0).is_err());
        assert_eq!(current_device(), None);
        assert!(Stream::from_pool(0).is_err());
        assert!(Stream::current(0).is_err());
        assert!(peak_bytes(0).is_err());
        assert!(release_memory(0).is_err());
        assert!(available_bytes(0).is_err());
    }
}
