//! The stage between loader and trainer: makes the next steps' tensors, and copies them to the device, while the trainer
//! still computes.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use glm_queue::{Receiver, Sender, bounded};
use tch::Device;

use super::DataError;
use super::pack::Sample;
use super::loader::{Loader, Position, Step, Stopper};
use super::threads::{guarded, join, spawn};
use crate::batch::copy_stream::CopyStream;
use crate::batch::device::DeviceBatch;
use crate::batch::layout::LayoutKind;
use crate::batch::transfer::{Direct, Ready, Transfer};
use crate::batch::work::Work;

/// Steps that wait in the queue. With the one that the feeding thread holds until there is room, two are ready ahead of the
/// trainer: one hides the transfer, the second evens out steps of different size.
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
    /// Starts copying a step to a transfer's device. The result must not be used before the transfer's
    /// [`ready`](Transfer::ready) mark.
    ///
    /// # Errors
    /// [`DataError::Torch`], for example out of memory.
    pub fn upload(step: &Step, transfer: &mut dyn Transfer, layout: LayoutKind) -> Result<Self, DataError> {
        let batches = step.batches.iter().map(|batch| batch.upload(transfer, layout)).collect::<Result<_, _>>()?;
        let (samples, loads) = (Arc::clone(&step.samples), step.loads.clone());
        Ok(Self { batches, samples, weight: step.weight, loads, position: step.position })
    }

    /// Work of its batches.
    pub fn work(&self) -> Work {
        Work::of_all(self.batches.iter().map(|batch| &*batch.host))
    }

    /// Copies a step to a device and waits for the copy.
    ///
    /// # Errors
    /// [`DataError::Torch`], for example out of memory.
    pub fn on(step: &Step, device: Device, layout: LayoutKind) -> Result<Self, DataError> {
        Self::upload(step, &mut Direct::to(device), layout)
    }
}

/// A step on its way to the device.
type UploadedStep = (DeviceStep, Box<dyn Ready>);

/// Delivers steps on the device, made ready by a thread of its own. Dropping it ends that thread and the loader's.
#[derive(Debug)]
pub struct Feeder {
    steps: Option<Receiver<Result<UploadedStep, DataError>>>,
    stopper: Stopper,
    thread: Vec<JoinHandle<()>>,
    waited: Duration,
}

impl Feeder {
    /// Starts feeding a device with what a loader delivers: a GPU through a stream of its own, the CPU by plain copies.
    /// `layout`: that of the implementation of the model's operations.
    ///
    /// # Errors
    /// [`DataError::Io`] where the thread cannot be started; [`DataError::Torch`] of the device.
    pub fn start(loader: Loader, device: Device, layout: LayoutKind) -> Result<Self, DataError> {
        let transfer: Box<dyn Transfer> = match device {
            Device::Cuda(index) => Box::new(CopyStream::to(index)?),
            _ => Box::new(Direct::to(device)),
        };
        Self::with_transfer(loader, transfer, layout)
    }

    /// Starts feeding through a transfer.
    ///
    /// # Errors
    /// [`DataError::Io`] where the thread cannot be started.
    pub fn with_transfer(loader: Loader, transfer: Box<dyn Transfer>, layout: LayoutKind) -> Result<Self, DataError> {
        let (sender, steps) = bounded(QUEUED_STEPS);
        let stopper = loader.stopper();
        let thread = spawn("feed", move || feed(loader, transfer, layout, &sender))?;
        Ok(Self { steps: Some(steps), stopper, thread: vec![thread], waited: Duration::ZERO })
    }

    /// The next step; `None` behind the last epoch. Work that the caller queues on its current stream comes behind the
    /// step's copies.
    ///
    /// # Errors
    /// [`DataError`] of whichever stage failed. All threads have ended then, and the feeder delivers nothing more.
    pub fn next_step(&mut self) -> Result<Option<DeviceStep>, DataError> {
        let Some(steps) = &self.steps else { return Ok(None) };
        let start = Instant::now();
        let received = steps.recv();
        self.waited += start.elapsed();
        let received = match received {
            Some(Ok((step, ready))) => ready.wait_on_current_stream(&step.batches).map(|()| Some(step)).map_err(Into::into),
            Some(Err(error)) => Err(error),
            None => Ok(None),
        };
        if !matches!(received, Ok(Some(_))) && self.end() && received.is_ok() {
            return Err(DataError::Panicked);
        }
        received
    }

    /// How long [`Self::next_step`] has waited for data in all.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// Ends the threads and waits for them; whether the feeding one panicked.
    fn end(&mut self) -> bool {
        self.steps = None;
        self.stopper.stop();
        join(&mut self.thread)
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        self.end();
    }
}

/// The feeding thread; the loader ends with it.
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
