//! libtorch's CUDA half, which is loaded when it is wanted and not linked: one program serves machines with a GPU and without.

use std::fmt::{self, Display};
#[cfg(feature = "cuda")]
use std::sync::OnceLock;

/// Why GPUs cannot be used; its text says what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unavailable(String);

impl Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unavailable {}

/// Loads libtorch's CUDA half, which registers its kernels with the CPU half. To be called before the first use of a GPU;
/// whether there is one is another question ([`tch::Cuda::device_count`]).
///
/// # Errors
/// [`Unavailable`] where this build is without the feature `cuda`, or where the library or one that it needs is not there.
#[cfg(feature = "cuda")]
pub fn load() -> Result<(), Unavailable> {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

    static LOADED: OnceLock<Result<(), Unavailable>> = OnceLock::new();
    LOADED
        .get_or_init(|| {
            // SAFETY: the library's initialisers register kernels and do nothing that depends on this program's state; it is
            // the library that belongs to the linked libtorch_cpu, found through the same rpath.
            let library = unsafe { Library::open(Some("libtorch_cuda.so"), RTLD_NOW | RTLD_GLOBAL) };
            match library {
                Ok(library) => {
                    // Kernels stay registered until the program ends, so the library must stay too.
                    std::mem::forget(library);
                    Ok(())
                }
                Err(error) => {
                    Err(Unavailable(format!("libtorch's CUDA half cannot be loaded ({error}): run scripts/setup --cuda")))
                }
            }
        })
        .clone()
}

/// Says that this build is without the feature `cuda`.
///
/// # Errors
/// [`Unavailable`].
#[cfg(not(feature = "cuda"))]
pub fn load() -> Result<(), Unavailable> {
    Err(Unavailable("this build is for CPUs: build with --features cuda".to_owned()))
}
