//! Selection of the device and of the numeric precision.

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;
use libtorch_ext::stream::{current_device, set_current_device};
use serde::{Deserialize, Serialize};
use tch::{Cuda, Device, Kind};
use thiserror::Error;

/// Value of `--device`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceChoice {
    /// A GPU if available, otherwise the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// The GPU with this index.
    Cuda(usize),
}

/// Error of selecting a device.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum DeviceError {
    /// The name is invalid.
    #[error("invalid device `{0}`; expected auto, cpu, cuda or cuda:N")]
    Unknown(String),
    /// Several processes would share a GPU.
    #[error("--device cuda:{index} would be shared by all processes on this machine; use cuda, so that each uses its own GPU")]
    Shared {
        /// Index of the GPU.
        index: usize,
    },
    /// The requested GPU is not available.
    #[error("cuda:{index} cannot be used: {reason}")]
    NoGpu {
        /// Index of the GPU.
        index: usize,
        /// Cause.
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
    /// Returns the device of the process with this local rank, so that each process on a machine uses its own GPU.
    ///
    /// # Errors
    /// As [`Self::resolve`]; also if there are fewer GPUs than processes, or if this is a GPU that all processes would share.
    pub fn resolve_for(self, local_rank: usize) -> Result<Device, DeviceError> {
        match self {
            Self::Cuda(index) if index > 0 => Err(DeviceError::Shared { index }),
            Self::Cuda(_) => Self::Cuda(local_rank).resolve(),
            Self::Auto if gpu_count().is_ok() => Self::Cuda(local_rank).resolve(),
            other => other.resolve(),
        }
    }

    /// Returns the device of a single process. A GPU becomes the current device of the calling thread.
    ///
    /// # Errors
    /// [`DeviceError::NoGpu`] if the requested GPU is not available.
    pub fn resolve(self) -> Result<Device, DeviceError> {
        let index = match self {
            Self::Cpu => return Ok(Device::Cpu),
            Self::Auto => 0,
            Self::Cuda(index) => index,
        };
        let count = match (libtorch_ext::cuda::load(), self) {
            (Ok(()), _) => Cuda::device_count().max(0) as usize,
            (Err(_), Self::Auto) if !has_nvidia_driver() => 0,
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
                    tracing::warn!("found {count} GPUs, but one process uses only cuda:0; --nproc {count} uses all of them");
                }
                set_current_device(index).map_err(|error| DeviceError::NoGpu { index, reason: error.to_string() })?;
                Ok(Device::Cuda(index))
            }
            _ => Err(DeviceError::NoGpu { index, reason: format!("libtorch sees {count} GPUs") }),
        }
    }
}

/// Returns the number of GPUs that libtorch sees.
///
/// # Errors
/// [`DeviceError::NoGpu`] if there are none.
pub fn gpu_count() -> Result<usize, DeviceError> {
    let none = |reason| DeviceError::NoGpu { index: 0, reason };
    libtorch_ext::cuda::load().map_err(|reason| none(reason.to_string()))?;
    match Cuda::device_count() {
        count if count > 0 => Ok(count as usize),
        _ => Err(none("libtorch sees 0 GPUs".to_owned())),
    }
}

fn has_nvidia_driver() -> bool {
    std::path::Path::new("/proc/driver/nvidia/version").exists()
}

/// Returns the work of a new thread that has the same current device as the calling thread.
pub fn on_this_gpu<T>(work: impl FnOnce() -> T) -> impl FnOnce() -> T {
    let device = current_device();
    move || {
        if let Some(index) = device
            && let Err(error) = set_current_device(index)
        {
            // Calls that need the GPU fail too.
            tracing::debug!("cuda:{index}: {error}");
        }
        work()
    }
}

/// Returns the name of a device, as for `--device`.
pub fn device_name(device: Device) -> String {
    match device {
        Device::Cuda(index) => format!("cuda:{index}"),
        other => format!("{other:?}").to_lowercase(),
    }
}

/// Numeric precision of the forward and backward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// fp16 on a GPU, fp32 on a CPU
    Auto,
    /// IEEE half precision, with a dynamic loss scale
    Fp16,
    /// bfloat16
    Bf16,
    /// Single precision
    Fp32,
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Fp16 => "fp16",
            Self::Bf16 => "bf16",
            Self::Fp32 => "fp32",
        })
    }
}

impl Precision {
    /// Resolves `Auto` to fp16 on a GPU, as in the published recipe, and fp32 on a CPU.
    pub fn on(self, device: Device) -> Self {
        match self {
            Self::Auto if device.is_cuda() => Self::Fp16,
            Self::Auto => Self::Fp32,
            explicit => explicit,
        }
    }

    /// Kind of the tensors in the forward and backward pass.
    pub fn kind(self) -> Kind {
        match self {
            Self::Fp16 => Kind::Half,
            Self::Bf16 => Kind::BFloat16,
            Self::Fp32 | Self::Auto => Kind::Float,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_names_are_parsed() {
        assert_eq!("auto".parse(), Ok(DeviceChoice::Auto));
        assert_eq!("cuda:3".parse(), Ok(DeviceChoice::Cuda(3)));
        assert_eq!("gpu".parse::<DeviceChoice>(), Err(DeviceError::Unknown("gpu".into())));
        assert_eq!("cuda:3".parse::<DeviceChoice>().expect("name").to_string(), "cuda:3");
    }

    #[test]
    fn a_missing_gpu_is_an_error() {
        assert!(matches!(DeviceChoice::Cuda(99).resolve(), Err(DeviceError::NoGpu { index: 99, .. })));
        assert_eq!(DeviceChoice::Cpu.resolve(), Ok(Device::Cpu));
    }

    #[test]
    fn names_are_those_of_the_command_line() {
        assert_eq!([Device::Cpu, Device::Cuda(3)].map(device_name), ["cpu", "cuda:3"]);
        for precision in Precision::value_variants() {
            assert_eq!(Precision::from_str(&precision.to_string(), false), Ok(*precision));
        }
    }

    #[test]
    fn auto_is_fp16_on_gpus_only() {
        assert_eq!(Precision::Auto.on(Device::Cuda(0)).kind(), Kind::Half);
        assert_eq!(Precision::Auto.on(Device::Cpu).kind(), Kind::Float);
        assert_eq!(Precision::Bf16.on(Device::Cpu).kind(), Kind::BFloat16);
    }
}
