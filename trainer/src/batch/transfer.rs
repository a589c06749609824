//! The seam between the feeder and a device: page-locked memory and a copy stream on a GPU, next to nothing on the CPU.

use std::fmt;

use tch::{Device, TchError, Tensor};

/// Copies columns to a device while another thread computes on it. Used by one thread, the feeder's.
///
/// An implementation for a GPU allocates page-locked memory in [`pin`](Self::pin), starts the copy on a stream of its own in
/// [`copy_async`](Self::copy_async), and records an event on that stream in [`ready`](Self::ready).
pub trait Transfer: Send + fmt::Debug {
    /// Lays columns end to end in one host tensor `[sum of lengths]`, `Kind::Int64`, that a copy can read from.
    ///
    /// The tensor is dropped as soon as the copy has been started, so memory that a copy still reads must outlive it; that
    /// of libtorch's page-locked allocator does, for copies made by libtorch.
    ///
    /// # Errors
    /// A [`TchError`], for example out of memory.
    fn pin(&mut self, columns: &[&[i64]]) -> Result<Tensor, TchError>;

    /// Starts copying a tensor that [`pin`](Self::pin) made; the result is on the device and may not be there yet.
    ///
    /// # Errors
    /// A [`TchError`], for example out of memory.
    fn copy_async(&mut self, pinned: &Tensor) -> Result<Tensor, TchError>;

    /// Returns a mark after all copies started so far.
    ///
    /// # Errors
    /// A [`TchError`].
    fn ready(&mut self) -> Result<Box<dyn Ready>, TchError>;
}

/// A mark after copies. The feeder thread makes it, the training thread uses it.
pub trait Ready: Send + fmt::Debug {
    /// Makes the calling thread's current stream, not the thread, wait for the copies into these tensors; and keeps their memory
    /// from being reused before that stream is done with it.
    ///
    /// # Errors
    /// A [`TchError`].
    fn wait_on_current_stream(&self, copies: &[&Tensor]) -> Result<(), TchError>;
}

/// Copies at once, and is done when it returns: on the CPU there is nothing to hide.
#[derive(Debug, Clone, Copy)]
pub struct Direct {
    device: Device,
}

impl Direct {
    /// Copies to this device.
    pub fn to(device: Device) -> Self {
        Self { device }
    }
}

impl Transfer for Direct {
    fn pin(&mut self, columns: &[&[i64]]) -> Result<Tensor, TchError> {
        Tensor::f_from_slice(&columns.concat())
    }

    fn copy_async(&mut self, pinned: &Tensor) -> Result<Tensor, TchError> {
        match self.device {
            Device::Cpu => Ok(pinned.shallow_clone()),
            device => pinned.f_to_device(device),
        }
    }

    fn ready(&mut self) -> Result<Box<dyn Ready>, TchError> {
        Ok(Box::new(Done))
    }
}

/// The mark of copies that were done when they returned.
#[derive(Debug, Clone, Copy)]
struct Done;

impl Ready for Done {
    fn wait_on_current_stream(&self, _: &[&Tensor]) -> Result<(), TchError> {
        Ok(())
    }
}
