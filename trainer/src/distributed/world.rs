//! The processes that train together, as one of them sees them.

use std::rc::Rc;
use std::time::{Duration, Instant};

use libtorch_ext::distributed::{
    Backend, GroupOptions, ProcessGroup, ReduceOp, Reducer, ReducerOptions, Store, StoreOptions, available,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tch::{Device, Kind, TchError, Tensor, no_grad};

use super::agree::{Identity, differences};
use super::failure::{self, Failure};
use super::watch::{OnHang, Phase, Place, Watch, cause_elsewhere};
use super::{DistributedError, Environment};
use crate::batch::key::mix;
use crate::config::DistributedSettings;
use crate::model::parameters::Parameters;

/// Time between two looks into the store for a key that is to come, and for a rank that failed meanwhile. The store's own
/// waiting complains on the terminal each time that it was in vain.
const LOOK: Duration = Duration::from_millis(50);
/// For how long rank 0 keeps the store that it serves open, so that the others can read why it failed.
const LINGER: Duration = Duration::from_secs(2);

/// The processes that train together: rank 0 begins, and all call the same things in the same order.
#[derive(Debug)]
pub struct World {
    environment: Environment,
    place: Place,
    group: Rc<ProcessGroup>,
    watch: Watch,
    store: Store,
    device: Device,
    settings: DistributedSettings,
}

impl World {
    /// Finds the other processes and joins them. `on_hang` is called, on another thread, where this one waits in vain inside a
    /// call that does not come back; it should end the process.
    ///
    /// # Errors
    /// [`DistributedError`] names ranks that did not come within the timeout.
    pub fn join(
        environment: Environment,
        device: Device,
        settings: &DistributedSettings,
        on_hang: OnHang,
    ) -> Result<Self, DistributedError> {
        available().map_err(DistributedError::Unavailable)?;
        let Environment { rank, world_size, attempt, .. } = environment;
        let timeout = settings.timeout();
        let options = StoreOptions {
            host: environment.master_host.clone(),
            port: environment.master_port,
            world_size,
            timeout,
            ..StoreOptions::default()
        };
        let store = match environment.launcher_serves {
            true => Store::connect(&options),
            false => Store::open(rank, &options),
        };
        let store = store.map_err(|error| match rank {
            0 => DistributedError::Torch(error),
            _ => DistributedError::Missing {
                missing: vec![0],
                world_size,
                address: format!("{}:{}", options.host, options.port),
                seconds: timeout.as_secs(),
            },
        })?;
        let place = Place {
            rank,
            world_size,
            attempt,
            host: failure::host_name(),
            timeout,
            server: if environment.launcher_serves { "the launcher" } else { "rank 0" },
            address: format!("{}:{}", options.host, store.port()),
        };
        let beats = store.try_clone().map_err(|error| place.lost(&error))?;
        let watch = Watch::start(place.clone(), beats, on_hang)?;
        wait_for_all(&place, &store)?;
        let (backend, cuda_device) = match device {
            Device::Cuda(index) => (Backend::Nccl, index),
            _ => (Backend::Gloo, 0),
        };
        let name = format!("glm/{attempt}/world");
        let options = GroupOptions { backend, name, timeout, cuda_device, ..GroupOptions::default() };
        let group = Rc::new(ProcessGroup::new(&store, rank, world_size, &options)?);
        Ok(Self { environment, place, group, watch, store, device, settings: settings.clone() })
    }

    /// Which process this is.
    pub fn rank(&self) -> usize {
        self.environment.rank
    }

    /// How many there are.
    pub fn size(&self) -> usize {
        self.environment.world_size
    }

    /// Whether this is rank 0, which writes files and tells of the run.
    pub fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// Tells the others where this rank is.
    pub fn at(&self, step: u64, phase: Phase) {
        self.watch.at(step, phase);
    }

    /// Checks that all ranks run the same.
    ///
    /// # Errors
    /// [`DistributedError::Disagree`], on all ranks, says what differs.
    pub fn agree(&self, identity: &Identity) -> Result<(), DistributedError> {
        let key = |rank: usize| format!("glm/{}/identity/{rank}", self.place.attempt);
        self.put(&key(self.rank()), identity)?;
        let verdict = match self.is_first() {
            true => {
                let all: Result<Vec<Identity>, _> = (0..self.size()).map(|rank| self.take(&key(rank), rank)).collect();
                Some(differences(&all?))
            }
            false => None,
        };
        let differences = self.from_first("verdict", verdict)?;
        if differences.is_empty() { Ok(()) } else { Err(DistributedError::Disagree { differences }) }
    }

    /// What rank 0 has for all; the others pass `None`, and wait.
    ///
    /// # Errors
    /// [`DistributedError`] where rank 0 has failed, or is late.
    pub fn from_first<T: Serialize + DeserializeOwned>(&self, name: &str, own: Option<T>) -> Result<T, DistributedError> {
        let key = format!("glm/{}/{name}", self.place.attempt);
        match own {
            Some(value) => {
                self.put(&key, &value)?;
                Ok(value)
            }
            None => self.take(&key, 0),
        }
    }

    /// Makes the values of all parameters, and what else is given, those of rank 0.
    ///
    /// # Errors
    /// A [`TchError`].
    pub fn broadcast<'a>(&self, tensors: impl IntoIterator<Item = &'a Tensor>) -> Result<(), TchError> {
        no_grad(|| tensors.into_iter().try_for_each(|tensor| self.group.broadcast(&mut tensor.f_detach()?, 0)))
    }

    /// Makes a tensor on this rank's device the sum over all ranks, in place.
    ///
    /// # Errors
    /// A [`TchError`].
    pub fn sum(&self, tensor: &mut Tensor) -> Result<(), TchError> {
        no_grad(|| self.group.all_reduce(tensor, ReduceOp::Sum))
    }

    /// The numbers of all ranks, in their order; every rank gives as many.
    ///
    /// # Errors
    /// A [`TchError`].
    pub fn gather(&self, numbers: &[f64]) -> Result<Vec<Vec<f64>>, TchError> {
        let own = Tensor::from_slice(numbers).f_to_device(self.device)?;
        let all = self.group.all_gather(&own)?;
        all.iter().map(|tensor| Vec::<f64>::try_from(tensor.f_to_device(Device::Cpu)?)).collect()
    }

    /// The bytes of all ranks, in their order; ranks may give different numbers of them.
    ///
    /// # Errors
    /// A [`TchError`].
    pub fn gather_bytes(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, TchError> {
        let lengths: Vec<usize> = self.gather(&[bytes.len() as f64])?.iter().map(|length| length[0] as usize).collect();
        let mut padded = bytes.to_vec();
        padded.resize(lengths.iter().copied().max().unwrap_or(0).max(1), 0);
        let own = Tensor::from_slice(&padded).f_to_device(self.device)?;
        let all = self.group.all_gather(&own)?;
        let read = |(tensor, length): (&Tensor, usize)| {
            let mut bytes = Vec::<u8>::try_from(tensor.f_to_device(Device::Cpu)?)?;
            bytes.truncate(length);
            Ok(bytes)
        };
        all.iter().zip(lengths).map(read).collect()
    }

    /// What adds the gradients of all ranks up during a backward pass.
    ///
    /// # Errors
    /// A [`TchError`].
    pub fn reducer(&self, parameters: &Parameters) -> Result<Reducer, TchError> {
        let list: Vec<&Tensor> = parameters.iter().map(|parameter| &parameter.tensor).collect();
        let options = ReducerOptions {
            first_bucket: self.settings.first_bucket_bytes(),
            bucket: self.settings.bucket_bytes(),
            ..ReducerOptions::default()
        };
        Reducer::new(Rc::clone(&self.group), &list, &options)
    }

    /// Checks that all ranks have the same weights, bit for bit: a copy that has drifted would spoil the others.
    ///
    /// # Errors
    /// [`DistributedError::Drift`] names the ranks whose weights are not those of rank 0.
    pub fn check_weights(&self, parameters: &Parameters, step: u64) -> Result<(), DistributedError> {
        // 32 bits of a hash fit a number of 64 bits with room to spare.
        let sum = f64::from((checksum(parameters)? >> 32) as u32);
        let all = self.gather(&[sum])?;
        let others: Vec<usize> = (0..self.size()).filter(|&rank| all[rank] != all[0]).collect();
        if others.is_empty() { Ok(()) } else { Err(DistributedError::Drift { others, step }) }
    }

    /// The reason behind an error of this rank: another rank's, where one has failed, is silent or is behind.
    pub fn culprit(&self) -> Option<DistributedError> {
        self.watch.culprit(&self.store)
    }

    /// Tells the others that this rank ends, and why. `because_of`: the rank that is to blame, if it is another.
    pub fn publish_failure(&self, reason: String, because_of: Option<usize>) {
        let Place { rank, attempt, ref host, .. } = self.place;
        let failure = Failure { rank, host: host.clone(), pid: std::process::id(), reason, because_of };
        // Where the store is gone nobody can be told.
        let told = failure::publish(&self.store, attempt, &failure);
        if told.is_ok() && rank == 0 && !self.environment.launcher_serves && self.size() > 1 {
            std::thread::sleep(LINGER);
        }
    }

    /// Waits until all ranks are through.
    ///
    /// # Errors
    /// [`DistributedError`] where one is gone.
    pub fn finish(&self) -> Result<(), DistributedError> {
        Ok(self.group.barrier()?)
    }

    fn put(&self, key: &str, value: &impl Serialize) -> Result<(), DistributedError> {
        let rank = self.rank();
        let json =
            serde_json::to_vec(value).map_err(|source| DistributedError::Message { rank, what: key.to_owned(), source })?;
        self.store.set(key, &json).map_err(|error| self.place.lost(&error))
    }

    /// The value of a key that `rank` sets.
    fn take<T: DeserializeOwned>(&self, key: &str, rank: usize) -> Result<T, DistributedError> {
        wait_for(&self.place, &self.store, key, Instant::now(), || match self.culprit() {
            Some(error) => error,
            None => missing(&self.place, vec![rank]),
        })?;
        let bytes = self.store.get(key).map_err(|error| self.place.lost(&error))?;
        serde_json::from_slice(&bytes).map_err(|source| DistributedError::Message { rank, what: key.to_owned(), source })
    }
}

/// Waits until every rank has said that it is here.
fn wait_for_all(place: &Place, store: &Store) -> Result<(), DistributedError> {
    let key = |rank: usize| format!("glm/{}/here/{rank}", place.attempt);
    store.set(&key(place.rank), b"1").map_err(|error| place.lost(&error))?;
    let start = Instant::now();
    for rank in 0..place.world_size {
        let late = || {
            let absent = |rank: &usize| !matches!(store.check(&[&key(*rank)]), Ok(true));
            missing(place, (0..place.world_size).filter(absent).collect())
        };
        wait_for(place, store, &key(rank), start, late)?;
    }
    Ok(())
}

fn missing(place: &Place, missing: Vec<usize>) -> DistributedError {
    let Place { world_size, ref address, timeout, .. } = *place;
    DistributedError::Missing { missing, world_size, address: address.clone(), seconds: timeout.as_secs() }
}

/// Waits for a key, and meanwhile looks whether another rank has failed; `late` is the error where the timeout, counted from
/// `start`, is over.
fn wait_for(
    place: &Place,
    store: &Store,
    key: &str,
    start: Instant,
    late: impl FnOnce() -> DistributedError,
) -> Result<(), DistributedError> {
    while !store.check(&[key]).map_err(|error| place.lost(&error))? {
        if failure::any(store, place.attempt).map_err(|error| place.lost(&error))? {
            let failures = failure::all(store, place.attempt, place.world_size).map_err(|error| place.lost(&error))?;
            if let Some(error) = cause_elsewhere(place.rank, failures) {
                return Err(error);
            }
        }
        if start.elapsed() >= place.timeout {
            return Err(late());
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

/// A checksum of all values that no order of threads changes.
fn checksum(parameters: &Parameters) -> Result<u64, TchError> {
    let mut sum = 0;
    for group in parameters.groups() {
        let values = group.values.f_detach()?.f_to_device(Device::Cpu)?.f_view_dtype(Kind::Int)?;
        let numbers = values.numel();
        // SAFETY: a contiguous tensor of that many integers of 32 bits on the CPU, alive and unchanged while it is read.
        let words = unsafe { std::slice::from_raw_parts(values.data_ptr().cast::<u32>(), numbers) };
        for &word in words {
            sum = mix(sum ^ u64::from(word));
        }
    }
    Ok(sum)
}
