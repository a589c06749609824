//! NCCL, the backend between GPUs: `csrc/nccl.cpp`, compiled to a shared object that this crate has the bytes of.
//!
//! It needs libtorch's CUDA half, which a program may not link (see [`crate::cuda`]), so it is loaded behind that. From memory,
//! so that a program remains one file.

use super::ffi::MakeNccl;

/// What `glm_ext_group_new` makes NCCL's backend with.
///
/// # Errors
/// Why there is none, and what to do about it.
#[cfg(not(feature = "cuda"))]
pub(super) fn load() -> Result<MakeNccl, String> {
    match crate::cuda::load() {
        Err(unavailable) => Err(unavailable.to_string()),
        Ok(()) => Err("this build has no NCCL".to_owned()),
    }
}

/// What `glm_ext_group_new` makes NCCL's backend with.
///
/// # Errors
/// Why there is none, and what to do about it.
#[cfg(feature = "cuda")]
pub(super) fn load() -> Result<MakeNccl, String> {
    use std::sync::OnceLock;

    static LOADED: OnceLock<Result<MakeNccl, String>> = OnceLock::new();
    LOADED
        .get_or_init(|| {
            crate::cuda::load().map_err(|unavailable| unavailable.to_string())?;
            from_memory().map_err(|error| format!("the backend NCCL cannot be loaded: {error}"))
        })
        .clone()
}

#[cfg(feature = "cuda")]
fn from_memory() -> Result<MakeNccl, Box<dyn std::error::Error>> {
    use std::fs::File;
    use std::io::{Error, Write};
    use std::os::fd::{AsRawFd, FromRawFd};

    use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

    // From the build script; it and libtorch_cuda.so, by whose name it was linked, are of the same libtorch.
    static OBJECT: &[u8] = include_bytes!(env!("LIBTORCH_EXT_NCCL"));

    // SAFETY: the name ends with a zero byte.
    let descriptor = unsafe { libc::memfd_create(c"libtorch_ext_nccl.so".as_ptr(), libc::MFD_CLOEXEC) };
    if descriptor < 0 {
        return Err(Error::last_os_error().into());
    }
    // SAFETY: it was opened above, and nobody else has it.
    let mut file = unsafe { File::from_raw_fd(descriptor) };
    file.write_all(OBJECT)?;
    // SAFETY: its initialisers register nothing, and the libraries that it needs are loaded.
    let library = unsafe { Library::open(Some(format!("/proc/self/fd/{}", file.as_raw_fd())), RTLD_NOW | RTLD_LOCAL) }?;
    // SAFETY: `glm_ext_make_nccl` is the function that `MakeNccl` stands for; `csrc/nccl.cpp` checks its type.
    let make = *unsafe { library.get::<MakeNccl>(c"glm_ext_make_nccl") }?;
    // Groups have their code in it until the program ends.
    std::mem::forget(library);
    Ok(make)
}
