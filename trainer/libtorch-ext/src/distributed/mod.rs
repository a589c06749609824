//! Training by several processes at once: PyTorch's own c10d, from Rust.
//!
//! One process is started for each share of the work, one a GPU as a rule, and knows its *rank*, a number from 0 on, and the
//! *world size*, how many there are.
//!
//! 1. A [`Store`] is how they find each other: rank 0 serves it, the others connect to it.
//! 2. A [`ProcessGroup`] is made of all of them together. What it offers (sums, broadcasts, barriers) every rank has to ask
//!    for, in the same order and with tensors of the same shape and kind.
//! 3. A [`Reducer`] adds the gradients of all ranks up while a backward pass is still computing others.
//!
//! The same program with one process:
//!
//! ```
//! use std::{rc::Rc, time::Duration};
//! use libtorch_ext::distributed::*;
//! use tch::{Device, Kind, Tensor};
//!
//! if let Err(unavailable) = available() {
//!     println!("{unavailable}");
//!     return Ok(());
//! }
//! let (rank, world_size) = (0, 1); // as the launcher says
//! let store = Store::open(rank, &StoreOptions {
//!     host: "127.0.0.1".into(),
//!     port: 0, // rank 0 gets a free one and tells it to the others: `store.port()`
//!     world_size,
//!     ..StoreOptions::default()
//! })?;
//! store.join()?;
//! let group = Rc::new(ProcessGroup::new(&store, rank, world_size, &GroupOptions::default())?);
//!
//! let mut questions = Tensor::from_slice(&[32_i64]);
//! group.all_reduce(&mut questions, ReduceOp::Sum)?;
//! assert_eq!(i64::try_from(questions)?, 32);
//!
//! let weight = Tensor::ones([3], (Kind::Float, Device::Cpu)).set_requires_grad(true);
//! let mut reducer = Reducer::new(group.clone(), &[&weight], &ReducerOptions::default())?;
//! for step in 0..2 {
//!     reducer.backward(&(&weight * 2.0).sum(Kind::Float))?;
//!     assert_eq!(Vec::<f32>::try_from(weight.grad())?, [2.0; 3]); // the sum over all ranks
//!     let _zeros = weight.grad().zero_();
//! }
//! group.barrier_within(Duration::from_secs(60))?;
//! # Ok::<(), tch::TchError>(())
//! ```
//!
//! # When something goes wrong
//! Every error says what was being done, on which rank, and why it failed. A rank that dies closes its connections, which the
//! others notice at once; one that hangs they notice after [`GroupOptions::timeout`]. Behind an error ranks are out of step:
//! a group that had one is to be dropped, and in practice the process ends and starts again from a checkpoint.
//!
//! # Waiting and signals
//! A call that waits for other ranks blocks its thread, holds no lock that a signal's handler or another thread could want,
//! and goes on waiting when a signal comes. To look at a flag meanwhile, start the work ([`ProcessGroup::all_reduce_async`])
//! and poll it ([`Work::wait_for`]).
//!
//! # What is needed
//! Nothing beyond libtorch, which contains Gloo, the backend between CPUs. Its wheel lacks gloo's headers; the few declarations
//! that are needed of them come with this crate, in `csrc/gloo-declarations`. When it is built, `GLOO_INCLUDE` may name a folder
//! of gloo's own headers to use instead, and `GLM_WITHOUT_GLOO=1` asks for a build without Gloo, which can do everything but make
//! a [`ProcessGroup`]. A libtorch whose header of Gloo does not compile gives such a build too; [`available`] tells.
//!
//! # GPUs
//! With the feature `cuda`, [`Backend::Nccl`] makes a group of one GPU a process ([`GroupOptions::cuda_device`]): its tensors go
//! through NCCL and those of the CPU through Gloo, as in PyTorch's `cpu:gloo,cuda:nccl`. The same functions take both.
//! - Work on a GPU's tensors starts behind what the current stream has been asked to do. [`Work::wait`] returns when the GPU has
//!   done it; the [`Reducer`] waits by the GPU's stream and holds no thread up.
//! - [`ProcessGroup::barrier`] is NCCL's there, [`ProcessGroup::barrier_within`] Gloo's, which waits for no GPU.
//! - A GPU that waits for a rank which is gone cannot be called back. After [`GroupOptions::timeout`] libtorch's watchdog ends
//!   the whole process with a message, unless `TORCH_NCCL_ASYNC_ERROR_HANDLING` says otherwise.
//!
//! **Nothing of this has run on a GPU yet.** What the tests see is that it compiles, that it is loaded behind libtorch's CUDA half,
//! and that a GPU which is not there is an error. Not seen: any group, tensor or gradient on a GPU, the making of the
//! communicator, the dropping of a group, the watchdog, and whatever a rank that is gone or late leads to.

mod ffi;
mod group;
mod nccl;
mod reducer;
mod store;
mod work;

use std::fmt::{self, Display};
use std::time::Duration;

use tch::TchError;

pub use group::{Backend, GroupOptions, ProcessGroup, ReduceOp};
pub use reducer::{Reducer, ReducerOptions};
pub use store::{Store, StoreOptions};
pub use work::Work;

/// Why several processes cannot work together; its text says what to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unavailable;

/// The text of [`Unavailable`], where it is so; from the build script, which knows.
const NO_GLOO: Option<&str> = option_env!("LIBTORCH_EXT_NO_GLOO");

impl Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this build is for a single process, because ")?;
        f.write_str(NO_GLOO.unwrap_or("it lacks gloo"))
    }
}

impl std::error::Error for Unavailable {}

/// Whether this build can make a [`ProcessGroup`].
///
/// # Errors
/// [`Unavailable`] where it cannot.
pub fn available() -> Result<(), Unavailable> {
    match NO_GLOO {
        None => Ok(()),
        Some(_) => Err(Unavailable),
    }
}

/// Milliseconds for c10d, which reads 0 as "without end" and overflows at the far end of time.
fn milliseconds(timeout: Duration) -> u64 {
    const YEAR: u128 = 365 * 24 * 3600 * 1000;
    timeout.as_millis().clamp(1, YEAR) as u64
}

/// Puts what was being done before the text of an error.
fn during<T>(result: Result<T, TchError>, what: impl FnOnce() -> String) -> Result<T, TchError> {
    result.map_err(|error| match error {
        TchError::Torch(text) => failed(format!("{}: {text}", what())),
        other => failed(format!("{}: {other}", what())),
    })
}

/// An error with this text.
fn failed(text: String) -> TchError {
    TchError::Torch(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All tests of process groups pass over a build without Gloo, so that nobody may get one unawares.
    #[test]
    fn only_a_build_that_was_asked_for_has_no_gloo() {
        if let Err(unavailable) = available() {
            let text = unavailable.to_string();
            assert!(text.contains("because GLM_WITHOUT_GLOO was set") && text.contains("unset it"), "{text}");
        }
    }

    #[test]
    fn no_timeout_is_endless() {
        assert_eq!(milliseconds(Duration::ZERO), 1);
        assert_eq!(milliseconds(Duration::from_secs(2)), 2000);
        assert!(milliseconds(Duration::MAX) < 1 << 36);
    }
}
