//! Copy of a run's weights and moments from a GPU to the host, while training continues.

use std::thread::JoinHandle;

use libtorch_ext::pinned::{copy_async, empty_pinned};
use libtorch_ext::stream::{Event, Stream};
use tch::{Device, Kind, TchError, Tensor, no_grad};

use crate::model::parameters::Parameters;

/// Vectors of the training state: weights and both moments.
const VECTORS: usize = 3;
/// Elements of a block of page-locked memory, 256 MiB in fp32. libtorch rounds a block up to a power of two, so that whole
/// vectors could take twice their size.
const BLOCK: i64 = 1 << 26;

/// Copies weights and moments to page-locked memory, on a stream of its own.
///
/// The next optimizer step overwrites them, and the copy takes 0.1 s or more. With a duplicate on the GPU, which takes a few
/// milliseconds to fill, training does not wait for the copy. Without one, the next update waits for it; forward and backward
/// pass do not.
#[derive(Debug)]
pub struct DeviceCopier {
    device: usize,
    stream: Stream,
    duplicate: Option<[Tensor; VECTORS]>,
    host: Host,
}

/// Page-locked memory for the copy. Allocating it takes seconds for large models.
#[derive(Debug)]
enum Host {
    Allocating(Option<JoinHandle<Result<Vec<Tensor>, TchError>>>),
    Allocated(Vec<Tensor>),
}

/// A copy under way.
#[derive(Debug)]
pub struct DeviceCopy {
    /// Weights and both moments on the host, each in the order of the parameters.
    pub tensors: [Vec<Tensor>; VECTORS],
    /// Reached when the copy is complete; the tensors must not be read before.
    pub complete: Event,
    /// Event for which the next update has to wait, on the stream on which it runs.
    pub before_update: Option<Event>,
}

impl DeviceCopier {
    /// Prepares copies of a model's training state from its GPU. Allocates page-locked memory on another thread and, with
    /// `duplicate`, a second copy of the state on the GPU.
    ///
    /// # Errors
    /// A [`TchError`], for example out of memory.
    pub fn new(parameters: &Parameters, device: usize, duplicate: bool) -> Result<Self, TchError> {
        let kind = parameters.kind();
        let shapes: Vec<Vec<i64>> = parameters.iter().map(|parameter| parameter.shape().to_vec()).collect();
        let stream = Stream::from_pool(device)?;
        let elements = elements(&shapes);
        let empty = || Tensor::f_empty([elements], (kind, Device::Cuda(device)));
        let duplicate = if duplicate { Some([empty()?, empty()?, empty()?]) } else { None };
        let allocate = move || allocate(&shapes, kind, empty_pinned);
        let thread = std::thread::Builder::new().name("page-lock".into()).spawn(allocate);
        let thread = thread.map_err(|error| TchError::Torch(format!("cannot start a thread: {error}")))?;
        Ok(Self { device, stream, duplicate, host: Host::Allocating(Some(thread)) })
    }

    /// Starts a copy, after the work queued so far. The tensors of the previous one are overwritten: it must have been written.
    ///
    /// # Errors
    /// A [`TchError`], for example if page-locked memory cannot be allocated.
    pub fn start(&mut self, parameters: &Parameters, moments: [&Tensor; 2]) -> Result<DeviceCopy, TchError> {
        no_grad(|| {
            let host: Vec<Tensor> = self.host.tensors()?.iter().map(Tensor::shallow_clone).collect();
            let training = Stream::current(self.device)?;
            if let Some(duplicate) = &self.duplicate {
                // The copy before this one still reads the duplicate if it failed to be written.
                Event::record(&self.stream)?.block(&training)?;
                fill(duplicate, parameters, moments)?;
            }
            Event::record(&training)?.block(&self.stream)?;
            let sources = match &self.duplicate {
                Some(duplicate) => split(duplicate.each_ref(), parameters)?,
                None => {
                    let weights = parameters.iter().map(|parameter| parameter.tensor.f_detach());
                    weights.chain(split(moments, parameters)?.into_iter().map(Ok)).collect::<Result<_, _>>()?
                }
            };
            self.stream.scope(|| host.iter().zip(&sources).try_for_each(|(to, from)| copy_async(to, from)))?;
            // If the run ends early, its tensors are freed, but their memory is not reused before it is copied.
            sources.iter().try_for_each(|source| self.stream.uses(source))?;
            let complete = Event::record(&self.stream)?;
            let before_update = if self.duplicate.is_none() { Some(Event::record(&self.stream)?) } else { None };
            Ok(DeviceCopy { tensors: by_vector(host), complete, before_update })
        })
    }
}

impl Host {
    fn tensors(&mut self) -> Result<&[Tensor], TchError> {
        if let Self::Allocating(thread) = self {
            let failed = || TchError::Torch("the thread that allocates page-locked memory failed".to_owned());
            let allocated = thread.take().ok_or_else(failed)?.join().map_err(|_| failed())?;
            *self = Self::Allocated(allocated?);
        }
        match self {
            Self::Allocated(tensors) => Ok(tensors),
            Self::Allocating(_) => Ok(&[]),
        }
    }
}

fn elements(shapes: &[Vec<i64>]) -> i64 {
    shapes.iter().map(|shape| shape.iter().product::<i64>()).sum()
}

/// Allocates tensors of these shapes, once for each vector, in blocks that `empty` allocates.
fn allocate(
    shapes: &[Vec<i64>],
    kind: Kind,
    empty: impl Fn(&[i64], Kind) -> Result<Tensor, TchError>,
) -> Result<Vec<Tensor>, TchError> {
    let shapes: Vec<&Vec<i64>> = std::iter::repeat_n(shapes, VECTORS).flatten().collect();
    let mut blocks = vec![0];
    let mut places = Vec::with_capacity(shapes.len());
    for shape in &shapes {
        let count: i64 = shape.iter().product();
        if blocks.last().is_some_and(|&filled| filled > 0 && filled + count > BLOCK) {
            blocks.push(0);
        }
        let block = blocks.len() - 1;
        places.push((block, blocks[block]));
        blocks[block] += count;
    }
    let blocks = blocks.iter().map(|&count| empty(&[count], kind)).collect::<Result<Vec<_>, _>>()?;
    let tensors = shapes
        .iter()
        .zip(places)
        .map(|(shape, (block, first))| blocks[block].f_narrow(0, first, shape.iter().product())?.f_view(&shape[..]));
    tensors.collect()
}

/// Copies the training state to vectors of the same layout.
fn fill(to: &[Tensor; VECTORS], parameters: &Parameters, moments: [&Tensor; 2]) -> Result<(), TchError> {
    let [weights, first, second] = to;
    let mut next = 0;
    for group in parameters.groups() {
        let count = group.values.numel() as i64;
        copy_async(&weights.f_narrow(0, next, count)?, &group.values)?;
        next += count;
    }
    copy_async(first, moments[0])?;
    copy_async(second, moments[1])
}

/// Views of vectors with the shapes of the parameters, one vector after the other.
fn split<const N: usize>(vectors: [&Tensor; N], parameters: &Parameters) -> Result<Vec<Tensor>, TchError> {
    let views = vectors.map(|vector| parameters.unflatten(vector)).into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(views.into_iter().flatten().collect())
}

/// Divides tensors that [`allocate`] made among the vectors.
fn by_vector(tensors: Vec<Tensor>) -> [Vec<Tensor>; VECTORS] {
    let count = tensors.len() / VECTORS;
    let mut tensors = tensors.into_iter();
    std::array::from_fn(|_| tensors.by_ref().take(count).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::parameters::Init;

    fn empty(shape: &[i64], kind: Kind) -> Result<Tensor, TchError> {
        Tensor::f_empty(shape, (kind, Device::Cpu))
    }

    #[test]
    fn tensors_share_blocks_and_do_not_overlap() {
        let sizes = std::cell::RefCell::new(Vec::new());
        let shapes = [vec![BLOCK / 2, 1], vec![3, 5], vec![BLOCK / 2 - 15], vec![1], vec![BLOCK + 1]];
        // Not touched, so the system does not provide the memory.
        let tensors = allocate(&shapes, Kind::Uint8, |shape, kind| {
            sizes.borrow_mut().push(shape[0]);
            empty(shape, kind)
        });
        let of_vector = [BLOCK, 1, BLOCK + 1];
        assert_eq!(*sizes.borrow(), of_vector.repeat(VECTORS));
        let vectors = by_vector(tensors.expect("memory"));
        let mut ranges: Vec<(usize, usize)> = Vec::new();
        for vector in &vectors {
            for (tensor, shape) in vector.iter().zip(&shapes) {
                assert_eq!(tensor.size(), *shape);
                assert!(tensor.is_contiguous());
                ranges.push((tensor.data_ptr() as usize, tensor.numel()));
            }
        }
        ranges.sort_unstable();
        assert_eq!(ranges.len(), VECTORS * shapes.len());
        assert!(ranges.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0));
    }

    #[test]
    fn duplicates_have_the_layout_of_the_state() {
        let mut parameters = Parameters::new(Kind::Float, Device::Cpu);
        for (name, shape) in [("bias", &[3][..]), ("weight", &[2, 3]), ("norm", &[2]), ("table", &[4, 2])] {
            let _handle = parameters.add(name.into(), shape, Init::Normal(1.0)).expect("parameter");
        }
        parameters.flatten().expect("flatten");
        parameters.draw().expect("draw");
        let moments = [1.0, 2.0].map(|first| Tensor::arange(19, (Kind::Float, Device::Cpu)) + first);
        let duplicate = [0; VECTORS].map(|_| Tensor::zeros([19], (Kind::Float, Device::Cpu)));
        no_grad(|| fill(&duplicate, &parameters, moments.each_ref()).expect("same sizes"));
        let views = by_vector(split(duplicate.each_ref(), &parameters).expect("views"));
        for (view, parameter) in views[0].iter().zip(parameters.iter()) {
            assert_eq!(view, &parameter.tensor);
        }
        for (views, moment) in views[1..].iter().zip(&moments) {
            for (view, expected) in views.iter().zip(parameters.unflatten(moment).expect("views")) {
                assert_eq!(view, &expected);
            }
        }
    }
}
