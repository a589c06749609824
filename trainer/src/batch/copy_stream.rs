//! Transfer to a GPU while it computes: pinned memory, and a stream of its own for the copies.

use libtorch_ext::pinned::empty_pinned;
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
        let pinned = empty_pinned(&[count as i64], Kind::Int64)?;
        if count == 0 {
            return Ok(pinned);
        }
        // SAFETY: a contiguous tensor of `count` 64-bit integers on the CPU, to which nothing else has a pointer yet. Any bits
        // that its memory still holds are valid integers.
        let mut rest = unsafe { std::slice::from_raw_parts_mut(pinned.data_ptr().cast::<i64>(), count) };
        for column in columns {
            let (place, after) = rest.split_at_mut(column.len());
            place.copy_from_slice(column);
            rest = after;
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
