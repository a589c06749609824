//! Memory of this process: its peak, and the allocator's settings.

use glm_support::memory::peak_resident_bytes;
use tch::{Device, TchError};

/// Returns the peak memory in bytes: resident memory on a CPU, memory of tensors on a GPU. `None` if it is not available.
pub fn peak_bytes(device: Device) -> Option<u64> {
    match device {
        Device::Cuda(index) => libtorch_ext::stream::peak_bytes(index).ok(),
        _ => peak_resident_bytes(),
    }
}

/// Returns cached memory of tensors to a GPU, and lets [`peak_bytes`] start anew. Does nothing on a CPU, where the peak is that
/// of the process.
///
/// # Errors
/// A [`TchError`] of the GPU.
pub fn release(device: Device) -> Result<(), TchError> {
    match device {
        Device::Cuda(index) => libtorch_ext::stream::release_memory(index),
        _ => Ok(()),
    }
}

/// Makes the allocator keep large freed blocks for the next step instead of returning them to the system. The page faults of
/// new blocks would take several percent of a step's time.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const LARGEST: libc::c_int = i32::MAX;
        // SAFETY: sets two parameters of the allocator, before other threads are started.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGEST);
            libc::mallopt(libc::M_TRIM_THRESHOLD, LARGEST);
        }
    }
}
