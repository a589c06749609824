//! Peak memory of this process, and the allocator's settings.

use tch::Device;

/// Returns the peak memory in bytes: resident memory on a CPU, memory of tensors on a GPU. `None` if it is not available.
pub fn peak_bytes(device: Device) -> Option<u64> {
    match device {
        Device::Cuda(index) => libtorch_ext::stream::peak_bytes(index).ok(),
        _ => resident_peak(&std::fs::read_to_string("/proc/self/status").ok()?),
    }
}

/// Parses the peak resident memory from the text of Linux's `/proc/self/status`.
fn resident_peak(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peak_memory_is_parsed() {
        assert_eq!(resident_peak("Name:\tx\nVmPeak:\t  9 kB\nVmHWM:\t   2048 kB\nVmRSS:\t 5 kB\n"), Some(2 << 20));
        assert_eq!(resident_peak("Name:\tx\n"), None);
    }
}
