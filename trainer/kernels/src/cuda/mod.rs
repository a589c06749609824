//! GPU kernels, compiled ahead of time from the Triton sources in the folder `cuda` of this crate.
//!
//! With the feature `cuda`, the build compiles every form of every kernel ([`Variant`]) for all supported GPU architectures and
//! embeds the result. `driver` loads it on first use and launches it through the CUDA driver, which is loaded at run time: the
//! program also starts on machines without one. Without the feature, only the declarations exist: [`calls`] and [`Variant`].

use std::fmt;

pub mod calls;
#[cfg(feature = "cuda")]
pub mod driver;
#[cfg(feature = "cuda")]
mod embedded;
pub mod error;
pub mod signature;
pub mod table;

pub use error::CudaError;

/// Number format of activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Element {
    /// bfloat16.
    Bf16,
    /// IEEE 754 half precision.
    Fp16,
    /// Single precision, in which only Triton's interpreter runs the kernels.
    Fp32,
}

/// One compiled form of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Variant {
    /// Name of the kernel.
    pub kernel: &'static str,
    /// Number format of the activations; none if the kernel does not depend on it.
    pub element: Option<Element>,
    /// Head size, or width of the block that holds a row; 0 if the kernel has neither.
    pub size: u32,
    /// True for a form with dropout.
    pub dropout: bool,
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let element = match self.element {
            Some(Element::Bf16) => "bf16",
            Some(Element::Fp16) => "fp16",
            Some(Element::Fp32) => "fp32",
            None => "any element",
        };
        write!(f, "{} ({element}, size {}, {} dropout)", self.kernel, self.size, if self.dropout { "with" } else { "no" })
    }
}

/// Argument of a launch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Arg {
    /// Address in device memory.
    Pointer(u64),
    /// 32-bit integer.
    I32(i32),
    /// 64-bit integer.
    I64(i64),
    /// 32-bit floating-point number.
    F32(f32),
}
