//! The group of all ranks, and the values that they exchange.

use std::rc::Rc;
use std::time::{Duration, Instant};

use libtorch_ext::distributed::{
    self as c10d, GroupOptions, PART_MULTIPLE, ProcessGroup, Reducer, ReducerOptions, Store, Unit, available,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tch::{Device, Kind, TchError, Tensor, no_grad};

use super::checksum;
use super::context::RankContext;
use super::diagnosis::PATIENCE;
use super::environment::Environment;
use super::error::DistributedError;
use super::exchange::Exchange;
use super::failure::{self, Failure};
use super::heartbeat::Phase;
use super::identity::{Identity, differences};
use super::monitor::{Monitor, OnHang};
use super::rendezvous::{self, Rendezvous};
use super::values::{missing, put, take, wait_for};
use crate::config::{DistributedSettings, ReduceKind, ShardKind};
use crate::model::parameters::Parameters;
use crate::model::{Backend, Division, Glm, ModelConfig, Pass};

/// Maximum time between two checks whether a step on the GPU is done.
const MAX_PAUSE: Duration = Duration::from_millis(1);
/// Time for which rank 0 keeps its store open after a failure, so that the other ranks can read the reason.
const LINGER: Duration = Duration::from_secs(2);

/// The group of all ranks. Every rank must call its functions in the same order.
#[derive(Debug)]
pub struct World {
    context: RankContext,
    local_rank: usize,
    ranks_here: usize,
    serves_store: bool,
    group: Rc<ProcessGroup>,
    monitor: Monitor,
    store: Store,
    settings: DistributedSettings,
}

impl World {
    /// Connects to the store and joins the other ranks. `on_hang` is called on another thread if this rank hangs in a call that
    /// cannot be cancelled; it should end the process.
    ///
    /// # Errors
    /// A [`DistributedError`], which names the ranks that did not join within the timeout.
    pub fn join(
        environment: Environment,
        device: Device,
        settings: &DistributedSettings,
        on_hang: OnHang,
    ) -> Result<Self, DistributedError> {
        available().map_err(DistributedError::Unavailable)?;
        let timeout = settings.timeout();
        let Rendezvous { store, server, serves } = rendezvous::open(&environment, timeout)?;
        let Environment { rank, world_size, local_rank, local_world_size, attempt, .. } = environment;
        let ranks_here = local_world_size.unwrap_or(1);
        let address = store.address().to_owned();
        let context = RankContext { rank, world_size, attempt, host: failure::host_name(), timeout, server, address };
        let connection = store.try_clone().map_err(|error| context.store_error(error))?;
        // On a GPU, steps that wait for other ranks are queued ahead, and a call blocks in any later phase if the queue is full.
        // The forward pass of a block waits for its weights if ranks divide them.
        let waits_early = device.is_cuda() || settings.shard == ShardKind::Weights;
        let may_wait_from = if waits_early { Phase::Data } else { Phase::Reduce };
        let monitor = Monitor::start(context.clone(), connection, may_wait_from, on_hang)?;
        wait_for_all(&context, &store)?;
        let (backend, cuda_device) = match device {
            Device::Cuda(index) => (c10d::Backend::Nccl, index),
            _ => (c10d::Backend::Gloo, 0),
        };
        let options = GroupOptions { backend, name: context.key("world"), timeout, cuda_device };
        let group = Rc::new(ProcessGroup::new(&store, rank, world_size, &options)?);
        Ok(Self { context, local_rank, ranks_here, serves_store: serves, group, monitor, store, settings: settings.clone() })
    }

    /// Rank of this process.
    pub fn rank(&self) -> usize {
        self.context.rank
    }

    /// Number of ranks.
    pub fn size(&self) -> usize {
        self.context.world_size
    }

    /// Number of ranks on this machine, if the launcher says so, else 1.
    pub fn ranks_here(&self) -> usize {
        self.ranks_here
    }

    /// Returns true on rank 0, which writes files and logs progress.
    pub fn is_rank_zero(&self) -> bool {
        self.rank() == 0
    }

    /// Returns true on the first rank of every machine.
    pub fn is_first_on_machine(&self) -> bool {
        self.local_rank == 0
    }

    /// Sets step and phase of this rank, which its heartbeats publish.
    pub fn set_phase(&self, step: u64, phase: Phase) {
        self.monitor.set_phase(step, phase);
    }

    /// Checks that program, settings and data set are the same on all ranks.
    ///
    /// # Errors
    /// [`DistributedError::Mismatch`], on all ranks, which lists the differences.
    pub fn check_identity(&self, identity: &Identity) -> Result<(), DistributedError> {
        let key = |rank: usize| self.context.key(&format!("identity/{rank}"));
        self.put(&key(self.rank()), identity)?;
        let differences = match self.is_rank_zero() {
            true => {
                let all: Result<Vec<Identity>, _> = (0..self.size()).map(|rank| self.take(&key(rank), rank)).collect();
                Some(differences(&all?))
            }
            false => None,
        };
        let differences = self.broadcast_value("differences", differences)?;
        if differences.is_empty() { Ok(()) } else { Err(DistributedError::Mismatch { differences }) }
    }

    /// Distributes a value from rank 0 to all ranks. The other ranks pass `None` and wait for it.
    ///
    /// # Errors
    /// A [`DistributedError`] if rank 0 failed or timed out.
    pub fn broadcast_value<T: Serialize + DeserializeOwned>(
        &self,
        name: &str,
        value: Option<T>,
    ) -> Result<T, DistributedError> {
        let key = self.context.key(name);
        match value {
            Some(value) => {
                self.put(&key, &value)?;
                Ok(value)
            }
            None => self.take(&key, 0),
        }
    }

    /// Replaces tensors by those of rank 0.
    ///
    /// # Errors
    /// A [`TchError`] if another rank failed or timed out.
    pub fn broadcast<'a>(&self, tensors: impl IntoIterator<Item = &'a Tensor>) -> Result<(), TchError> {
        no_grad(|| tensors.into_iter().try_for_each(|tensor| self.group.broadcast(&mut tensor.f_detach()?, 0)))
    }

    /// Replaces a tensor on this rank's device by the sum over all ranks. On a GPU only the current stream waits for the other
    /// ranks; see [`Self::wait_until`].
    ///
    /// # Errors
    /// A [`TchError`] if another rank failed or timed out, on a CPU.
    pub fn queue_sum(&self, tensor: &mut Tensor) -> Result<(), TchError> {
        no_grad(|| self.group.queue_sum(tensor))
    }

    /// Waits for a step on the GPU, in which all ranks take part, until `is_done` returns true.
    ///
    /// # Errors
    /// A [`TchError`] of `is_done`, if NCCL has lost another rank, or after the timeout.
    pub fn wait_until(&self, mut is_done: impl FnMut() -> Result<bool, TchError>) -> Result<(), TchError> {
        let start = Instant::now();
        let mut pause = Duration::from_micros(20);
        while !is_done()? {
            self.group.check()?;
            if start.elapsed() >= self.context.timeout {
                let seconds = self.context.timeout.as_secs_f64();
                return Err(TchError::Torch(format!("a step is not done after {seconds:.0} s (distributed.timeout)")));
            }
            std::thread::sleep(pause);
            pause = (2 * pause).min(MAX_PAUSE);
        }
        Ok(())
    }

    /// Returns the numbers of all ranks, in the order of ranks. Every rank must pass the same count. GPUs are not involved, so
    /// this does not wait for them.
    ///
    /// # Errors
    /// A [`TchError`] if another rank failed or timed out.
    pub fn gather(&self, numbers: &[f64]) -> Result<Vec<Vec<f64>>, TchError> {
        self.group.all_gather(&Tensor::from_slice(numbers))?.iter().map(Vec::<f64>::try_from).collect()
    }

    /// Returns the bytes of all ranks, in the order of ranks. Lengths may differ.
    ///
    /// # Errors
    /// A [`TchError`] if another rank failed or timed out.
    pub fn gather_bytes(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, TchError> {
        let lengths: Vec<usize> = self.gather(&[bytes.len() as f64])?.iter().map(|length| length[0] as usize).collect();
        let mut padded = bytes.to_vec();
        padded.resize(lengths.iter().copied().max().unwrap_or(0).max(1), 0);
        let all = self.group.all_gather(&Tensor::from_slice(&padded))?;
        let read = |(tensor, length): (&Tensor, usize)| {
            let mut bytes = Vec::<u8>::try_from(tensor)?;
            bytes.truncate(length);
            Ok(bytes)
        };
        all.iter().zip(lengths).map(read).collect()
    }

    /// State that ranks divide among themselves.
    pub fn shard_kind(&self) -> ShardKind {
        self.settings.shard
    }

    /// Creates a reducer, which sums the gradients of all ranks during a backward pass. If ranks divide state among themselves, each
    /// receives its part only; then the buffers must be divisible, see [`Parameters::make_divisible`].
    ///
    /// # Errors
    /// A [`TchError`] if another rank failed or timed out.
    pub fn reducer(&self, parameters: &Parameters) -> Result<Reducer, TchError> {
        let list: Vec<&Tensor> = parameters.iter().map(|parameter| &parameter.tensor).collect();
        let bf16 = self.settings.reduce_dtype == ReduceKind::Bf16;
        let scatter = self.shard_kind() != ShardKind::None;
        let options = ReducerOptions { bucket: self.settings.bucket_bytes(), bf16, scatter };
        let units = parameters.units().iter();
        let units = units.map(|unit| Unit { gradients: &unit.gradients, temporary: unit.temporary }).collect::<Vec<_>>();
        if !units.is_empty() {
            // Ranks have parts of whole units, whose memory is released at once.
            let options = ReducerOptions { bucket: usize::MAX, ..options };
            return Reducer::of_units(Rc::clone(&self.group), &list, &units, parameters.totals(), &options);
        }
        Reducer::new(Rc::clone(&self.group), &list, parameters.gradients(), &options)
    }

    /// How ranks divide the weights of a model of these sizes on a device, if they do. `pass`: settings of the passes to come.
    pub fn division(&self, sizes: &ModelConfig, device: Device, pass: &Pass) -> Option<Division> {
        let backend = Backend::select(pass.kernels, device, pass.kind, Kind::Float, sizes);
        match (self.shard_kind(), backend.copies(pass.kind, Kind::Float)) {
            _ if self.size() == 1 => None,
            (ShardKind::Weights, copies) => Some(Division::Blocks(copies)),
            (ShardKind::Optimizer | ShardKind::Gradients, Some(kind)) => Some(Division::Masters(kind)),
            _ => None,
        }
    }

    /// Number of elements of which each parameter takes a multiple, so that the ranks can divide the buffers of a model.
    pub fn multiple(&self) -> usize {
        if self.shard_kind() == ShardKind::None { 1 } else { PART_MULTIPLE * self.size() }
    }

    /// Returns a model on a device whose weights the ranks divide; rank 0 has them in `whole`.
    ///
    /// # Errors
    /// A [`TchError`], for example out of memory, or if another rank failed or timed out.
    pub fn divide(
        &self,
        sizes: &ModelConfig,
        device: Device,
        whole: Option<&Glm>,
        division: Division,
    ) -> Result<Glm, TchError> {
        Glm::divided(sizes, (Kind::Float, device), self.multiple(), whole, &self.group, division)
    }

    /// Fills a vector with the parts of all ranks, in the order of ranks; `own` is this rank's part of it. On a GPU only the current
    /// stream waits for the other ranks.
    ///
    /// # Errors
    /// A [`TchError`] if another rank failed or timed out, on a CPU.
    pub fn queue_gather(&self, whole: &mut Tensor, own: &Tensor) -> Result<(), TchError> {
        no_grad(|| self.group.queue_gather(whole, own))
    }

    /// Checks that all ranks have bit-identical weights.
    ///
    /// # Errors
    /// [`DistributedError::WeightsDiverged`], which lists the ranks whose weights differ from those of rank 0.
    pub fn check_weights(&self, parameters: &Parameters, step: u64) -> Result<(), DistributedError> {
        let checksum = checksum::of_parameters(parameters)?;
        // 32 bits are exact in an f64.
        let all = self.gather(&[checksum >> 32, checksum].map(|bits| f64::from(bits as u32)))?;
        let ranks: Vec<usize> = (0..self.size()).filter(|&rank| all[rank] != all[0]).collect();
        if ranks.is_empty() { Ok(()) } else { Err(DistributedError::WeightsDiverged { ranks, step }) }
    }

    /// Finds the rank that caused an error of this one: a rank that has failed, sends no heartbeats or is late.
    pub fn find_failed_peer(&self) -> Option<DistributedError> {
        self.monitor.find_failed_peer(&self.store)
    }

    /// Publishes the failure of this rank. `caused_by` is the rank that caused it, if it is another one.
    pub fn publish_failure(&self, reason: String, caused_by: Option<usize>) {
        let RankContext { rank, attempt, ref host, .. } = self.context;
        let failure = Failure { rank, host: host.clone(), pid: std::process::id(), reason, caused_by };
        // If the store is lost, the failure cannot be published, which must not keep this rank from ending.
        self.store.set_timeout(self.context.timeout.min(PATIENCE));
        let published = failure::publish(&self.store, attempt, &failure);
        if published.is_ok() && self.serves_store && self.size() > 1 {
            std::thread::sleep(LINGER);
        }
    }

    /// Waits until all ranks have finished.
    ///
    /// # Errors
    /// A [`DistributedError`] if another rank failed or timed out.
    pub fn finish(&self) -> Result<(), DistributedError> {
        Ok(self.group.barrier()?)
    }

    /// Returns a connection for exchanging values on another thread.
    ///
    /// # Errors
    /// A [`DistributedError`] of the store.
    pub fn exchange(&self) -> Result<Exchange, DistributedError> {
        let store = self.store.try_clone().map_err(|error| self.context.store_error(error))?;
        Ok(Exchange::new(self.context.clone(), store))
    }

    fn put(&self, key: &str, value: &impl Serialize) -> Result<(), DistributedError> {
        put(&self.context, &self.store, key, value)
    }

    /// Waits for the value of a key that `rank` sets.
    fn take<T: DeserializeOwned>(&self, key: &str, rank: usize) -> Result<T, DistributedError> {
        let timed_out = || self.find_failed_peer().unwrap_or_else(|| missing(&self.context, vec![rank]));
        take(&self.context, &self.store, key, rank, Instant::now(), timed_out)
    }
}

/// Waits until all ranks have called it.
fn wait_for_all(context: &RankContext, store: &Store) -> Result<(), DistributedError> {
    let key = |rank: usize| context.key(&format!("joined/{rank}"));
    store.set(&key(context.rank), b"1").map_err(|error| context.store_error(error))?;
    let start = Instant::now();
    for rank in 0..context.world_size {
        let timed_out = || {
            let absent = |rank: &usize| !matches!(store.check(&[&key(*rank)]), Ok(true));
            missing(context, (0..context.world_size).filter(absent).collect())
        };
        wait_for(context, store, &key(rank), start, timed_out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::distributed::StoreServer;

    #[test]
    fn waiting_for_a_step_ends_with_it_or_with_an_error() {
        if available().is_err() {
            return;
        }
        let environment = Environment {
            rank: 0,
            world_size: 1,
            local_rank: 0,
            local_world_size: None,
            master_host: "127.0.0.1".into(),
            master_port: 0,
            store_server: StoreServer::RankZero,
            store_secret: None,
            attempt: 0,
        };
        let settings = DistributedSettings { timeout: 1.0, ..Config::default().distributed };
        let world = World::join(environment, Device::Cpu, &settings, Box::new(|_| ())).expect("a world");
        let mut polls = 0;
        let mut after_three = || {
            polls += 1;
            Ok(polls > 3)
        };
        world.wait_until(&mut after_three).expect("done");
        let timed_out = world.wait_until(|| Ok(false)).expect_err("a timeout").to_string();
        assert!(timed_out.contains("a step is not done after 1 s (distributed.timeout)"), "{timed_out}");
        let failed = world.wait_until(|| Err(TchError::Torch("intended".into()))).expect_err("an error").to_string();
        assert!(failed.contains("intended"), "{failed}");
    }
}
