//! Process groups and their collectives.

use std::ffi::{c_int, c_void};
use std::ptr::null_mut;
use std::time::Duration;

use tch::{TchError, Tensor};

use super::error::{Unavailable, available, error_message, with_context};
use super::ffi::{self, milliseconds};
use super::nccl;
use super::store::{CALLS, Store};
use crate::ffi::{TensorPtr, as_raw, check};

/// Communication backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Backend {
    /// CPU tensors, over TCP.
    #[default]
    Gloo,
    /// CUDA tensors, with one GPU per process; CPU tensors use Gloo. Requires the feature `cuda`.
    Nccl,
}

/// Options of a [`ProcessGroup`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupOptions {
    /// Communication backend.
    pub backend: Backend,
    /// Name of the group, which must be the same on all ranks and unique among the groups of a store.
    pub name: String,
    /// Timeout for creating the group and for each collective.
    pub timeout: Duration,
    /// Index of this process's GPU, for [`Backend::Nccl`].
    pub cuda_device: usize,
}

impl Default for GroupOptions {
    /// Gloo, with PyTorch's default timeout.
    fn default() -> Self {
        Self { backend: Backend::Gloo, name: "world".into(), timeout: Duration::from_secs(30 * 60), cuda_device: 0 }
    }
}

/// Group of all processes: c10d's `ProcessGroup`.
///
/// Every rank must call the same functions in the same order, with contiguous tensors of the same shape and kind, which are
/// either all on CPUs or all on the ranks' GPUs. If shapes differ, the behaviour depends on the backend, which may end the
/// process.
///
/// Dropping a group waits for running work, at most for the group's timeout.
#[derive(Debug)]
pub struct ProcessGroup {
    raw: *mut c_void,
    rank: usize,
    world_size: usize,
    timeout: Duration,
}

// SAFETY: a `c10d::ProcessGroup` is not bound to a thread. It is not `Sync`, because calls of several threads would be
// unordered.
unsafe impl Send for ProcessGroup {}

impl ProcessGroup {
    /// Creates the group. All ranks must call it.
    ///
    /// # Errors
    /// A [`TchError`] if this build lacks the backend (see [`available`] and [`crate::cuda::load`]), if the GPU does not exist,
    /// or if another rank does not call it within [`GroupOptions::timeout`].
    pub fn new(store: &Store, rank: usize, world_size: usize, options: &GroupOptions) -> Result<Self, TchError> {
        let action = || format!("creating process group {:?} on rank {rank} of {world_size}", options.name);
        let fail = |reason: &str| error_message(format!("{}: {reason}", action()));
        available().map_err(|Unavailable| fail(&Unavailable.to_string()))?;
        let (Ok(c_rank), Ok(c_size)) = (c_int::try_from(rank), c_int::try_from(world_size)) else {
            return Err(fail("the world size is too large"));
        };
        if rank >= world_size {
            return Err(fail("a rank must be less than the world size"));
        }
        let nccl = match options.backend {
            Backend::Gloo => None,
            Backend::Nccl => Some(nccl::load().map_err(|reason| fail(&reason))?),
        };
        let device = c_int::try_from(options.cuda_device).map_err(|_| fail("the GPU does not exist"))?;
        // gloo and NCCL get a connection of their own.
        let own = store.local_address().and_then(|address| Ok((address.to_string(), store.try_clone()?)));
        let (address, own) = own.map_err(|error| fail(&error.to_string()))?;
        own.set_timeout(options.timeout);
        let mut raw = null_mut();
        // SAFETY: C++ frees the store with one of the calls, also after an error. Name and address outlive the call, `raw` is
        // valid for writes, and `nccl` was returned by `nccl::load`.
        let created = check(unsafe {
            ffi::glm_ext_group_new(
                Box::into_raw(Box::new(own)).cast(),
                (&raw const CALLS).cast(),
                options.name.as_str().into(),
                c_rank,
                c_size,
                milliseconds(options.timeout),
                address.as_str().into(),
                nccl,
                device,
                &mut raw,
            )
        });
        with_context(created, action)?;
        Ok(Self { raw, rank, world_size, timeout: options.timeout })
    }

    /// Rank of this process.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Number of processes.
    pub fn world_size(&self) -> usize {
        self.world_size
    }

    /// Replaces `tensor` by the sum over all ranks, bit-identical on all of them.
    ///
    /// # Errors
    /// A [`TchError`] if the tensor is not supported, or if another rank failed or timed out.
    pub fn all_reduce_sum(&self, tensor: &mut Tensor) -> Result<(), TchError> {
        // SAFETY: group and tensor outlive the call; the backend keeps a reference to the tensor's memory.
        let done = check(unsafe { ffi::glm_ext_group_all_reduce_sum(self.raw, as_raw(tensor), self.wait_limit()) });
        with_context(done, || self.describe(&format!("all_reduce_sum of {}", shape(tensor))))
    }

    /// As [`Self::all_reduce_sum`], but for a tensor on a GPU only the current stream waits for the other ranks, not the calling
    /// thread: work that it queues on the stream afterwards sees the sum. If another rank fails or hangs, the stream waits
    /// forever; [`Self::check`] returns an error once NCCL has noticed.
    ///
    /// # Errors
    /// As [`Self::all_reduce_sum`] for a tensor on the CPU. A [`TchError`] for a tensor on a GPU if it is not supported.
    pub fn queue_sum(&self, tensor: &mut Tensor) -> Result<(), TchError> {
        // SAFETY: group and tensor outlive the call; the backend keeps a reference to the tensor's memory.
        let done = check(unsafe { ffi::glm_ext_group_queue_sum(self.raw, as_raw(tensor), self.wait_limit()) });
        with_context(done, || self.describe(&format!("queue_sum of {}", shape(tensor))))
    }

    /// Checks that no collective on the GPU has failed or timed out. It does not wait, and collectives of CPU tensors return
    /// their errors themselves.
    ///
    /// # Errors
    /// A [`TchError`] if NCCL's watchdog has found an error.
    pub fn check(&self) -> Result<(), TchError> {
        // SAFETY: the group is alive.
        with_context(check(unsafe { ffi::glm_ext_group_check(self.raw) }), || self.describe("training"))
    }

    /// Replaces `tensor` by that of rank `root`.
    ///
    /// # Errors
    /// A [`TchError`] if the rank does not exist, if the tensor is not supported, or if another rank failed or timed out.
    pub fn broadcast(&self, tensor: &mut Tensor, root: usize) -> Result<(), TchError> {
        let action = || self.describe(&format!("broadcast of {} from rank {root}", shape(tensor)));
        if root >= self.world_size {
            return Err(error_message(format!("{}: rank {root} does not exist", action())));
        }
        // SAFETY: group and tensor outlive the call; the backend keeps a reference to the tensor's memory.
        let done = check(unsafe { ffi::glm_ext_group_broadcast(self.raw, as_raw(tensor), root as c_int, self.wait_limit()) });
        with_context(done, action)
    }

    /// Returns the tensors of all ranks, in the order of ranks.
    ///
    /// # Errors
    /// A [`TchError`] if the tensor is not supported, or if another rank failed or timed out.
    pub fn all_gather(&self, tensor: &Tensor) -> Result<Vec<Tensor>, TchError> {
        let action = || self.describe(&format!("all_gather of {}", shape(tensor)));
        let output = || tensor.f_detach()?.f_empty_like();
        let outputs: Vec<Tensor> = with_context((0..self.world_size).map(|_| output()).collect(), action)?;
        let list: Vec<TensorPtr> = outputs.iter().map(as_raw).collect();
        // SAFETY: group and tensors outlive the call, the length matches the list, and the backend keeps references to the
        // tensors' memory.
        let done = check(unsafe {
            ffi::glm_ext_group_all_gather(self.raw, as_raw(tensor), list.as_ptr(), list.len(), self.wait_limit())
        });
        with_context(done, action)?;
        Ok(outputs)
    }

    /// Fills the vector `whole` with the vectors `part` of all ranks, in the order of ranks; `part` may be this rank's part of `whole`.
    /// As with [`Self::queue_sum`], only the stream waits if they are on a GPU.
    ///
    /// # Errors
    /// As [`Self::queue_sum`].
    pub fn queue_gather(&self, whole: &mut Tensor, part: &Tensor) -> Result<(), TchError> {
        // SAFETY: group and tensors outlive the call; the backend keeps references to the tensors' memory.
        let done = check(unsafe { ffi::glm_ext_group_queue_gather(self.raw, as_raw(whole), as_raw(part), self.wait_limit()) });
        with_context(done, || self.describe(&format!("queue_gather of {}", shape(part))))
    }

    /// Waits until all ranks have called it, and until earlier work of the group is done.
    ///
    /// # Errors
    /// A [`TchError`] if another rank failed or timed out.
    pub fn barrier(&self) -> Result<(), TchError> {
        // SAFETY: the group is alive.
        with_context(check(unsafe { ffi::glm_ext_group_barrier(self.raw, self.wait_limit()) }), || self.describe("barrier"))
    }

    /// Describes an action on this rank, for errors.
    pub(super) fn describe(&self, action: &str) -> String {
        format!("{action} on rank {} of {}", self.rank, self.world_size)
    }

    /// Returns the pointer, to be borrowed by C++ for the duration of a call.
    pub(super) fn raw(&self) -> *const c_void {
        self.raw
    }

    /// Maximum time to wait for a collective, in milliseconds. It is longer than the backend's own timeout, whose error is more
    /// specific.
    pub(super) fn wait_limit(&self) -> u64 {
        milliseconds(self.timeout.saturating_mul(2).saturating_add(Duration::from_secs(10)))
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        // SAFETY: `raw` was returned by `new` and is not used again. A reducer holds its own reference.
        unsafe { ffi::glm_ext_group_free(self.raw) };
    }
}

fn shape(tensor: &Tensor) -> String {
    match tensor.defined() {
        true => format!("{:?} {:?}", tensor.kind(), tensor.size()),
        false => "undefined tensor".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distributed::StoreOptions;
    use tch::{Device, Kind};

    fn store() -> Store {
        Store::serve(&StoreOptions { port: 0, ..StoreOptions::default() }).expect("a store")
    }

    #[test]
    fn the_error_of_a_build_without_gloo_has_a_remedy() {
        let created = ProcessGroup::new(&store(), 0, 1, &GroupOptions::default());
        match available() {
            Ok(()) => drop(created.expect("a group")),
            Err(unavailable) => {
                let error = created.expect_err("no gloo").to_string();
                assert!(error.contains(&unavailable.to_string()), "{error}");
            }
        }
    }

    #[test]
    fn invalid_ranks_are_errors() {
        let store = store();
        if available().is_ok() {
            for (rank, size) in [(1, 1), (0, 0), (0, usize::MAX)] {
                let created = ProcessGroup::new(&store, rank, size, &GroupOptions::default());
                let error = created.expect_err("no group").to_string();
                assert!(error.contains("creating process group \"world\" on rank"), "{error}");
            }
        }
    }

    /// Uses a GPU index that no machine has, so that the result is the same everywhere.
    #[test]
    fn nccl_without_the_gpu_is_an_error() {
        let options = GroupOptions { backend: Backend::Nccl, cuda_device: 99, ..GroupOptions::default() };
        for _ in 0..2 {
            // The error must not wait for the other rank, which does not exist.
            let error = ProcessGroup::new(&store(), 0, 2, &options).expect_err("no group").to_string();
            let expected = match (available(), crate::cuda::load()) {
                (Err(Unavailable), _) => Unavailable.to_string(),
                (_, Err(unavailable)) => unavailable.to_string(),
                (Ok(()), Ok(())) => "cuda:99 does not exist: libtorch sees ".to_owned(),
            };
            let action = "creating process group \"world\" on rank 0 of 2: ";
            assert!(error.contains(action) && error.contains(&expected), "{error}");
        }
    }

    #[test]
    fn a_store_serves_several_groups_of_one_process() {
        if available().is_err() {
            return;
        }
        let store = store();
        for name in ["first", "second"] {
            let options = GroupOptions { name: name.into(), ..GroupOptions::default() };
            let group = ProcessGroup::new(&store, 0, 1, &options).expect("a group");
            let mut tensor = Tensor::from_slice(&[1.0, 2.0]);
            group.all_reduce_sum(&mut tensor).expect("all_reduce_sum");
            group.broadcast(&mut tensor, 0).expect("broadcast");
            let gathered = group.all_gather(&tensor).expect("all_gather");
            assert_eq!(Vec::<f64>::try_from(&gathered[0]).expect("numbers"), [1.0, 2.0]);
            group.barrier().expect("barrier");
        }
    }

    #[test]
    fn unsupported_tensors_are_errors() {
        if available().is_err() {
            return;
        }
        let store = store();
        let group = ProcessGroup::new(&store, 0, 1, &GroupOptions::default()).expect("a group");
        let mut transposed = Tensor::zeros([2, 3], (Kind::Float, Device::Cpu)).tr();
        let errors = [
            group.all_reduce_sum(&mut transposed),
            group.all_reduce_sum(&mut Tensor::new()),
            group.broadcast(&mut Tensor::from_slice(&[1_i64]), 1),
        ];
        for (error, expected) in errors.into_iter().zip(["not contiguous", "undefined", "rank 1 does not exist"]) {
            let error = error.expect_err("an error").to_string();
            assert!(error.contains(expected) && error.contains("on rank 0 of 1"), "{error}");
        }
    }
}
