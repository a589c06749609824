//! Device feeder between loader and trainer: makes the tensors of the next steps and copies them to the device while the
//! trainer computes.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded};
use tch::{Device, Tensor};

use super::DataError;
use super::loader::{Loader, Step};
use super::pack::Sample;
use super::sampler::Position;
use super::threads::{guarded, join, spawn};
use crate::batch::copy_stream::CopyStream;
use crate::batch::device::DeviceBatch;
use crate::batch::layout::LayoutKind;
use crate::batch::out_of_memory::explain;
use crate::batch::packed::Batch;
use crate::batch::transfer::{Direct, Ready, Transfer};
use crate::batch::work::Work;

/// Capacity of the channel to the trainer. Together with the step that the feeder thread holds while the channel is full, two
/// steps are ready ahead of the trainer: one hides the transfer, the other absorbs differences in step size.
const QUEUED_STEPS: usize = 1;

/// Batches of one optimizer step on the device.
#[derive(Debug)]
pub struct DeviceStep {
    /// Batches of this rank.
    pub batches: Vec<DeviceBatch>,
    /// Samples of all ranks, in order.
    pub samples: Arc<[Sample]>,
    /// Sum of the samples' weights over all ranks, by which the sum of losses is divided.
    pub weight: f64,
    /// Operations of a forward pass over each rank's samples; empty if there is only one rank.
    pub loads: Vec<u64>,
    /// Position in the order of samples after this step.
    pub position: Position,
}

impl DeviceStep {
    /// Starts copying a step to a transfer's device. The result must not be used before waiting for the transfer's
    /// [`ready`](Transfer::ready).
    ///
    /// # Errors
    /// [`DataError::Torch`], for example out of memory.
    pub fn upload(step: &Step, transfer: &mut dyn Transfer, layout: LayoutKind) -> Result<Self, DataError> {
        let upload = |batch: &Arc<Batch>| {
            let failed = |error| explain::<DataError>(error, "the copy to the device", batch.tokens());
            batch.upload(transfer, layout).map_err(failed)
        };
        let batches = step.batches.iter().map(upload).collect::<Result<_, _>>()?;
        let (samples, loads) = (Arc::clone(&step.samples), step.loads.clone());
        Ok(Self { batches, samples, weight: step.weight, loads, position: step.position })
    }

    /// Number of tokens of the longest batch.
    pub fn longest(&self) -> usize {
        self.batches.iter().map(|batch| batch.host.tokens()).max().unwrap_or(0)
    }

    /// Work in its batches.
    pub fn work(&self) -> Work {
        Work::of_all(self.batches.iter().map(|batch| &*batch.host))
    }

    /// The tensor that holds each batch.
    fn storages(&self) -> Vec<&Tensor> {
        self.batches.iter().map(DeviceBatch::storage).collect()
    }

    /// Copies a step to a device and waits for the copy to finish.
    ///
    /// # Errors
    /// [`DataError::Torch`], for example out of memory.
    pub fn on(step: &Step, device: Device, layout: LayoutKind) -> Result<Self, DataError> {
        Self::upload(step, &mut Direct::to(device), layout)
    }
}

/// A step whose copy to the device has been queued, and the handle to wait for it.
type UploadedStep = (DeviceStep, Box<dyn Ready>);

/// Delivers steps on the device, prepared by a background thread. Dropping it ends that thread and the loader's.
#[derive(Debug)]
pub struct Feeder {
    steps: Option<Receiver<Result<UploadedStep, DataError>>>,
    thread: Vec<JoinHandle<()>>,
    waited: Duration,
}

impl Feeder {
    /// Starts copying a loader's steps to a device: to a GPU on a separate stream, on the CPU by plain copies. `layout` is that
    /// of the implementation of the model's operations.
    ///
    /// # Errors
    /// [`DataError::Io`] if the thread cannot be started; [`DataError::Torch`] of the device.
    pub fn start(loader: Loader, device: Device, layout: LayoutKind) -> Result<Self, DataError> {
        let transfer: Box<dyn Transfer> = match device {
            Device::Cuda(index) => Box::new(CopyStream::to(index)?),
            _ => Box::new(Direct::to(device)),
        };
        Self::with_transfer(loader, transfer, layout)
    }

    /// Starts copying a loader's steps through a transfer.
    ///
    /// # Errors
    /// [`DataError::Io`] if the thread cannot be started.
    pub fn with_transfer(loader: Loader, transfer: Box<dyn Transfer>, layout: LayoutKind) -> Result<Self, DataError> {
        let (sender, steps) = bounded(QUEUED_STEPS);
        let thread = spawn("feed", move || feed(loader, transfer, layout, &sender))?;
        Ok(Self { steps: Some(steps), thread: vec![thread], waited: Duration::ZERO })
    }

    /// Returns the next step, or `None` after the last epoch. Work that the caller then queues on its current stream runs
    /// after the step's copies.
    ///
    /// # Errors
    /// [`DataError`] of the stage that failed. All threads have ended by then, and later calls return `None`.
    pub fn next_step(&mut self) -> Result<Option<DeviceStep>, DataError> {
        let Some(steps) = &self.steps else { return Ok(None) };
        let start = Instant::now();
        let received = steps.recv();
        self.waited += start.elapsed();
        let received = match received {
            Ok(Ok((step, ready))) => ready.wait_on_current_stream(&step.storages()).map(|()| Some(step)).map_err(Into::into),
            Ok(Err(error)) => Err(error),
            Err(_) => Ok(None),
        };
        if !matches!(received, Ok(Some(_))) && self.end() && received.is_ok() {
            return Err(DataError::Panicked);
        }
        received
    }

    /// Total time that [`Self::next_step`] has waited for data.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// Ends the threads and waits for them. Returns true if the feeder thread panicked.
    fn end(&mut self) -> bool {
        self.steps = None;
        join(&mut self.thread)
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        self.end();
    }
}

/// Feeder thread. The loader is dropped when it ends.
fn feed(
    mut loader: Loader,
    mut transfer: Box<dyn Transfer>,
    layout: LayoutKind,
    steps: &Sender<Result<UploadedStep, DataError>>,
) {
    loop {
        let fed = guarded(|| {
            let Some(step) = loader.next_step()? else { return Ok(None) };
            let step = DeviceStep::upload(&step, transfer.as_mut(), layout)?;
            Ok(Some((step, transfer.ready()?)))
        });
        let last = !matches!(fed, Ok(Some(_)));
        let Some(fed) = fed.transpose() else { return };
        if steps.send(fed).is_err() || last {
            return;
        }
    }
}
