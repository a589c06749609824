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

/// Returns the memory of this machine in bytes, or the limit of this process's control group if that is lower. `None` if neither is known.
pub fn machine_bytes() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let of_machine = read("/proc/meminfo").as_deref().and_then(total);
    let of_group = read("/sys/fs/cgroup/memory.max").and_then(|text| text.trim().parse().ok());
    [of_machine, of_group].into_iter().flatten().min()
}

/// Parses the `MemTotal` line of `/proc/meminfo`.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
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

/// Number of the option in mimalloc 2.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// Milliseconds after which the allocator returns freed memory to the system.
const KEEP_MILLISECONDS: libc::c_long = 1000;

/// Makes the allocator keep freed memory for the next steps instead of returning it to the system at once. The page faults of new
/// memory would take several percent of a step's time.
///
/// The program and libtorch allocate with mimalloc: the shapes of batches vary, and the heap of glibc becomes so fragmented by them
/// that it grew for hours, to several times the memory in use.
pub fn keep_freed_memory() {
    // SAFETY: sets a number, which other threads read atomically.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, KEEP_MILLISECONDS) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_the_machine_is_parsed() {
        assert_eq!(total("MemTotal:       24576 kB\nMemFree:  1 kB\n"), Some(24_576 << 10));
        assert_eq!(total("MemFree:  1 kB\n"), None);
    }
}
