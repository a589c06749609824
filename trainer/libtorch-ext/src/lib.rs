//! Safe bindings to parts of libtorch that [`tch`] does not bind.
//!
//! - [`autograd`]: functions whose backward pass is a Rust closure.
//! - [`cuda`]: loading of libtorch_cuda at run time.
//! - [`distributed`]: process groups and the reduction of gradients during the backward pass.
//! - [`memory`]: memory of tensors that exists only while it is needed.
//! - [`operators`]: fused AdamW, and matrix products through oneDNN.
//! - [`parallel`]: libtorch's thread pool, so that Rust code and libtorch's operators share threads.
//! - [`pinned`]: page-locked memory of the host, which a GPU copies from and to while it computes.
//! - [`stream`]: current device, streams, events and memory statistics of a GPU. Building it does not need CUDA.
//!
//! `examples/all_reduce.rs` measures the reduction of gradients over several processes.
//!
//! The C++ code is in `csrc`. C++ exceptions become a [`tch::TchError`] with the same message.

pub mod autograd;
pub mod cuda;
pub mod distributed;
pub mod memory;
pub mod operators;
pub mod parallel;
pub mod pinned;
pub mod stream;

mod ffi;

/// Returns the version of the libtorch that is loaded, such as `2.11.0`; `None` if it does not say.
pub fn version() -> Option<String> {
    ffi::libtorch_version()
}
