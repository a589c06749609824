//! Training with several processes: PyTorch's c10d for Rust, and a reducer of gradients.
//!
//! Each process has a *rank*, a number from 0 to *world size* - 1, and usually one GPU.
//!
//! 1. A [`Store`] is a key-value store for rendezvous. One process serves it, and the others connect to it. Gloo and NCCL use it
//!    too, to find each other; the connections that they open then are neither encrypted nor authenticated.
//! 2. A [`ProcessGroup`] consists of all processes. Every rank must call its collectives (sums, broadcasts, barriers) in the
//!    same order, with tensors of the same shape and kind.
//! 3. A [`DividedVector`] is gathered from the parts of all ranks while it is needed.
//! 4. A [`Reducer`] sums the gradients of all ranks while the backward pass is still running.
//!
//! An example with a single process:
//!
//! ```
//! use std::rc::Rc;
//! use libtorch_ext::autograd::set_gradient;
//! use libtorch_ext::distributed::*;
//! use tch::{Kind, Tensor};
//!
//! if let Err(unavailable) = available() {
//!     println!("{unavailable}");
//!     return Ok(());
//! }
//! let (rank, world_size) = (0, 1); // set by the launcher
//! // Port 0 selects a free port on rank 0, returned by `store.port()`.
//! let store = Store::open(rank, &StoreOptions { port: 0, ..StoreOptions::default() })?;
//! let group = Rc::new(ProcessGroup::new(&store, rank, world_size, &GroupOptions::default())?);
//!
//! let mut questions = Tensor::from_slice(&[32_i64]);
//! group.all_reduce_sum(&mut questions)?;
//! assert_eq!(i64::try_from(questions)?, 32);
//!
//! let weight = Tensor::from_slice(&[1.0_f32; 3]).set_requires_grad(true);
//! let mut gradients = Tensor::from_slice(&[0.0_f32; 3]); // of all parameters
//! set_gradient(&weight, &gradients)?;
//! let mut reducer = Reducer::new(group.clone(), &[&weight], &gradients, &ReducerOptions::default())?;
//! for step in 0..2 {
//!     reducer.backward(&(&weight * 2.0).sum(Kind::Float))?;
//!     assert_eq!(Vec::<f32>::try_from(&gradients)?, [2.0; 3]); // summed over all ranks
//!     let _zeros = gradients.zero_();
//! }
//! group.barrier()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Errors
//! Every error names the action, the rank and the cause. The connections of a rank that dies are closed, which the others
//! notice immediately. A rank that hangs is detected after [`GroupOptions::timeout`]. After an error, ranks are out of step and
//! the group cannot be used any more; in practice the process ends and restarts from a checkpoint.
//!
//! # Signals
//! A call that waits for other ranks blocks its thread, is not interrupted by signals, and holds no lock that a signal handler
//! or another thread may need.
//!
//! # Requirements
//! libtorch contains Gloo, the backend for CPU tensors, but the wheel lacks gloo's headers. `csrc/gloo-declarations` declares
//! the parts that are needed. At build time, `GLOO_INCLUDE` selects a folder with gloo's own headers instead, and
//! `GLM_WITHOUT_GLOO=1` builds without Gloo, which disables [`ProcessGroup`]. Gloo is also disabled if libtorch's header of it
//! does not compile; see [`available`].
//!
//! # GPUs
//! With the feature `cuda`, [`Backend::Nccl`] creates a group with one GPU per process ([`GroupOptions::cuda_device`]). CUDA
//! tensors use NCCL and CPU tensors use Gloo, as with PyTorch's `cpu:gloo,cuda:nccl`.
//! - Collectives on CUDA tensors start after the work queued on the current stream, and return after the GPU has finished. For
//!   [`Reducer`] and [`ProcessGroup::queue_sum`] only the GPU's stream waits, and the thread does not (unless
//!   `TORCH_NCCL_BLOCKING_WAIT` is set).
//! - A collective on a GPU cannot be cancelled if a rank is gone. A thread that waits for the GPU should therefore poll, and
//!   call [`ProcessGroup::check`] meanwhile. A minute after [`GroupOptions::timeout`] libtorch's watchdog ends the process with
//!   a message, unless `TORCH_NCCL_ASYNC_ERROR_HANDLING` specifies otherwise.
//!
//! **The NCCL backend has been run with a group of one process only**, on one GPU. The tests check that it compiles, that it is
//! loaded after libtorch_cuda, and that a missing GPU is an error. Collectives between GPUs and the failure of a rank are untested.

mod agent;
mod error;
mod ffi;
mod gather;
mod group;
mod nccl;
mod reducer;
mod store;

pub use agent::AgentStore;
pub use error::{Unavailable, available};
pub use gather::DividedVector;
pub use group::{Backend, GroupOptions, ProcessGroup};
pub use reducer::{PART_MULTIPLE, Reducer, ReducerOptions, Unit};
pub use store::{Secret, Store, StoreError, StoreOptions};
