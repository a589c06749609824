//! How much memory this process has used at most.

use tch::Device;

/// Most bytes that were held at a time: of resident memory on a CPU, of tensors on a GPU. `None` where the system does not say.
pub fn peak_bytes(device: Device) -> Option<u64> {
    match device {
        Device::Cuda(index) => libtorch_ext::stream::peak_bytes(index).ok(),
        _ => resident_peak(&std::fs::read_to_string("/proc/self/status").ok()?),
    }
}

/// The high water mark in the text of Linux' `/proc/self/status`.
fn resident_peak(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// Keeps large blocks of memory for the next step instead of giving them back to the system at once: every page that comes
/// anew costs a fault, which for a step's activations adds up to several percent of its time.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const LARGEST: libc::c_int = i32::MAX;
        // SAFETY: sets two numbers of the allocator; called before other threads are started.
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
    fn the_high_water_mark_is_found() {
        assert_eq!(resident_peak("Name:\tx\nVmPeak:\t  9 kB\nVmHWM:\t   2048 kB\nVmRSS:\t 5 kB\n"), Some(2 << 20));
        assert_eq!(resident_peak("Name:\tx\n"), None);
    }
}
