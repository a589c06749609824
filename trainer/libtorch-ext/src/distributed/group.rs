//! Processes that work together.

use std::ffi::{c_int, c_void};
use std::ptr::null_mut;
use std::time::Duration;

use tch::{TchError, Tensor};

use super::ffi;
use super::nccl;
use super::store::Store;
use super::work::Work;
use super::{Unavailable, available, during, failed, milliseconds};
use crate::ffi::{TensorPtr, check, lend};

/// What carries tensors between processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Backend {
    /// Between CPUs, over TCP.
    #[default]
    Gloo,
    /// Between NVIDIA GPUs, one a process; tensors of CPUs go through Gloo. Needs the feature `cuda`.
    Nccl,
}

/// How several numbers become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReduceOp {
    /// Their sum.
    Sum,
    /// The sum of each divided by the world size; of floating point numbers only.
    Average,
    /// Their product.
    Product,
    /// The smallest.
    Min,
    /// The largest.
    Max,
}

/// What a [`ProcessGroup`] is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupOptions {
    /// What carries its tensors.
    pub backend: Backend,
    /// Keeps groups that share a store apart: each has a name that none before it had, and the same on all ranks.
    pub name: String,
    /// How long anything may take, from the making of the group on, until it is an error.
    pub timeout: Duration,
    /// Name or address of this machine that the others connect to; by default the one from which it reaches the store.
    pub address: Option<String>,
    /// This process's GPU, by libtorch's numbers; for [`Backend::Nccl`].
    pub cuda_device: usize,
}

impl Default for GroupOptions {
    /// Gloo, with PyTorch's patience.
    fn default() -> Self {
        Self {
            backend: Backend::Gloo,
            name: "world".into(),
            timeout: Duration::from_secs(30 * 60),
            address: None,
            cuda_device: 0,
        }
    }
}

/// All processes, as one of them sees them: c10d's `ProcessGroup`.
///
/// Every rank calls the same functions in the same order, with contiguous tensors of the same shape and kind, and all of them
/// on CPUs or all on the ranks' GPUs. Where shapes differ, what happens is up to the backend, which may end the process.
///
/// Dropping it waits for what it is doing, at most until its timeout.
#[derive(Debug)]
pub struct ProcessGroup {
    raw: *mut c_void,
    rank: usize,
    world_size: usize,
    timeout: Duration,
}

// SAFETY: a `c10d::ProcessGroup` belongs to no thread. It is not `Sync`: calls of several threads would have no order.
unsafe impl Send for ProcessGroup {}

impl ProcessGroup {
    /// Makes the group, together with all other ranks.
    ///
    /// # Errors
    /// A [`TchError`] where this build has no such backend (see [`available`] and [`crate::cuda::load`]), there is no such
    /// GPU, or some ranks did not come within [`GroupOptions::timeout`].
    pub fn new(store: &Store, rank: usize, world_size: usize, options: &GroupOptions) -> Result<Self, TchError> {
        let what = || format!("making the group {:?} as rank {rank} of {world_size}", options.name);
        let fail = |why: &str| failed(format!("{}: {why}", what()));
        available().map_err(|Unavailable| fail(&Unavailable.to_string()))?;
        let (Ok(c_rank), Ok(c_size)) = (c_int::try_from(rank), c_int::try_from(world_size)) else {
            return Err(fail("so many there cannot be"));
        };
        if rank >= world_size {
            return Err(fail("ranks go from 0 to one less than the world size"));
        }
        let nccl = match options.backend {
            Backend::Gloo => None,
            Backend::Nccl => Some(nccl::load().map_err(|why| fail(&why))?),
        };
        let device = c_int::try_from(options.cuda_device).map_err(|_| fail("there is no such GPU"))?;
        let address = match &options.address {
            Some(address) => address.clone(),
            None => during(store.local_address(), what)?.to_string(),
        };
        let mut raw = null_mut();
        // SAFETY: store, name and address outlive the call, `raw` has room for the pointer, and `nccl` came from `nccl::load`.
        let made = check(unsafe {
            ffi::glm_ext_group_new(
                store.raw(),
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
        during(made, what)?;
        Ok(Self { raw, rank, world_size, timeout: options.timeout })
    }

    /// Which process this is.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// How many there are.
    pub fn world_size(&self) -> usize {
        self.world_size
    }

    /// Makes `tensor` the combination of those of all ranks, bit for bit the same everywhere.
    ///
    /// # Errors
    /// A [`TchError`] where the tensor will not do, or a rank is gone or late.
    pub fn all_reduce(&self, tensor: &mut Tensor, op: ReduceOp) -> Result<(), TchError> {
        self.all_reduce_async(tensor.shallow_clone(), op)?.wait(self.patience()).map(drop)
    }

    /// [`Self::all_reduce`] in the background.
    ///
    /// # Errors
    /// A [`TchError`] where the tensor will not do.
    pub fn all_reduce_async(&self, tensor: Tensor, op: ReduceOp) -> Result<Work<Tensor>, TchError> {
        // As `c10d::ReduceOp::RedOpType` has them.
        let code = match op {
            ReduceOp::Sum => 0,
            ReduceOp::Average => 1,
            ReduceOp::Product => 2,
            ReduceOp::Min => 3,
            ReduceOp::Max => 4,
        };
        let (what, ptr) = (self.what(&format!("all_reduce ({op:?}) of {}", describe(&tensor))), lend(&tensor));
        // SAFETY: group and tensor outlive the call; the work keeps the tensor's memory.
        unsafe { self.start(tensor, what, |out| ffi::glm_ext_group_all_reduce(self.raw, ptr, code, out)) }
    }

    /// Makes `tensor` that of rank `root`.
    ///
    /// # Errors
    /// A [`TchError`] where there is no such rank, the tensor will not do, or a rank is gone or late.
    pub fn broadcast(&self, tensor: &mut Tensor, root: usize) -> Result<(), TchError> {
        self.broadcast_async(tensor.shallow_clone(), root)?.wait(self.patience()).map(drop)
    }

    /// [`Self::broadcast`] in the background.
    ///
    /// # Errors
    /// A [`TchError`] where there is no such rank, or the tensor will not do.
    pub fn broadcast_async(&self, tensor: Tensor, root: usize) -> Result<Work<Tensor>, TchError> {
        let what = self.what(&format!("broadcast of {} from rank {root}", describe(&tensor)));
        if root >= self.world_size {
            return Err(failed(format!("{what}: there is no such rank")));
        }
        let ptr = lend(&tensor);
        // SAFETY: group and tensor outlive the call; the work keeps the tensor's memory.
        unsafe { self.start(tensor, what, |out| ffi::glm_ext_group_broadcast(self.raw, ptr, root as c_int, out)) }
    }

    /// The tensors of all ranks, in order.
    ///
    /// # Errors
    /// A [`TchError`] where the tensor will not do, or a rank is gone or late.
    pub fn all_gather(&self, tensor: &Tensor) -> Result<Vec<Tensor>, TchError> {
        self.all_gather_async(tensor)?.wait(self.patience())
    }

    /// [`Self::all_gather`] in the background. `tensor` must not change meanwhile.
    ///
    /// # Errors
    /// A [`TchError`] where the tensor will not do.
    pub fn all_gather_async(&self, tensor: &Tensor) -> Result<Work<Vec<Tensor>>, TchError> {
        let what = self.what(&format!("all_gather of {}", describe(tensor)));
        let place = || tensor.f_detach()?.f_empty_like();
        let places: Vec<Tensor> = during((0..self.world_size).map(|_| place()).collect(), || what.clone())?;
        let list: Vec<TensorPtr> = places.iter().map(lend).collect();
        let (ptr, list, n) = (lend(tensor), list.as_ptr(), list.len());
        // SAFETY: group and tensors outlive the call, and the list is as long as said; the work keeps the tensors' memory.
        unsafe { self.start(places, what, |out| ffi::glm_ext_group_all_gather(self.raw, ptr, list, n, out)) }
    }

    /// Waits until all ranks have called it, and for what the group was asked to do before.
    ///
    /// # Errors
    /// A [`TchError`] where a rank is gone or late.
    pub fn barrier(&self) -> Result<(), TchError> {
        self.barrier_async()?.wait(self.patience())
    }

    /// [`Self::barrier`] in the background.
    ///
    /// # Errors
    /// A [`TchError`] of the backend.
    pub fn barrier_async(&self) -> Result<Work<()>, TchError> {
        // SAFETY: the group outlives the call.
        unsafe { self.start((), self.what("barrier"), |out| ffi::glm_ext_group_barrier(self.raw, out)) }
    }

    /// A barrier that tells who is missing: rank 0 waits so long for the others, and its error names those that did not come.
    /// The others wait for rank 0, at most the group's timeout.
    ///
    /// # Errors
    /// A [`TchError`] on every rank that came, where one did not.
    pub fn barrier_within(&self, timeout: Duration) -> Result<(), TchError> {
        // SAFETY: the group is alive.
        let done = check(unsafe { ffi::glm_ext_group_monitored_barrier(self.raw, milliseconds(timeout)) });
        during(done, || self.what("barrier"))
    }

    /// Starts work whose result will be `result`.
    ///
    /// # Safety
    /// `begin` calls a function of `csrc/distributed.cpp` that starts work, with arguments that are valid.
    unsafe fn start<T>(
        &self,
        result: T,
        what: String,
        begin: impl FnOnce(*mut *mut c_void) -> *mut std::ffi::c_char,
    ) -> Result<Work<T>, TchError> {
        let mut raw = null_mut();
        during(check(begin(&mut raw)), || what.clone())?;
        // SAFETY: the caller's promise, and the call succeeded.
        Ok(unsafe { Work::new(raw, result, what) })
    }

    /// What a caller that waits is doing, for errors.
    pub(super) fn what(&self, action: &str) -> String {
        format!("{action} on rank {} of {}", self.rank, self.world_size)
    }

    /// The group to lend to C++.
    pub(super) fn raw(&self) -> *const c_void {
        self.raw
    }

    /// Longer than the backend's own, so that its error, which says more, comes first.
    fn patience(&self) -> Duration {
        self.timeout.saturating_mul(2).saturating_add(Duration::from_secs(10))
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        // SAFETY: `raw` came from `new` and is not used again; a reducer keeps what it needs of it.
        unsafe { ffi::glm_ext_group_free(self.raw) };
    }
}

fn describe(tensor: &Tensor) -> String {
    match tensor.defined() {
        true => format!("{:?} {:?}", tensor.kind(), tensor.size()),
        false => "no value".into(),
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
    fn a_build_without_gloo_says_how_to_get_it() {
        let made = ProcessGroup::new(&store(), 0, 1, &GroupOptions::default());
        match available() {
            Ok(()) => drop(made.expect("a group")),
            Err(unavailable) => {
                let error = made.expect_err("no gloo").to_string();
                assert!(error.contains(&unavailable.to_string()), "{error}");
            }
        }
    }

    #[test]
    fn ranks_that_are_none_are_errors() {
        let store = store();
        if available().is_ok() {
            for (rank, size) in [(1, 1), (0, 0), (0, usize::MAX)] {
                let made = ProcessGroup::new(&store, rank, size, &GroupOptions::default());
                let error = made.expect_err("no group").to_string();
                assert!(error.contains("making the group \"world\" as rank"), "{error}");
            }
        }
    }

    /// The GPU's number is one that no machine has, so that this is the same on all.
    #[test]
    fn nccl_without_the_gpu_is_an_error() {
        let options = GroupOptions { backend: Backend::Nccl, cuda_device: 99, ..GroupOptions::default() };
        for _ in 0..2 {
            // The other rank never comes; nobody waits for it.
            let error = ProcessGroup::new(&store(), 0, 2, &options).expect_err("no group").to_string();
            let expected = match (available(), crate::cuda::load()) {
                (Err(Unavailable), _) => Unavailable.to_string(),
                (_, Err(unavailable)) => unavailable.to_string(),
                (Ok(()), Ok(())) => "there is no cuda:99: libtorch sees ".to_owned(),
            };
            assert!(error.contains("making the group \"world\" as rank 0 of 2: ") && error.contains(&expected), "{error}");
        }
    }

    #[test]
    fn one_process_is_a_group_and_a_store_has_several() {
        if available().is_err() {
            return;
        }
        let store = store();
        for name in ["first", "second"] {
            let options = GroupOptions { name: name.into(), ..GroupOptions::default() };
            let group = ProcessGroup::new(&store, 0, 1, &options).expect("a group");
            let mut tensor = Tensor::from_slice(&[1.0, 2.0]);
            for op in [ReduceOp::Sum, ReduceOp::Average, ReduceOp::Product, ReduceOp::Min, ReduceOp::Max] {
                group.all_reduce(&mut tensor, op).expect("all_reduce");
            }
            group.broadcast(&mut tensor, 0).expect("broadcast");
            let gathered = group.all_gather(&tensor).expect("all_gather");
            assert_eq!(Vec::<f64>::try_from(&gathered[0]).expect("numbers"), [1.0, 2.0]);
            group.barrier().expect("barrier");
            group.barrier_within(Duration::from_secs(5)).expect("barrier");
        }
    }

    #[test]
    fn tensors_that_will_not_do_are_errors() {
        if available().is_err() {
            return;
        }
        let store = store();
        let group = ProcessGroup::new(&store, 0, 1, &GroupOptions::default()).expect("a group");
        let transposed = Tensor::zeros([2, 3], (Kind::Float, Device::Cpu)).tr();
        let errors = [
            group.all_reduce_async(transposed, ReduceOp::Sum).map(drop),
            group.all_reduce_async(Tensor::new(), ReduceOp::Sum).map(drop),
            group.all_reduce_async(Tensor::from_slice(&[1_i64]), ReduceOp::Average).map(drop),
            group.broadcast_async(Tensor::from_slice(&[1_i64]), 1).map(drop),
        ];
        for (error, expected) in errors.into_iter().zip(["not contiguous", "no value", "average", "no such rank"]) {
            let error = error.expect_err("an error").to_string();
            assert!(error.contains(expected) && error.contains("on rank 0 of 1"), "{error}");
        }
    }
}
