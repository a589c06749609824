//! Reduction of gradients during the backward pass.

use std::ffi::c_void;
use std::ptr::null_mut;
use std::rc::Rc;

use tch::{TchError, Tensor};

use super::error::with_context;
use super::ffi;
use super::group::ProcessGroup;
use crate::ffi::{TensorPtr, as_raw, check};

/// Bucket sizes of a [`Reducer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReducerOptions {
    /// Size of the first bucket in bytes. It is smaller so that communication starts early.
    pub first_bucket: usize,
    /// Size of the other buckets in bytes. A parameter is never split.
    pub bucket: usize,
}

impl Default for ReducerOptions {
    /// The bucket sizes of PyTorch's `DistributedDataParallel`: 1 MiB, then 25 MiB.
    fn default() -> Self {
        Self { first_bucket: 1 << 20, bucket: 25 << 20 }
    }
}

/// Sums the gradients of all ranks during the backward pass, with c10d's `Reducer` (the core of PyTorch's
/// `DistributedDataParallel`).
///
/// Parameters are grouped into buckets. During [`Self::backward`], the gradients of a bucket are copied from `.grad` as soon as
/// all of them are complete on this rank, and are reduced while the backward pass continues. Afterwards every `.grad` is the
/// **sum** over all ranks of their `.grad`. With losses that are sums over questions, this is the gradient that a single
/// process would compute from the questions of all ranks. (`DistributedDataParallel` also divides by the world size.) The
/// result is bit-identical on all ranks. A `.grad` keeps its memory, so it may be a view of a larger buffer.
///
/// The sum is over the whole `.grad`, not only over the contribution of this backward pass:
/// - Gradients accumulated by earlier backward passes without reduction are included.
/// - **Gradients must be set to zero after a reduction**. Otherwise the next one counts them once per rank.
/// - A backward function that accumulates into `.grad` itself and returns `None` (see [`crate::autograd::record`]) is
///   supported. A parameter is reduced after all its uses are done.
///
/// Create and drop a reducer while no backward pass is running. Every rank must pass the same parameters in the same order.
#[derive(Debug)]
pub struct Reducer {
    raw: *mut c_void,
    // `Rc` also makes this type `!Send`, because the group must not be used by two threads at once.
    group: Rc<ProcessGroup>,
    buckets: u64,
}

impl Reducer {
    /// Creates a reducer for `parameters`, which are leaves that require a gradient. All ranks must call it.
    ///
    /// # Errors
    /// A [`TchError`] if a parameter is not such a leaf, if parameters differ between ranks, or if another rank failed or timed
    /// out.
    pub fn new(group: Rc<ProcessGroup>, parameters: &[&Tensor], options: &ReducerOptions) -> Result<Self, TchError> {
        let list: Vec<TensorPtr> = parameters.iter().map(|tensor| as_raw(tensor)).collect();
        let mut raw = null_mut();
        // SAFETY: group and parameters outlive the call, the length matches the list, and `raw` is valid for writes.
        let created = check(unsafe {
            ffi::glm_ext_reducer_new(
                group.raw(),
                list.as_ptr(),
                list.len(),
                options.first_bucket.max(1) as u64,
                options.bucket.max(1) as u64,
                &mut raw,
            )
        });
        with_context(created, || group.describe("creating reducer"))?;
        Ok(Self { raw, group, buckets: 0 })
    }

    /// Runs the backward pass of `loss` and reduces all gradients.
    ///
    /// # Errors
    /// A [`TchError`] of the backward pass, or if `loss` does not depend on a parameter, or if another rank failed or timed
    /// out. The gradients are invalid then, and ranks are out of step.
    pub fn backward(&mut self, loss: &Tensor) -> Result<(), TchError> {
        self.prepare(loss)?;
        if let Err(error) = loss.f_backward() {
            self.reset();
            return with_context(Err(error), || self.group.describe("backward pass with gradient reduction"));
        }
        self.finish()
    }

    /// Enables the reduction for the next backward pass, which starts from `loss`.
    fn prepare(&mut self, loss: &Tensor) -> Result<(), TchError> {
        let list = [as_raw(loss)];
        // SAFETY: the reducer is alive, the length matches the list, and the tensor outlives the call.
        let prepared = check(unsafe { ffi::glm_ext_reducer_prepare(self.raw, list.as_ptr(), list.len()) });
        self.reset_on_error(prepared, "preparing gradient reduction")
    }

    /// Checks that the backward pass reduced every gradient. The error names the parameters that it did not reach.
    fn finish(&mut self) -> Result<(), TchError> {
        // SAFETY: the reducer is alive, and `buckets` is valid for writes.
        let finished = check(unsafe { ffi::glm_ext_reducer_finish(self.raw, &mut self.buckets) });
        self.reset_on_error(finished, "gradient reduction")
    }

    /// Number of buckets reduced by the last backward pass.
    pub fn buckets(&self) -> u64 {
        self.buckets
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
        // If the hooks cannot be removed, the C++ object is leaked.
        // SAFETY: `raw` was returned by `new` and is not used again.
        let _ignored = check(unsafe { ffi::glm_ext_reducer_free(self.raw) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distributed::{GroupOptions, Store, StoreOptions, available};
    use tch::Kind;

    fn single_process_group() -> Option<Rc<ProcessGroup>> {
        available().ok()?;
        let store = Store::serve(&StoreOptions { port: 0, ..StoreOptions::default() }).expect("a store");
        Some(Rc::new(ProcessGroup::new(&store, 0, 1, &GroupOptions::default()).expect("a group")))
    }

    fn variable(values: &[f64]) -> Tensor {
        Tensor::from_slice(values).set_requires_grad(true)
    }

    fn numbers(tensor: &Tensor) -> Vec<f64> {
        Vec::try_from(tensor).expect("numbers")
    }

    #[test]
    fn invalid_parameters_are_errors() {
        let Some(group) = single_process_group() else { return };
        let (leaf, constant) = (variable(&[1.0]), Tensor::from_slice(&[1.0]));
        let sum = &leaf + 1.0;
        for (list, expected) in [(vec![&leaf, &sum], "parameter 1 "), (vec![&constant], "parameter 0 "), (vec![], "no param")] {
            let error = Reducer::new(group.clone(), &list, &ReducerOptions::default()).expect_err("an error").to_string();
            assert!(error.contains(expected) && error.contains("creating reducer on rank 0 of 1"), "{error}");
        }
    }

    #[test]
    fn unused_parameters_are_errors() {
        let Some(group) = single_process_group() else { return };
        let (used, unused) = (variable(&[1.0, 2.0]), variable(&[3.0]));
        let loss = || (&used * 2.0).sum(Kind::Double);
        let mut reducer = Reducer::new(group, &[&used, &unused], &ReducerOptions::default()).expect("a reducer");
        for loss in [loss(), variable(&[1.0]).sum(Kind::Double)] {
            let error = reducer.backward(&loss).expect_err("an unused parameter").to_string();
            assert!(error.contains("gradient reduction on rank 0 of 1"), "{error}");
        }
        // The reducer remains usable.
        reducer.backward(&(loss() + unused.sum(Kind::Double))).expect("all parameters are used");
    }

    #[test]
    fn dropping_a_reducer_removes_its_hooks() {
        let Some(group) = single_process_group() else { return };
        let a = variable(&[1.0]);
        for _ in 0..2 {
            let mut reducer = Reducer::new(group.clone(), &[&a], &ReducerOptions::default()).expect("a reducer");
            reducer.backward(&a.sum(Kind::Double)).expect("backward");
            reducer.prepare(&a).expect("prepare");
        }
        a.sum(Kind::Double).backward();
        assert_eq!(numbers(&a.grad()), [3.0]);
    }

    #[test]
    fn errors_of_the_backward_pass_are_returned_and_the_reducer_remains_usable() {
        let Some(group) = single_process_group() else { return };
        let a = variable(&[1.0]);
        let mut reducer = Reducer::new(group, &[&a], &ReducerOptions::default()).expect("a reducer");
        let b = tch::no_grad(|| &a + 1.0);
        crate::autograd::record(c"fails", &[&a], &[&b], |_| Err(TchError::Kind("intended error".into()))).expect("record");
        let error = reducer.backward(&b.sum(Kind::Double)).expect_err("an error").to_string();
        assert!(error.contains("on rank 0 of 1") && error.contains("intended error"), "{error}");
        a.sum(Kind::Double).backward();
        reducer.backward(&a.sum(Kind::Double)).expect("backward");
        assert_eq!(numbers(&a.grad()), [2.0]);
    }
}
