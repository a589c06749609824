//! Streams, events and memory of a GPU.
//!
//! They go through the interface that libtorch has for all kinds of devices, so this builds without CUDA; without a GPU
//! every function returns an error.

use std::ffi::{c_int, c_void};
use std::ptr::null_mut;

use tch::{TchError, Tensor};

use crate::ffi::{self, check, lend};

/// An order of work on a GPU: what is asked for on one stream runs one after the other, streams run side by side.
#[derive(Debug)]
pub struct Stream {
    raw: *mut c_void,
}

// SAFETY: a `c10::Stream` is three plain numbers, which nothing here changes.
unsafe impl Send for Stream {}
// SAFETY: as above.
unsafe impl Sync for Stream {}

impl Stream {
    /// One of the GPU's streams beside the default one.
    ///
    /// # Errors
    /// A [`TchError`] without such a GPU.
    pub fn from_pool(device: usize) -> Result<Self, TchError> {
        let mut raw = null_mut();
        // SAFETY: `raw` has room for the pointer.
        check(unsafe { ffi::glm_ext_stream_from_pool(device as c_int, &mut raw) })?;
        Ok(Self { raw })
    }

    /// The stream that this thread's operators go to.
    ///
    /// # Errors
    /// A [`TchError`] without such a GPU.
    pub fn current(device: usize) -> Result<Self, TchError> {
        let mut raw = null_mut();
        // SAFETY: `raw` has room for the pointer.
        check(unsafe { ffi::glm_ext_stream_current(device as c_int, &mut raw) })?;
        Ok(Self { raw })
    }

    /// Runs `body` with this thread's operators going to this stream.
    ///
    /// # Errors
    /// A [`TchError`] of the device, or that of `body`.
    pub fn scope<T>(&self, body: impl FnOnce() -> Result<T, TchError>) -> Result<T, TchError> {
        struct Restore(Stream);
        impl Drop for Restore {
            fn drop(&mut self) {
                let mut left = null_mut();
                // SAFETY: the stream is alive, and `left` has room for the pointer.
                if check(unsafe { ffi::glm_ext_stream_exchange(self.0.raw, &mut left) }).is_ok() {
                    drop(Stream { raw: left });
                }
            }
        }
        let mut before = null_mut();
        // SAFETY: the stream is alive, and `before` has room for the pointer.
        check(unsafe { ffi::glm_ext_stream_exchange(self.raw, &mut before) })?;
        let _restore = Restore(Stream { raw: before });
        body()
    }

    /// Keeps the memory of `tensor`, which another stream made, from being given away while this stream may still use it.
    ///
    /// # Errors
    /// A [`TchError`] of the device.
    pub fn uses(&self, tensor: &Tensor) -> Result<(), TchError> {
        // SAFETY: both outlive the call.
        check(unsafe { ffi::glm_ext_record_stream(lend(tensor), self.raw) })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: `raw` came from one of the functions above and is not used again.
        unsafe { ffi::glm_ext_stream_free(self.raw) };
    }
}

/// A mark on a stream that others can wait for.
#[derive(Debug)]
pub struct Event {
    raw: *mut c_void,
}

// SAFETY: an event may be waited for and destroyed from any thread; it is recorded once, before anybody else has it.
unsafe impl Send for Event {}

impl Event {
    /// A mark behind what `stream` has been asked to do so far.
    ///
    /// # Errors
    /// A [`TchError`] of the device.
    pub fn record(stream: &Stream) -> Result<Self, TchError> {
        let mut raw = null_mut();
        // SAFETY: the stream is alive, and `raw` has room for the pointer.
        check(unsafe { ffi::glm_ext_event_record(stream.raw, &mut raw) })?;
        Ok(Self { raw })
    }

    /// Lets `stream` wait for the mark; the calling thread goes on.
    ///
    /// # Errors
    /// A [`TchError`] of the device.
    pub fn block(&self, stream: &Stream) -> Result<(), TchError> {
        // SAFETY: both are alive.
        check(unsafe { ffi::glm_ext_event_block(self.raw, stream.raw) })
    }

    /// Whether the mark has been reached.
    ///
    /// # Errors
    /// A [`TchError`] of the device.
    pub fn is_done(&self) -> Result<bool, TchError> {
        let mut done = 0;
        // SAFETY: the event is alive, and `done` has room for the answer.
        check(unsafe { ffi::glm_ext_event_query(self.raw, &mut done) })?;
        Ok(done != 0)
    }

    /// Waits for the mark.
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
        // SAFETY: `raw` came from `record` and is not used again.
        unsafe { ffi::glm_ext_event_free(self.raw) };
    }
}

/// Most bytes that tensors of this process have held on a GPU.
///
/// # Errors
/// A [`TchError`] without such a GPU.
pub fn peak_bytes(device: usize) -> Result<u64, TchError> {
    let mut bytes = 0;
    // SAFETY: `bytes` has room for the answer.
    check(unsafe { ffi::glm_ext_peak_bytes(device as c_int, &mut bytes) })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_gpu_there_is_an_error_and_no_crash() {
        if tch::Cuda::is_available() {
            return;
        }
        assert!(Stream::from_pool(0).is_err());
        assert!(Stream::current(0).is_err());
        assert!(peak_bytes(0).is_err());
    }
}
