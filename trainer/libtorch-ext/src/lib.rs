//! The few parts of libtorch that [`tch`] does not offer, behind a safe interface.
//!
//! - [`autograd`]: functions whose backward pass is a Rust closure.
//! - [`cuda`]: libtorch's CUDA half, loaded at run time.
//! - [`distributed`]: several processes, whose gradients are added up during the backward pass.
//! - [`operators`]: fused AdamW, and matrix products through oneDNN.
//! - [`parallel`]: libtorch's own threads, so that Rust code and libtorch's operators do not fight for the cores.
//! - [`stream`]: streams, events and memory of a GPU, with no header and no library of CUDA needed to build.
//!
//! The examples of [`autograd`] run as they stand; `examples/all_reduce.rs` adds up numbers of several processes. [`tch`] has the tensors,
//! this crate what training them fast and together needs; it knows nothing of models or data.
//!
//! The C++ side is in `csrc`. Exceptions become [`tch::TchError`] with the C++ message.

pub mod autograd;
pub mod cuda;
pub mod distributed;
pub mod operators;
pub mod parallel;
pub mod stream;

mod ffi;
