//! Weights of which each rank holds a part.
//!
//! "ZeRO: Memory Optimizations Toward Training Trillion Parameter Models" (Rajbhandari et al. 2020). In stages 1 and 2, passes that compute
//! with copies in half precision have whole copies, and a rank has its part of the master weights. In stage 3, as in PyTorch's FSDP, what
//! passes compute with is divided as well: the matrices of a block are whole from the beginning of its forward or backward pass to its end.
//! Tables, biases and LayerNorm parameters are whole on every rank.

use std::cell::Cell;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use libtorch_ext::distributed::{DividedVector, ProcessGroup};
use tch::{Device, Kind, TchError, Tensor, no_grad};

use super::parameter::Parameter;

/// Parameters that follow one another in the flat buffers and have their values and gradients in one vector.
#[derive(Debug)]
pub(super) struct Run {
    /// Indices of the parameters, and their places in the run.
    pub(super) parameters: Vec<(usize, Range<i64>)>,
    /// Place of the run in the flat buffers.
    pub(super) place: Range<i64>,
    /// True for the matrices of a block.
    pub(super) is_block: bool,
}

impl Run {
    /// Views of a vector with the elements of the run, with the shapes of the parameters.
    pub(super) fn views(&self, vector: &Tensor, named: &[Parameter]) -> Result<Vec<(usize, Tensor)>, TchError> {
        let view = |(index, place): &(usize, Range<i64>)| {
            let numbers = vector.f_narrow(0, place.start, place.end - place.start)?;
            Ok((*index, numbers.f_view(named[*index].shape())?))
        };
        self.parameters.iter().map(view).collect()
    }
}

/// Runs of parameters with the same [`Parameter::unit`], in the order of their places in the flat buffers, of which a parameter takes a
/// number of elements.
pub(super) fn runs(named: &[Parameter], places: &[Range<i64>], taken: impl Fn(&Parameter) -> i64) -> Vec<Run> {
    let mut order: Vec<usize> = (0..named.len()).collect();
    order.sort_by_key(|&index| places[index].start);
    let run = |unit: &[usize]| {
        let (&first, &last) = (unit.first()?, unit.last()?);
        let start = places[first].start;
        let end = places[last].start + taken(&named[last]);
        let within = |&index: &usize| (index, places[index].start - start..places[index].end - start);
        let is_block = named[first].is_matrix_of_block();
        Some(Run { parameters: unit.iter().map(within).collect(), place: start..end, is_block })
    };
    order.chunk_by(|&one, &other| named[one].unit() == named[other].unit()).filter_map(run).collect()
}

/// Gradients of a run of parameters as one vector.
#[derive(Debug)]
pub struct GradientUnit {
    /// The gradients.
    pub gradients: Tensor,
    /// True if there is memory for them in the backward pass only.
    pub temporary: bool,
}

/// How ranks divide weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Division {
    /// They divide the master weights. Copies in this kind, with which passes compute, are whole.
    Masters(Kind),
    /// They divide the matrices of blocks with which passes compute as well: copies in this kind, if any, else the master weights.
    Blocks(Option<Kind>),
}

impl Division {
    pub(super) fn half(self) -> Option<Kind> {
        match self {
            Self::Masters(kind) => Some(kind),
            Self::Blocks(kind) => kind,
        }
    }
}

/// The matrices of one block.
#[derive(Debug, Clone)]
pub struct BlockWeights(Arc<Mutex<DividedVector>>);

impl BlockWeights {
    fn new(group: &ProcessGroup, whole: &Tensor, own: &Tensor) -> Result<Self, TchError> {
        // SAFETY: the vector and its views, which are parameters, are used between `gather` and `release`.
        let vector = unsafe { DividedVector::new(group, whole, own) }?;
        Ok(Self(Arc::new(Mutex::new(vector))))
    }

    fn lock(&self) -> MutexGuard<'_, DividedVector> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes them whole, and starts to gather those of the block to which a pass comes `next`, so that they are on their way while it
    /// computes this one. All ranks call it together.
    ///
    /// # Errors
    /// A [`TchError`], for example out of memory, or if another rank failed or timed out.
    pub fn gather(&self, next: Option<&Self>) -> Result<(), TchError> {
        self.lock().start()?;
        next.map_or(Ok(()), |next| next.lock().start())?;
        self.lock().gather()
    }

    /// Frees their memory.
    ///
    /// # Errors
    /// A [`TchError`] if another rank failed or timed out while they were on their way.
    pub fn release(&self) -> Result<(), TchError> {
        // SAFETY: the forward and backward pass of the block read them between `gather` and `release`, and nothing else does.
        unsafe { self.lock().release() }
    }
}

/// Values of a run.
#[derive(Debug)]
struct Values {
    run: Run,
    /// All of the master weights; without memory for the matrices of a block.
    whole: Tensor,
    /// This rank's part.
    own: Tensor,
    /// Copies in half precision, if passes compute with them.
    half: Option<Half>,
    /// The matrices of a block.
    block: Option<Block>,
}

/// Copies of a run.
#[derive(Debug)]
struct Half {
    /// All of them; without memory for the matrices of a block, if passes gather them.
    whole: Tensor,
    /// This rank's part of them, unless passes gather them: then they are cast from the master weights.
    own: Option<Tensor>,
}

#[derive(Debug)]
struct Block {
    /// Master weights.
    masters: BlockWeights,
    /// What passes compute with, if they gather it.
    computed: Option<BlockWeights>,
}

/// All weights of a model, of which this rank holds a part.
#[derive(Debug)]
pub struct DividedWeights {
    own: Tensor,
    values: Vec<Values>,
    /// Views of the copies in half precision, by index of the parameter.
    views: Vec<(usize, Tensor)>,
    is_whole: Cell<bool>,
}

impl DividedWeights {
    /// Divides values among the ranks of a group. Rank 0 has them in `values`, a flat buffer, and sends them, one run at a time. The
    /// parameters become views of vectors for each run.
    pub(super) fn new(
        values: Option<&Tensor>,
        runs: Vec<Run>,
        named: &mut [Parameter],
        options: (Kind, Device),
        group: &ProcessGroup,
        division: Division,
    ) -> Result<Self, TchError> {
        let (rank, ranks) = (group.rank() as i64, group.world_size() as i64);
        let count = runs.last().map_or(0, |run| run.place.end);
        let all = Tensor::f_zeros([count / ranks], options)?;
        let (mut divided, mut views) = (Vec::with_capacity(runs.len()), Vec::new());
        for run in runs {
            let Range { start, end } = run.place;
            let part = (end - start) / ranks;
            let mut whole = Tensor::f_empty([end - start], options)?;
            if let Some(values) = values {
                no_grad(|| whole.f_copy_(&values.f_narrow(0, start, end - start)?))?;
            }
            group.broadcast(&mut whole, 0)?;
            let own = all.f_narrow(0, start / ranks, part)?;
            no_grad(|| own.shallow_clone().f_copy_(&whole.f_narrow(0, rank * part, part)?))?;
            for (index, view) in run.views(&whole, named)? {
                no_grad(|| named[index].tensor.f_set_data(&view))?;
            }
            let is_gathered = run.is_block && matches!(division, Division::Blocks(_));
            let half = match division.half() {
                Some(kind) => {
                    let half = no_grad(|| whole.f_to_device_(options.1, kind, false, true))?;
                    // Views can be made before the memory is released.
                    views.extend(run.views(&half, named)?);
                    let own = if is_gathered { None } else { Some(half.f_narrow(0, rank * part, part)?) };
                    Some(Half { whole: half, own })
                }
                None => None,
            };
            let block = match run.is_block {
                true => {
                    let masters = BlockWeights::new(group, &whole, &own)?;
                    let computed = match &half {
                        _ if !is_gathered => None,
                        Some(half) => Some(BlockWeights::new(group, &half.whole, &own)?),
                        None => Some(masters.clone()),
                    };
                    Some(Block { masters, computed })
                }
                false => None,
            };
            divided.push(Values { run, whole, own, half, block });
        }
        Ok(Self { own: all, values: divided, views, is_whole: Cell::new(false) })
    }

    /// This rank's part of all runs, in the order of their places.
    pub fn own(&self) -> &Tensor {
        &self.own
    }

    /// This rank's part of the copies in half precision of the run at a place in the flat buffers; `None` if it keeps none.
    pub fn own_half(&self, place: &Range<i64>) -> Option<&Tensor> {
        let index = self.values.binary_search_by_key(&place.start, |values| values.run.place.start).ok()?;
        self.values[index].half.as_ref()?.own.as_ref()
    }

    /// The matrices of a block, if passes gather them and not all of them are whole.
    pub fn block(&self, layer: usize) -> Option<BlockWeights> {
        if self.is_whole.get() { None } else { self.blocks().nth(layer).cloned() }
    }

    /// The matrices of all blocks, in their order, as passes compute with them; none if passes do not gather them.
    pub fn blocks(&self) -> impl Iterator<Item = &BlockWeights> {
        self.values.iter().filter_map(|values| values.block.as_ref()?.computed.as_ref())
    }

    /// Makes the matrices of all blocks whole for several forward passes, of which ranks have different numbers, or frees their memory.
    ///
    /// # Errors
    /// As [`BlockWeights::gather`].
    pub fn keep_whole(&self, whole: bool) -> Result<(), TchError> {
        self.is_whole.set(whole);
        self.blocks().try_for_each(|block| if whole { block.gather(None) } else { block.release() })
    }

    /// Values that every rank holds.
    pub fn replicated(&self) -> impl Iterator<Item = &Tensor> {
        self.values.iter().filter_map(|Values { whole, half, block, .. }| match (block, half) {
            (None, _) => Some(whole),
            (Some(_), Some(Half { whole, own: Some(_) })) => Some(whole),
            _ => None,
        })
    }

    /// Views of the copies in half precision, by index of the parameter; none without copies.
    pub(super) fn views(&self) -> impl Iterator<Item = (usize, Tensor)> {
        self.views.iter().map(|(index, view)| (*index, view.shallow_clone()))
    }

    /// After the ranks have updated their parts, and the copies of these: makes the values that every rank holds whole with `gather`, which
    /// fills a vector with the parts of all ranks.
    ///
    /// # Errors
    /// A [`TchError`] of `gather`.
    pub fn refresh(&self, gather: impl Fn(&mut Tensor, &Tensor) -> Result<(), TchError>) -> Result<(), TchError> {
        for Values { whole, own, half, block, .. } in &self.values {
            match (block, half) {
                (None, half) => {
                    gather(&mut whole.shallow_clone(), own)?;
                    if let Some(half) = half {
                        no_grad(|| half.whole.shallow_clone().f_copy_(whole))?;
                    }
                }
                (Some(_), Some(Half { whole, own: Some(own) })) => gather(&mut whole.shallow_clone(), own)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Copies the master weights of all ranks to the host, one run at a time, by index of the parameter. All ranks call it together; those
    /// that do not `keep` the copies get nothing.
    ///
    /// # Errors
    /// A [`TchError`], for example out of memory, or if another rank failed or timed out.
    pub(super) fn copy(&self, named: &[Parameter], keep: bool) -> Result<Vec<(usize, Tensor)>, TchError> {
        let mut copies = Vec::new();
        for Values { run, whole, block, .. } in &self.values {
            let masters = block.as_ref().map(|block| &block.masters);
            masters.map_or(Ok(()), |masters| masters.gather(None))?;
            if keep {
                let copy = no_grad(|| whole.f_to_device_(Device::Cpu, whole.f_kind()?, false, true))?;
                copies.extend(run.views(&copy, named)?);
            }
            masters.map_or(Ok(()), BlockWeights::release)?;
        }
        Ok(copies)
    }
}

#[cfg(test)]
mod tests {
    use libtorch_ext::distributed::{GroupOptions, PART_MULTIPLE, Store, StoreOptions, available};

    use super::*;
    use crate::model::parameters::{Init, Parameters};

    fn parameters() -> (Parameters, [Tensor; 3]) {
        let mut parameters = Parameters::new(Kind::Float, Device::Cpu);
        let shapes = [("word_embeddings.weight", &[2, 3][..]), ("transformer.layers.0.weight", &[3, 4]), ("bias", &[4])];
        let handles = shapes.map(|(name, shape)| parameters.add(name.into(), shape, Init::Normal(1.0)).expect("parameter"));
        parameters.make_divisible(PART_MULTIPLE);
        (parameters, handles)
    }

    /// The same with random values, in flat buffers.
    fn drawn() -> (Parameters, [Tensor; 3]) {
        let (mut parameters, handles) = parameters();
        parameters.flatten().expect("flatten");
        parameters.draw().expect("draw");
        (parameters, handles)
    }

    fn group_of_one() -> ProcessGroup {
        let store = Store::serve(&StoreOptions { port: 0, ..StoreOptions::default() }).expect("a store");
        ProcessGroup::new(&store, 0, 1, &GroupOptions::default()).expect("a group")
    }

    #[test]
    fn matrices_of_blocks_exist_while_they_are_gathered() {
        if available().is_err() {
            return;
        }
        let (group, (whole, expected)) = (group_of_one(), drawn());
        for half in [None, Some(Kind::BFloat16)] {
            let (mut divided, [table, weight, bias]) = parameters();
            divided.divide(Some(whole.values()), &group, Division::Blocks(half)).expect("divided");
            let weights = divided.divided().expect("divided");
            assert_eq!(weights.own(), whole.values());
            assert_eq!([&table, &bias], [&expected[0], &expected[2]]);
            assert_eq!(weight.size(), [3, 4]);
            let block = divided.temporary_weights(0).expect("a block");
            for _ in 0..2 {
                block.gather(None).expect("gathered");
                match half {
                    None => assert_eq!(weight, expected[1]),
                    Some(kind) => {
                        let copy = |parameter: &Tensor| divided.cast(parameter, kind).expect("a copy").shallow_clone();
                        assert_eq!(copy(&weight), expected[1].to_kind(kind));
                        assert_eq!(copy(&table), expected[0].to_kind(kind));
                    }
                }
                block.release().expect("released");
            }
            let copies = divided.copy(true).expect("copies");
            assert!(copies.iter().all(|(index, values)| *values == expected[*index]) && copies.len() == 3);
            assert!(divided.copy(false).expect("copies").is_empty());

            let _more = no_grad(|| weights.own().shallow_clone().f_add_scalar_(1.0)).expect("added");
            weights.refresh(|whole, own| group.queue_gather(whole, own)).expect("refreshed");
            assert_eq!(table, &expected[0] + 1.0);
            weights.keep_whole(true).expect("gathered");
            assert!(divided.temporary_weights(0).is_none());
            if half.is_none() {
                assert_eq!(weight, &expected[1] + 1.0);
            }
            weights.keep_whole(false).expect("released");
        }
    }

    #[test]
    fn copies_are_whole_where_master_weights_are_divided() {
        if available().is_err() {
            return;
        }
        let (group, (whole, expected)) = (group_of_one(), drawn());
        let (mut divided, handles) = parameters();
        let kind = Kind::BFloat16;
        divided.divide(Some(whole.values()), &group, Division::Masters(kind)).expect("divided");
        divided.alloc_grads().expect("gradients");
        assert_eq!(divided.units().len(), 3);
        assert!(divided.temporary_weights(0).is_none() && divided.copied() == Some(kind));
        assert!(divided.computed(&handles[1], Kind::Float).is_err(), "there is no memory for the master weights");
        let weights = divided.divided().expect("divided");
        assert_eq!(weights.blocks().count(), 0);
        // As an optimizer updates a rank's part and its copies.
        let more = no_grad(|| weights.own().shallow_clone().f_add_scalar_(1.0)).expect("added");
        let places = [0..64, 64..128, 128..192];
        for place in &places {
            let own = more.narrow(0, place.start, 64);
            no_grad(|| weights.own_half(place).expect("copies").shallow_clone().copy_(&own));
        }
        weights.refresh(|whole, own| group.queue_gather(whole, own)).expect("refreshed");
        for (handle, expected) in handles.iter().zip(&expected) {
            assert_eq!(*divided.computed(handle, kind).expect("a copy"), (expected + 1.0).to_kind(kind));
        }
        assert_eq!(weights.replicated().map(Tensor::kind).collect::<Vec<_>>(), [Kind::Float, kind, Kind::Float]);
        let masters = divided.copy(true).expect("copies");
        assert!(masters.iter().all(|(index, values)| *values == &expected[*index] + 1.0) && masters.len() == 3);
    }
}
