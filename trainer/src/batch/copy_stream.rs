//! Transfer to a GPU while it computes: pinned memory, and a stream of its own for the copies.

use libtorch_ext::stream::{Event, Stream};
use tch::{Device, Kind, TchError, Tensor};

use super::transfer::{Ready, Transfer};

/// Copies to one GPU on a stream of its own.
#[derive(Debug)]
pub struct CopyStream {
    device: usize,
    stream: Stream,
}

impl CopyStream {
    /// Copies to GPU `device`.
    ///
    /// # Errors
    /// A [`TchError`] without such a GPU.
    pub fn to(device: usize) -> Result<Self, TchError> {
        Ok(Self { device, stream: Stream::from_pool(device)? })
    }
}

impl Transfer for CopyStream {
    fn pin(&mut self, columns: &[&[i64]]) -> Result<Tensor, TchError> {
        let count = columns.iter().map(|column| column.len()).sum::<usize>();
        let pinned = Tensor::f_empty([count as i64], (Kind::Int64, Device::Cpu))?.f_pin_memory(Device::Cuda(self.device))?;
        let mut next = 0;
        for column in columns.iter().filter(|column| !column.is_empty()) {
            pinned.f_narrow(0, next, column.len() as i64)?.f_copy_(&Tensor::f_from_slice(column)?)?;
            next += column.len() as i64;
        }
        Ok(pinned)
    }

    fn copy_async(&mut self, pinned: &Tensor) -> Result<Tensor, TchError> {
        // Dropping the pinned tensor while the copy runs is sound: libtorch's allocator of pinned memory notes the copy and
        // gives the block to nobody else before it is done.
        self.stream.scope(|| pinned.f_to_device_(Device::Cuda(self.device), Kind::Int64, true, false))
    }

    fn ready(&mut self) -> Result<Box<dyn Ready>, TchError> {
        Ok(Box::new(Copied { device: self.device, event: Event::record(&self.stream)? }))
    }
}

/// Event after the copies on the stream.
#[derive(Debug)]
struct Copied {
    device: usize,
    event: Event,
}

impl Ready for Copied {
    fn wait_on_current_stream(&self, copies: &[&Tensor]) -> Result<(), TchError> {
        let current = Stream::current(self.device)?;
        self.event.block(&current)?;
        copies.iter().try_for_each(|copy| current.uses(copy))
    }
}
