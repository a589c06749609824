//! Selection of the device.

use std::fmt;
use std::str::FromStr;

use tch::{Cuda, Device};
use thiserror::Error;

/// What `--device` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceChoice {
    /// A GPU if there is one, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// The GPU with this index.
    Cuda(usize),
}

/// Why a device cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum DeviceError {
    /// The text names no device.
    #[error("`{0}` is no device; there are auto, cpu, cuda and cuda:N")]
    Unknown(String),
    /// Several processes would share a GPU.
    #[error("--device cuda:{index} would be shared by all processes of this machine: say cuda, and each gets its own")]
    Shared {
        /// The GPU's index.
        index: usize,
    },
    /// A GPU was asked for by name and cannot be used.
    #[error("cuda:{index} cannot be used: {reason}")]
    NoGpu {
        /// The GPU's index.
        index: usize,
        /// What is missing.
        reason: String,
    },
}

impl FromStr for DeviceChoice {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || DeviceError::Unknown(text.to_owned());
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => text.strip_prefix("cuda:").and_then(|index| index.parse().ok()).map(Self::Cuda).ok_or_else(unknown),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl DeviceChoice {
    /// The device of the process that has this number on its machine: each has a GPU of its own.
    ///
    /// # Errors
    /// As [`Self::resolve`]; also where there are fewer GPUs than processes, or one is named that all would share.
    pub fn resolve_for(self, local_rank: usize) -> Result<Device, DeviceError> {
        match self {
            Self::Cuda(index) if index > 0 => Err(DeviceError::Shared { index }),
            Self::Cuda(_) => Self::Cuda(local_rank).resolve(),
            Self::Auto if gpu_count().is_ok() => Self::Cuda(local_rank).resolve(),
            other => other.resolve(),
        }
    }

    /// The device itself.
    ///
    /// # Errors
    /// [`DeviceError::NoGpu`] where a GPU was asked for by name and is not there; `Auto` takes the CPU then.
    pub fn resolve(self) -> Result<Device, DeviceError> {
        let index = match self {
            Self::Cpu => return Ok(Device::Cpu),
            Self::Auto => 0,
            Self::Cuda(index) => index,
        };
        let count = match (libtorch_ext::cuda::load(), self) {
            (Ok(()), _) => Cuda::device_count().max(0) as usize,
            (Err(_), Self::Auto) if !driver_is_there() => 0,
            (Err(reason), Self::Auto) => {
                tracing::warn!("this machine has an NVIDIA driver, but {reason}; using the CPU");
                0
            }
            (Err(reason), _) => return Err(DeviceError::NoGpu { index, reason: reason.to_string() }),
        };
        match self {
            Self::Auto if count == 0 => Ok(Device::Cpu),
            _ if index < count => {
                if self == Self::Auto && count > 1 {
                    tracing::warn!("{count} GPUs are here; one process uses one of them, cuda:0: --nproc {count} uses all");
                }
                Ok(Device::Cuda(index))
            }
            _ => Err(DeviceError::NoGpu { index, reason: format!("libtorch sees {count} GPUs") }),
        }
    }
}

/// How many GPUs libtorch sees.
///
/// # Errors
/// [`DeviceError::NoGpu`] where it sees none.
pub fn gpu_count() -> Result<usize, DeviceError> {
    let none = |reason| DeviceError::NoGpu { index: 0, reason };
    libtorch_ext::cuda::load().map_err(|reason| none(reason.to_string()))?;
    match Cuda::device_count() {
        count if count > 0 => Ok(count as usize),
        _ => Err(none("libtorch sees 0 GPUs".to_owned())),
    }
}

fn driver_is_there() -> bool {
    std::path::Path::new("/proc/driver/nvidia/version").exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_devices() {
        assert_eq!("auto".parse(), Ok(DeviceChoice::Auto));
        assert_eq!("cuda:3".parse(), Ok(DeviceChoice::Cuda(3)));
        assert_eq!("gpu".parse::<DeviceChoice>(), Err(DeviceError::Unknown("gpu".into())));
        assert_eq!("cuda:3".parse::<DeviceChoice>().expect("name").to_string(), "cuda:3");
    }

    #[test]
    fn a_gpu_that_is_not_there_is_an_error() {
        assert!(matches!(DeviceChoice::Cuda(99).resolve(), Err(DeviceError::NoGpu { index: 99, .. })));
        assert_eq!(DeviceChoice::Cpu.resolve(), Ok(Device::Cpu));
    }
}
