//! Reduction of gradients during the backward pass.

use std::ffi::c_void;
use std::ops::Range;
use std::ptr::null_mut;
use std::rc::Rc;

use tch::{TchError, Tensor};

use super::error::with_context;
use super::ffi;
use super::group::ProcessGroup;
use crate::ffi::{TensorPtr, as_raw, check};

/// Elements of which every rank's part of a slice is a multiple with [`ReducerOptions::scatter`], so that no part starts at an address
/// which kernels of GPUs cannot use.
pub const PART_MULTIPLE: usize = 64;

/// Options of a [`Reducer`], the same on all ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReducerOptions {
    /// Approximate number of bytes of gradients that are reduced at once. A parameter is never split.
    pub bucket: usize,
    /// Sends gradients as bf16, in half the bytes of fp32: the gradients of each rank are rounded to bf16, and so is each sum.
    pub bf16: bool,
    /// Reduces and scatters: each rank receives the sums of its part of every slice only, see [`Reducer::slices`]. The rest of the
    /// gradients is undefined afterwards. Then the gradient of a parameter takes a multiple of [`PART_MULTIPLE`] times the number of ranks in
    /// the vector.
    pub scatter: bool,
}

impl Default for ReducerOptions {
    /// The bucket size of PyTorch's `DistributedDataParallel`, 25 MiB, and the format of the gradients.
    fn default() -> Self {
        Self { bucket: 25 << 20, bf16: false, scatter: false }
    }
}

/// Vector of the gradients of a run of parameters.
#[derive(Debug, Clone, Copy)]
pub struct Unit<'a> {
    /// The gradients.
    pub gradients: &'a Tensor,
    /// Their memory is released when they have been reduced.
    pub temporary: bool,
}

/// Sums the gradients of all ranks during the backward pass.
///
/// The gradients are views of one buffer, which is divided into slices. During [`Self::backward`], a slice is reduced in place as
/// soon as its gradients are complete on this rank, while the backward pass continues. Afterwards the buffer is the **sum** over
/// all ranks. With losses that are sums over questions, this is the gradient that a single process would compute from the
/// questions of all ranks. (PyTorch's `DistributedDataParallel` also divides by the world size, and copies gradients to buckets.)
/// The result is bit-identical on all ranks.
///
/// All ranks reduce the slices in the same order: from that of the last parameters, whose gradients a backward pass completes
/// first, to that of the first ones. A slice waits for those before it.
///
/// The sum is over the whole buffer, not only over the contribution of this backward pass:
/// - Gradients accumulated by earlier backward passes without reduction are included, and so are those of parameters that the
///   backward pass does not reach.
/// - **Gradients must be set to zero after a reduction**. Otherwise the next one counts them once per rank.
/// - A backward function that accumulates into `.grad` itself and returns `None` (see [`crate::autograd::record`]) is
///   supported. A parameter is reduced after all its uses are done.
///
/// On a GPU, only the stream waits for the other ranks, not the thread: work queued on the current stream afterwards sees the
/// sums. All operations that write gradients must be queued on one stream.
///
/// Create and drop a reducer while no backward pass is running.
#[derive(Debug)]
pub struct Reducer {
    raw: *mut c_void,
    // `Rc` also makes this type `!Send`, because the group must not be used by two threads at once.
    group: Rc<ProcessGroup>,
}

impl Reducer {
    /// Creates a reducer for `parameters`, which are leaves that require a gradient, in the order in which a forward pass uses
    /// them first. Their gradients are views of the vector `gradients` and fill it, in any order (see
    /// [`crate::autograd::set_gradient`]). All ranks must call it.
    ///
    /// # Errors
    /// A [`TchError`] if a parameter is not such a leaf, if the gradients do not fill the vector, if parameters or options
    /// differ between ranks, or if another rank failed or timed out.
    pub fn new(
        group: Rc<ProcessGroup>,
        parameters: &[&Tensor],
        gradients: &Tensor,
        options: &ReducerOptions,
    ) -> Result<Self, TchError> {
        Self::of_units(group, parameters, &[Unit { gradients, temporary: false }], None, options)
    }

    /// As [`Self::new`], with gradients in `units`, vectors that the parameters fill one after the other; they may be parts of one vector.
    /// No slice has gradients of two units.
    ///
    /// With `totals`, sums are scattered and added to that vector: those of this rank's part of each slice, in ascending order of places.
    /// Every backward pass reduces then, and gradients must be set to zero before each. The memory of temporary units is released after
    /// their reduction: before gradients are computed again it must be allocated ([`crate::memory::allocate_zeros`]).
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn of_units(
        group: Rc<ProcessGroup>,
        parameters: &[&Tensor],
        units: &[Unit<'_>],
        totals: Option<&Tensor>,
        options: &ReducerOptions,
    ) -> Result<Self, TchError> {
        let list: Vec<TensorPtr> = parameters.iter().map(|tensor| as_raw(tensor)).collect();
        let vectors: Vec<TensorPtr> = units.iter().map(|unit| as_raw(unit.gradients)).collect();
        let temporary: Vec<u8> = units.iter().map(|unit| u8::from(unit.temporary)).collect();
        let multiple = if options.scatter || totals.is_some() { PART_MULTIPLE * group.world_size() } else { 0 };
        let mut raw = null_mut();
        // SAFETY: group and tensors outlive the call, the lengths match the lists, and `raw` is valid for writes.
        let created = check(unsafe {
            ffi::glm_ext_reducer_new(
                group.raw(),
                list.as_ptr(),
                list.len(),
                vectors.as_ptr(),
                temporary.as_ptr(),
                vectors.len(),
                totals.map_or(null_mut(), as_raw),
                options.bucket.min(isize::MAX as usize) as u64,
                options.bf16.into(),
                multiple as u64,
                &mut raw,
            )
        });
        with_context(created, || group.describe("creating reducer"))?;
        Ok(Self { raw, group })
    }

    /// Runs the backward pass of `loss` and reduces all gradients.
    ///
    /// # Errors
    /// A [`TchError`] of the backward pass, or if another rank failed or timed out. The gradients are invalid then, and ranks are
    /// out of step unless all of them have failed at the same point. Slices whose reduction has started may change until the next
    /// reduction.
    pub fn backward(&mut self, loss: &Tensor) -> Result<(), TchError> {
        self.prepare()?;
        if let Err(error) = loss.f_backward() {
            self.reset();
            return with_context(Err(error), || self.group.describe("backward pass with gradient reduction"));
        }
        self.finish()
    }

    /// Reduces all gradients as they are, without a backward pass: for a rank that has nothing to add. The other ranks may call
    /// [`Self::backward`] meanwhile.
    ///
    /// # Errors
    /// A [`TchError`] if another rank failed or timed out.
    pub fn reduce(&mut self) -> Result<(), TchError> {
        self.prepare()?;
        self.finish()
    }

    /// As [`Self::reduce`], and calls `before` with the index of each slice before it starts to reduce the slice: for collectives that the
    /// backward passes of the other ranks need meanwhile.
    ///
    /// # Errors
    /// A [`TchError`] of `before`, or if another rank failed or timed out.
    pub fn reduce_after(&mut self, mut before: impl FnMut(usize) -> Result<(), TchError>) -> Result<(), TchError> {
        self.prepare()?;
        for slice in 0..self.slices().len() {
            // SAFETY: the reducer is alive.
            let started = before(slice).and_then(|()| check(unsafe { ffi::glm_ext_reducer_start(self.raw) }));
            self.reset_on_error(started, "gradient reduction")?;
        }
        self.finish()
    }

    /// Returns the slices as ranges of the vector of gradients, in the order in which they are reduced. With
    /// [`ReducerOptions::scatter`], each is divided into as many equal parts as there are ranks, in the order of ranks.
    pub fn slices(&self) -> Vec<Range<usize>> {
        // SAFETY: the reducer is alive.
        let count = unsafe { ffi::glm_ext_reducer_slices(self.raw) };
        let slice = |index| {
            let (mut begin, mut end) = (0, 0);
            // SAFETY: the reducer is alive and has that many slices, and both numbers are valid for writes.
            unsafe { ffi::glm_ext_reducer_slice(self.raw, index, &mut begin, &mut end) };
            begin as usize..end as usize
        };
        (0..count).map(slice).collect()
    }

    /// Returns the number of slices whose reduction began during the last backward pass. The others began after it.
    pub fn overlapped(&self) -> usize {
        // SAFETY: the reducer is alive.
        unsafe { ffi::glm_ext_reducer_overlapped(self.raw) }
    }

    /// Enables the reduction for the next backward pass.
    fn prepare(&mut self) -> Result<(), TchError> {
        // SAFETY: the reducer is alive.
        let prepared = check(unsafe { ffi::glm_ext_reducer_prepare(self.raw, self.group.wait_limit()) });
        self.reset_on_error(prepared, "preparing gradient reduction")
    }

    /// Reduces the slices that the backward pass did not complete, and waits for all of them.
    fn finish(&mut self) -> Result<(), TchError> {
        // SAFETY: the reducer is alive.
        let finished = check(unsafe { ffi::glm_ext_reducer_finish(self.raw, self.group.wait_limit()) });
        self.reset_on_error(finished, "gradient reduction")
    }

    fn reset_on_error(&mut self, result: Result<(), TchError>, action: &str) -> Result<(), TchError> {
        if result.is_err() {
            self.reset();
        }
        with_context(result, || self.group.describe(action))
    }

    /// Resets the state after a failed pass, so that the next backward pass does not reduce.
    fn reset(&mut self) {
        // An error here would hide the original one.
        // SAFETY: the reducer is alive.
        let _ignored = check(unsafe { ffi::glm_ext_reducer_reset(self.raw) });
    }
}

impl Drop for Reducer {
    fn drop(&mut self) {
        // Hooks that cannot be removed have no effect.
        // SAFETY: `raw` was returned by `new` and is not used again.
        let _ignored = check(unsafe { ffi::glm_ext_reducer_free(self.raw) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::set_gradient;
    use crate::distributed::{GroupOptions, Store, StoreOptions, available};
    use tch::Kind;

    fn single_process_group() -> Option<Rc<ProcessGroup>> {
        available().ok()?;
        let store = Store::serve(&StoreOptions { port: 0, ..StoreOptions::default() }).expect("a store");
        Some(Rc::new(ProcessGroup::new(&store, 0, 1, &GroupOptions::default()).expect("a group")))
    }

    /// Returns parameters whose gradients are views of one vector, and that vector.
    fn parameters<const N: usize>(values: [&[f64]; N]) -> ([Tensor; N], Tensor) {
        let count: usize = values.iter().map(|values| values.len()).sum();
        let gradients = Tensor::zeros([count as i64], (Kind::Double, tch::Device::Cpu));
        let mut next = 0;
        let parameters = values.map(|values| {
            let parameter = Tensor::from_slice(values).set_requires_grad(true);
            let count = values.len() as i64;
            set_gradient(&parameter, &gradients.narrow(0, next, count)).expect("a view");
            next += count;
            parameter
        });
        (parameters, gradients)
    }

    fn reducer(group: &Rc<ProcessGroup>, parameters: &[&Tensor], gradients: &Tensor) -> Result<Reducer, TchError> {
        Reducer::new(Rc::clone(group), parameters, gradients, &ReducerOptions { bucket: 16, ..ReducerOptions::default() })
    }

    fn numbers(tensor: &Tensor) -> Vec<f64> {
        Vec::try_from(tensor).expect("numbers")
    }

    #[test]
    fn invalid_parameters_are_errors() {
        let Some(group) = single_process_group() else { return };
        let ([a, b], both) = parameters([&[1.0], &[2.0]]);
        let ([other], own) = parameters([&[1.0]]);
        let (sum, constant) = (&a + 1.0, Tensor::from_slice(&[1.0]));
        let cases = [
            (vec![&a, &sum], &both, "parameter 1 is not a leaf"),
            (vec![&constant], &both, "parameter 0 is not a leaf"),
            (vec![&a, &other], &both, "the gradient of parameter 1 is not a view"),
            (vec![&a, &a, &b], &both, "overlap"),
            (vec![&b], &both, "gaps before that of parameter 0"),
            (vec![&a], &both, "do not fill the buffer"),
            (vec![], &own, "do not fill the buffer"),
            (vec![], &Tensor::new(), "undefined"),
        ];
        for (list, gradients, expected) in cases {
            let error = reducer(&group, &list, gradients).expect_err("an error").to_string();
            assert!(error.contains(expected) && error.contains("creating reducer on rank 0 of 1"), "{error}");
        }
    }

    #[test]
    fn slices_follow_the_backward_pass() {
        let Some(group) = single_process_group() else { return };
        // As in the trainer: weights in the order of the layers, then biases. The first weight is used first and last.
        let ([tied, w1, w2, w3, b1], gradients) = parameters([&[1.0; 8], &[1.0; 2], &[1.0; 1], &[1.0; 2], &[1.0; 1]]);
        let mut reducer = reducer(&group, &[&tied, &w1, &b1, &w2, &w3], &gradients).expect("a reducer");
        // Of about 16 bytes. The bias is not joined with the last weight, which is complete earlier.
        assert_eq!(reducer.slices(), [11..13, 13..14, 8..11, 0..8]);
        let x = (tied.sum(Kind::Double) * w1.sum(Kind::Double) + &b1) * w2 * w3.sum(Kind::Double) * tied.sum(Kind::Double);
        reducer.backward(&x.sum(Kind::Double)).expect("backward");
        assert_eq!(reducer.overlapped(), 4);
    }

    #[test]
    fn parameters_of_one_bucket_are_slices_of_their_own() {
        let Some(group) = single_process_group() else { return };
        let (all, gradients) = parameters([&[1.0, 2.0], &[3.0, 4.0], &[5.0, 6.0]]);
        let mut reducer = reducer(&group, &all.each_ref(), &gradients).expect("a reducer");
        assert_eq!(reducer.slices(), [4..6, 2..4, 0..2]);
        reducer.backward(&Tensor::cat(&all, 0).square().sum(Kind::Double)).expect("backward");
        assert_eq!(reducer.overlapped(), 3);
        assert_eq!(numbers(&gradients), [2.0, 4.0, 6.0, 8.0, 10.0, 12.0]);
    }

    #[test]
    fn slices_that_the_backward_pass_does_not_reach_are_reduced_after_it() {
        let Some(group) = single_process_group() else { return };
        let ([first, second, last], gradients) = parameters([&[1.0, 2.0], &[3.0, 4.0], &[5.0, 6.0]]);
        let mut reducer = reducer(&group, &[&first, &second, &last], &gradients).expect("a reducer");
        let loss = |used: &[&Tensor]| used.iter().map(|tensor| tensor.sum(Kind::Double)).sum::<Tensor>();
        for (used, overlapped) in [(vec![&first, &last], 1), (vec![&first], 0), (vec![&first, &second, &last], 3)] {
            reducer.backward(&loss(&used)).expect("backward");
            assert_eq!(reducer.overlapped(), overlapped);
        }
        reducer.reduce().expect("without a backward pass");
        assert_eq!((reducer.overlapped(), numbers(&gradients)), (0, vec![3.0, 3.0, 1.0, 1.0, 2.0, 2.0]));
    }

    #[test]
    fn a_gradient_that_is_replaced_is_an_error() {
        let Some(group) = single_process_group() else { return };
        let ([a], gradients) = parameters([&[1.0]]);
        let mut reducer = reducer(&group, &[&a], &gradients).expect("a reducer");
        set_gradient(&a, &Tensor::zeros_like(&gradients)).expect("a gradient");
        let error = reducer.backward(&a.sum(Kind::Double)).expect_err("not a view").to_string();
        assert!(error.contains("parameter 0 is no longer a view of the buffer"), "{error}");
        set_gradient(&a, &gradients).expect("a view");
        reducer.backward(&a.sum(Kind::Double)).expect("backward");
    }

    #[test]
    fn bf16_rounds_gradients() {
        let Some(group) = single_process_group() else { return };
        let ([a], gradients) = parameters([&[1.0, 1.0, 1.0]]);
        let options = ReducerOptions { bf16: true, ..ReducerOptions::default() };
        let mut reducer = Reducer::new(group, &[&a], &gradients, &options).expect("a reducer");
        let weights = Tensor::from_slice(&[1.0 + 2_f64.powi(-9), 1.0 + 2_f64.powi(-6), f64::INFINITY]);
        reducer.backward(&(&a * weights).sum(Kind::Double)).expect("backward");
        assert_eq!(numbers(&gradients), [1.0, 1.0 + 2_f64.powi(-6), f64::INFINITY]);
    }

    #[test]
    fn dropping_a_reducer_removes_its_hooks() {
        let Some(group) = single_process_group() else { return };
        let ([a], gradients) = parameters([&[1.0]]);
        for _ in 0..2 {
            let mut reducer = reducer(&group, &[&a], &gradients).expect("a reducer");
            reducer.backward(&a.sum(Kind::Double)).expect("backward");
            reducer.prepare().expect("prepare");
        }
        a.sum(Kind::Double).backward();
        assert_eq!(numbers(&a.grad()), [3.0]);
    }

    #[test]
    fn errors_of_the_backward_pass_are_returned_and_the_reducer_remains_usable() {
        let Some(group) = single_process_group() else { return };
        let ([a], gradients) = parameters([&[1.0]]);
        let mut reducer = reducer(&group, &[&a], &gradients).expect("a reducer");
        let b = tch::no_grad(|| &a + 1.0);
        crate::autograd::record(c"fails", &[&a], &[&b], |_| Err(TchError::Kind("intended error".into()))).expect("record");
        let error = reducer.backward(&b.sum(Kind::Double)).expect_err("an error").to_string();
        assert!(error.contains("on rank 0 of 1") && error.contains("intended error"), "{error}");
        a.sum(Kind::Double).backward();
        reducer.backward(&a.sum(Kind::Double)).expect("backward");
        assert_eq!(numbers(&a.grad()), [2.0]);
    }
}
