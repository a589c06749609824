//! Loading of the NCCL backend: `csrc/nccl.cpp`, compiled to a shared object that is embedded in this crate.
//!
//! The shared object needs libtorch_cuda, which programs do not link (see [`crate::cuda`]), so it is loaded at run time after
//! libtorch_cuda. It is loaded from memory so that programs remain a single file.

use super::ffi::MakeNccl;

/// Returns the function with which `glm_ext_group_new` creates the NCCL backend.
///
/// # Errors
/// The reason why the backend is not available, with a remedy.
#[cfg(not(feature = "cuda"))]
pub(super) fn load() -> Result<MakeNccl, String> {
    match crate::cuda::load() {
        Err(unavailable) => Err(unavailable.to_string()),
        Ok(()) => Err("this build has no NCCL".to_owned()),
    }
}

/// Returns the function with which `glm_ext_group_new` creates the NCCL backend.
///
/// # Errors
/// The reason why the backend is not available, with a remedy.
#[cfg(feature = "cuda")]
pub(super) fn load() -> Result<MakeNccl, String> {
    use std::sync::OnceLock;

    static LOADED: OnceLock<Result<MakeNccl, String>> = OnceLock::new();
    LOADED
        .get_or_init(|| {
            crate::cuda::load().map_err(|unavailable| unavailable.to_string())?;
            from_memory().map_err(|error| format!("cannot load the NCCL backend: {error}"))
        })
        .clone()
}

#[cfg(feature = "cuda")]
fn from_memory() -> Result<MakeNccl, Box<dyn std::error::Error>> {
    use std::fs::File;
    use std::io::{Error, Write};
    use std::os::fd::{AsRawFd, FromRawFd};

    use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

    // Compiled by the build script, and linked with libtorch_cuda.so of the same libtorch.
    static OBJECT: &[u8] = include_bytes!(env!("LIBTORCH_EXT_NCCL"));

    // SAFETY: the name is NUL-terminated.
    let descriptor = unsafe { libc::memfd_create(c"libtorch_ext_nccl.so".as_ptr(), libc::MFD_CLOEXEC) };
    if descriptor < 0 {
        return Err(Error::last_os_error().into());
    }
    // SAFETY: the descriptor was opened above and has no other owner.
    let mut file = unsafe { File::from_raw_fd(descriptor) };
    file.write_all(OBJECT)?;
    // SAFETY: the library's initializers have no side effects, and its dependencies are loaded.
    let library = unsafe { Library::open(Some(format!("/proc/self/fd/{}", file.as_raw_fd())), RTLD_NOW | RTLD_LOCAL) }?;
    // SAFETY: `glm_ext_make_nccl` has the type `ext_make_nccl`, which `csrc/nccl.cpp` checks at compile time.
    let make = *unsafe { library.get::<MakeNccl>(c"glm_ext_make_nccl") }?;
    // Process groups use its code until the program ends.
    std::mem::forget(library);
    Ok(make)
}
