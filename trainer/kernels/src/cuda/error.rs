//! Errors of loading and launching kernels.

use super::Variant;
use super::table::Class;

/// Error of loading or launching kernels.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CudaError {
    /// There is no CUDA driver on this machine.
    #[error("no CUDA driver: libcuda.so.1 was not found; install NVIDIA's driver")]
    NoDriver,
    /// There is no GPU with this index.
    #[error("GPU {device} does not exist: the CUDA driver reports {count} GPUs")]
    NoDevice {
        /// Index of the GPU.
        device: usize,
        /// Number of GPUs.
        count: usize,
    },
    /// The kernels were not compiled for this GPU.
    #[error(
        "no kernels for GPU {device}, {name}, with compute capability {}.{}: this program has kernels for {supported}",
        capability.0, capability.1
    )]
    Unsupported {
        /// Index of the GPU.
        device: usize,
        /// Name of the GPU.
        name: String,
        /// Compute capability, major and minor.
        capability: (u32, u32),
        /// Supported compute capabilities.
        supported: String,
    },
    /// The embedded kernels cannot be decompressed.
    #[error("the embedded kernels for sm_{arch} are damaged: {reason}")]
    Damaged {
        /// Architecture of the kernels.
        arch: u32,
        /// Text of the error.
        reason: String,
    },
    /// The kernel was not compiled in this form.
    #[error("kernel {variant} was not compiled for sm_{arch}")]
    UnknownVariant {
        /// The requested form.
        variant: Variant,
        /// Architecture of the loaded kernels.
        arch: u32,
    },
    /// A launch has too few or too many arguments.
    #[error("kernel {variant} takes {expected} arguments, not {given}")]
    ArgumentCount {
        /// The launched form.
        variant: Variant,
        /// Number of arguments of the kernel.
        expected: usize,
        /// Number of arguments of the launch.
        given: usize,
    },
    /// An argument has the wrong type.
    #[error("argument `{argument}` of kernel {variant} is {expected}, not {given}")]
    ArgumentClass {
        /// The launched form.
        variant: Variant,
        /// Name of the argument.
        argument: &'static str,
        /// Type of the kernel's argument.
        expected: Class,
        /// Type of the launch's argument.
        given: Class,
    },
    /// A function of the CUDA driver failed.
    #[error("{call}: {reason}")]
    Driver {
        /// The call and its purpose.
        call: String,
        /// Name and description of the driver's error.
        reason: String,
    },
}
