//! Loading of libtorch_cuda at run time. Programs do not link it, so that they also run on machines without a GPU.

use std::fmt::{self, Display};
#[cfg(feature = "cuda")]
use std::sync::OnceLock;

/// The reason why GPUs are not available, with a remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unavailable(String);

impl Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unavailable {}

/// Loads libtorch_cuda, which registers its kernels with libtorch_cpu. It must be called before the first use of a GPU and
/// does not check for a GPU; see [`tch::Cuda::device_count`].
///
/// It also keeps attention from using cuDNN, which libtorch 2.11 prefers on Hopper and which takes 0.4 s to plan each new shape:
/// batches of packed questions rarely have the same shape twice.
///
/// # Errors
/// [`Unavailable`] if this build lacks the feature `cuda`, or if the library or one of its dependencies is missing.
#[cfg(feature = "cuda")]
pub fn load() -> Result<(), Unavailable> {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

    static LOADED: OnceLock<Result<(), Unavailable>> = OnceLock::new();
    LOADED
        .get_or_init(|| {
            // SAFETY: the library's initializers only register kernels and do not depend on this program's state. The library
            // belongs to the linked libtorch_cpu, because it is found through the same rpath.
            let library = unsafe { Library::open(Some("libtorch_cuda.so"), RTLD_NOW | RTLD_GLOBAL) };
            match library {
                Ok(library) => {
                    // Kernels stay registered until the program ends, so the library must stay loaded.
                    std::mem::forget(library);
                    // SAFETY: sets a flag of libtorch_cpu's context, before anything computes on a GPU.
                    unsafe { crate::ffi::glm_ext_disable_cudnn_attention() };
                    Ok(())
                }
                Err(error) => Err(Unavailable(format!("cannot load libtorch_cuda ({error}): run scripts/setup --cuda"))),
            }
        })
        .clone()
}

/// Fails, because this build lacks the feature `cuda`.
///
/// # Errors
/// [`Unavailable`], always.
#[cfg(not(feature = "cuda"))]
pub fn load() -> Result<(), Unavailable> {
    Err(Unavailable("this build has no GPU support: build with --features cuda".to_owned()))
}
