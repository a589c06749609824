//! Table of the compiled kernels: where each one is, and how it is launched.

use std::ffi::CStr;
use std::fmt;

use super::{Arg, CudaError, Variant};

/// Type of an argument, as far as launches depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Pointer to device memory.
    Pointer,
    /// 32-bit integer.
    I32,
    /// 64-bit integer.
    I64,
    /// 32-bit floating-point number.
    F32,
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pointer => "a pointer",
            Self::I32 => "a 32-bit integer",
            Self::I64 => "a 64-bit integer",
            Self::F32 => "a 32-bit float",
        })
    }
}

impl Arg {
    /// Type of the argument.
    pub fn class(&self) -> Class {
        match self {
            Self::Pointer(_) => Class::Pointer,
            Self::I32(_) => Class::I32,
            Self::I64(_) => Class::I64,
            Self::F32(_) => Class::F32,
        }
    }
}

/// One compiled kernel.
#[derive(Debug)]
pub struct Entry {
    /// The form in which the kernel was compiled.
    pub variant: Variant,
    /// Name of the function in the cubin.
    pub symbol: &'static CStr,
    /// First byte of the cubin among the cubins of the architecture.
    pub offset: usize,
    /// Length of the cubin in bytes.
    pub length: usize,
    /// Shared memory in bytes.
    pub shared: u32,
    /// Warps per block.
    pub warps: u32,
    /// Names and types of the arguments, in order.
    pub arguments: &'static [(&'static str, Class)],
}

impl Entry {
    /// Checks number and types of the arguments of a launch.
    ///
    /// # Errors
    /// [`CudaError::ArgumentCount`] or [`CudaError::ArgumentClass`].
    pub fn check(&self, args: &[Arg]) -> Result<(), CudaError> {
        let (expected, given) = (self.arguments.len(), args.len());
        if expected != given {
            return Err(CudaError::ArgumentCount { variant: self.variant, expected, given });
        }
        for (&(argument, expected), arg) in self.arguments.iter().zip(args) {
            let given = arg.class();
            if expected != given {
                return Err(CudaError::ArgumentClass { variant: self.variant, argument, expected, given });
            }
        }
        Ok(())
    }
}

/// The kernels compiled for one GPU architecture.
#[derive(Debug)]
pub struct Architecture {
    /// Compute capability, for example 90 for 9.0.
    pub number: u32,
    /// All cubins, compressed by zstd.
    pub compressed: &'static [u8],
    /// The kernels.
    pub entries: &'static [Entry],
}

impl Architecture {
    /// First architecture whose cubins use features specific to it, and run on no other.
    const FIRST_SPECIFIC: u32 = 90;

    /// Returns true if the kernels run on a GPU with this compute capability.
    pub fn runs_on(&self, (major, minor): (u32, u32)) -> bool {
        let capability = major * 10 + minor;
        if self.number >= Self::FIRST_SPECIFIC {
            return self.number == capability;
        }
        self.number / 10 == major && self.number <= capability
    }
}

/// Chooses the kernels for a GPU.
pub fn select(architectures: &'static [Architecture], capability: (u32, u32)) -> Option<&'static Architecture> {
    let usable = architectures.iter().filter(|architecture| architecture.runs_on(capability));
    usable.max_by_key(|architecture| architecture.number)
}

/// Supported compute capabilities, as text.
pub fn supported(architectures: &[Architecture]) -> String {
    let text = |architecture: &Architecture| {
        let (major, minor) = (architecture.number / 10, architecture.number % 10);
        let later = if architecture.number >= Architecture::FIRST_SPECIFIC { "" } else { " and later minor versions" };
        format!("{major}.{minor}{later}")
    };
    architectures.iter().map(text).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::Element;

    const VARIANT: Variant = Variant { kernel: "scale", element: Some(Element::Bf16), size: 64, dropout: true };
    const ENTRY: Entry = Entry {
        variant: VARIANT,
        symbol: c"scale",
        offset: 0,
        length: 0,
        shared: 0,
        warps: 4,
        arguments: &[("x", Class::Pointer), ("factor", Class::F32), ("tokens", Class::I32), ("numbers", Class::I64)],
    };

    const fn architecture(number: u32) -> Architecture {
        Architecture { number, compressed: &[], entries: &[] }
    }

    static ARCHITECTURES: [Architecture; 4] = [architecture(80), architecture(90), architecture(100), architecture(120)];

    #[test]
    fn arguments_must_match_the_kernel() {
        let args = [Arg::Pointer(16), Arg::F32(0.5), Arg::I32(1), Arg::I64(2)];
        assert_eq!(ENTRY.check(&args), Ok(()));

        let error = ENTRY.check(&args[..3]).expect_err("too few");
        assert_eq!(error.to_string(), "kernel scale (bf16, size 64, with dropout) takes 4 arguments, not 3");

        let error = ENTRY.check(&[args[0], args[1], args[3], args[3]]).expect_err("wrong type");
        let text = "argument `tokens` of kernel scale (bf16, size 64, with dropout) is a 32-bit integer, not a 64-bit integer";
        assert_eq!(error.to_string(), text);
    }

    #[test]
    fn kernels_are_chosen_by_compute_capability() {
        let chosen = |capability| select(&ARCHITECTURES, capability).map(|architecture| architecture.number);
        for capability in [(8, 0), (8, 6), (8, 7), (8, 9)] {
            assert_eq!(chosen(capability), Some(80), "cubins run on later minor versions");
        }
        assert_eq!(chosen((9, 0)), Some(90));
        assert_eq!(chosen((10, 0)), Some(100));
        assert_eq!(chosen((12, 0)), Some(120));
        for capability in [(7, 5), (9, 1), (10, 3), (11, 0), (12, 1)] {
            assert_eq!(chosen(capability), None, "{capability:?}");
        }
        assert_eq!(supported(&ARCHITECTURES), "8.0 and later minor versions, 9.0, 10.0, 12.0");
    }

    #[test]
    fn unsupported_gpu_is_named() {
        let error = CudaError::Unsupported {
            device: 0,
            name: "NVIDIA TITAN RTX".into(),
            capability: (7, 5),
            supported: supported(&ARCHITECTURES[1..]),
        };
        let text =
            "no kernels for GPU 0, NVIDIA TITAN RTX, with compute capability 7.5: this program has kernels for 9.0, 10.0, 12.0";
        assert_eq!(error.to_string(), text);
    }
}
