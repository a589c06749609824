//! Gradients of all ranks, added up while the backward pass goes on.

use std::ffi::{c_int, c_void};
use std::ptr::null_mut;
use std::rc::Rc;

use tch::{TchError, Tensor};

use super::group::ProcessGroup;
use super::{during, ffi};
use crate::ffi::{TensorPtr, check, lend};

/// How a [`Reducer`] works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReducerOptions {
    /// Bytes of the first bucket, which is smaller so that sending starts early.
    pub first_bucket: usize,
    /// Bytes of the others. A parameter is never split.
    pub bucket: usize,
    /// Divides the sum by the world size.
    pub average: bool,
    /// Lets a backward pass leave parameters out. Costs a walk over the graph and one more message a pass.
    pub find_unused: bool,
}

impl Default for ReducerOptions {
    /// The sum, all parameters used, and the buckets of PyTorch's `DistributedDataParallel`: 1 MiB, then 25 MiB.
    fn default() -> Self {
        Self { first_bucket: 1 << 20, bucket: 25 << 20, average: false, find_unused: false }
    }
}

/// Adds up the gradients of all ranks: c10d's `Reducer`, which is inside PyTorch's `DistributedDataParallel`.
///
/// Parameters are put into buckets. During [`Self::backward`], as soon as the gradients of a bucket are complete on this rank
/// they are copied out of `.grad`, and the bucket is sent while the pass goes on; at its end every `.grad` holds
///
/// > the **sum** over all ranks of what `.grad` was on each,
///
/// which is that of one process with all the questions, where losses are sums over questions. (`DistributedDataParallel`
/// divides by the world size instead, as [`ReducerOptions::average`] does.) All ranks have the same bits. A `.grad` keeps its
/// memory, so a view of a larger buffer remains one.
///
/// What is summed is `.grad` and not only what this pass adds to it, so:
/// - What [`Self::accumulate`] added before is part of the sum: several passes, one reduction.
/// - **Behind a reduction gradients are to be set to zero** before the next pass; what is left there would be counted once
///   for every rank.
/// - A backward function that adds into `.grad` by itself and returns `None` (see [`crate::autograd::record`]) is counted
///   like any other, as often as a parameter is used: the parameter's turn comes when all its uses are through.
///
/// Make it, and drop it, while no backward pass runs. Every rank makes it with the same parameters in the same order.
#[derive(Debug)]
pub struct Reducer {
    raw: *mut c_void,
    // Also keeps this on the group's thread, as the group must not be used by two at once.
    group: Rc<ProcessGroup>,
    buckets: u64,
}

impl Reducer {
    /// For `parameters`, leaves that need a gradient, together with all other ranks.
    ///
    /// # Errors
    /// A [`TchError`] where one is no such leaf, ranks have different ones, or a rank is gone or late.
    pub fn new(group: Rc<ProcessGroup>, parameters: &[&Tensor], options: &ReducerOptions) -> Result<Self, TchError> {
        let list: Vec<TensorPtr> = parameters.iter().map(|tensor| lend(tensor)).collect();
        let mut raw = null_mut();
        // SAFETY: group and parameters outlive the call, the list is as long as said, and `raw` has room for the pointer.
        let made = check(unsafe {
            ffi::glm_ext_reducer_new(
                group.raw(),
                list.as_ptr(),
                list.len(),
                options.first_bucket.max(1) as u64,
                options.bucket.max(1) as u64,
                c_int::from(options.find_unused),
                c_int::from(options.average),
                &mut raw,
            )
        });
        during(made, || group.what("making a reducer"))?;
        Ok(Self { raw, group, buckets: 0 })
    }

    /// The backward pass of `loss`, and the reduction of all gradients.
    ///
    /// # Errors
    /// A [`TchError`] of the pass, where a parameter had no part in `loss` (unless [`ReducerOptions::find_unused`]), or where a
    /// rank is gone or late. Gradients are of no use then, and the ranks are out of step.
    pub fn backward(&mut self, loss: &Tensor) -> Result<(), TchError> {
        self.prepare_for_backward(&[loss])?;
        if let Err(error) = loss.f_backward() {
            self.reset();
            return during(Err(error), || self.group.what("backward pass with the reduction of gradients"));
        }
        self.finish()
    }

    /// The backward pass of `loss` without a reduction: gradients of this rank are added to what is there.
    ///
    /// # Errors
    /// A [`TchError`] of the pass.
    pub fn accumulate(&mut self, loss: &Tensor) -> Result<(), TchError> {
        loss.f_backward()
    }

    /// The first part of [`Self::backward`], for a backward pass of another form: the next one from `outputs` on reduces. A
    /// pass without this before it does not.
    ///
    /// # Errors
    /// A [`TchError`] where the pass before it was not finished, or a rank is gone or late.
    pub fn prepare_for_backward(&mut self, outputs: &[&Tensor]) -> Result<(), TchError> {
        let list: Vec<TensorPtr> = outputs.iter().map(|tensor| lend(tensor)).collect();
        // SAFETY: the reducer is alive, the list is as long as said and its tensors outlive the call.
        let prepared = check(unsafe { ffi::glm_ext_reducer_prepare(self.raw, list.as_ptr(), list.len()) });
        self.done(prepared, "preparing the reduction of gradients")
    }

    /// The last part of [`Self::backward`]: checks that the pass reduced every gradient.
    ///
    /// # Errors
    /// A [`TchError`] where it did not; it says which parameters it did not reach.
    pub fn finish(&mut self) -> Result<(), TchError> {
        // SAFETY: the reducer is alive, and there is room for the answer.
        let finished = check(unsafe { ffi::glm_ext_reducer_finish(self.raw, &mut self.buckets) });
        self.done(finished, "reduction of gradients")
    }

    /// How many buckets the last pass reduced.
    pub fn buckets(&self) -> u64 {
        self.buckets
    }

    /// The group whose gradients these are.
    pub fn group(&self) -> &Rc<ProcessGroup> {
        &self.group
    }

    fn done(&mut self, result: Result<(), TchError>, action: &str) -> Result<(), TchError> {
        if result.is_err() {
            self.reset();
        }
        during(result, || self.group.what(action))
    }

    /// Forgets a pass that failed, so that a pass without a reduction is one again.
    fn reset(&mut self) {
        // SAFETY: the reducer is alive. Its error would hide the one that led here.
        let _ignored = check(unsafe { ffi::glm_ext_reducer_reset(self.raw) });
    }
}

impl Drop for Reducer {
    fn drop(&mut self) {
        // SAFETY: `raw` came from `new` and is not used again. Where its hooks cannot be taken off, it stays.
        let _ignored = check(unsafe { ffi::glm_ext_reducer_free(self.raw) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distributed::{GroupOptions, Store, StoreOptions, available};
    use tch::{Device, Kind};

    fn alone() -> Option<Rc<ProcessGroup>> {
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
    fn parameters_that_will_not_do_are_errors() {
        let Some(group) = alone() else { return };
        let (leaf, constant) = (variable(&[1.0]), Tensor::from_slice(&[1.0]));
        let sum = &leaf + 1.0;
        for (list, expected) in [(vec![&leaf, &sum], "parameter 1 "), (vec![&constant], "parameter 0 "), (vec![], "no param")] {
            let error = Reducer::new(group.clone(), &list, &ReducerOptions::default()).expect_err("an error").to_string();
            assert!(error.contains(expected) && error.contains("making a reducer on rank 0 of 1"), "{error}");
        }
    }

    #[test]
    fn a_parameter_that_is_left_out_is_an_error_unless_it_may_be() {
        let Some(group) = alone() else { return };
        let (used, left) = (variable(&[1.0, 2.0]), variable(&[3.0]));
        let loss = || (&used * 2.0).sum(Kind::Double);
        let mut strict = Reducer::new(group.clone(), &[&used, &left], &ReducerOptions::default()).expect("a reducer");
        let error = strict.backward(&loss()).expect_err("left out").to_string();
        assert!(error.contains("reduction of gradients on rank 0 of 1") && error.contains("1"), "{error}");
        // And is usable again.
        strict.backward(&(loss() + left.sum(Kind::Double))).expect("all used");
        drop(strict);

        let _zeros = used.grad().zero_();
        let options = ReducerOptions { find_unused: true, ..ReducerOptions::default() };
        let mut lenient = Reducer::new(group, &[&used, &left], &options).expect("a reducer");
        lenient.backward(&loss()).expect("it may be");
        assert_eq!(numbers(&used.grad()), [2.0, 2.0]);
        let none = (Tensor::ones([1], (Kind::Double, Device::Cpu)).set_requires_grad(true)).sum(Kind::Double);
        assert!(lenient.backward(&none).expect_err("no parameter").to_string().contains("reached no parameter"));
    }

    #[test]
    fn hooks_go_with_the_reducer() {
        let Some(group) = alone() else { return };
        let a = variable(&[1.0]);
        for _ in 0..2 {
            let mut reducer = Reducer::new(group.clone(), &[&a], &ReducerOptions::default()).expect("a reducer");
            reducer.backward(&a.sum(Kind::Double)).expect("backward");
            reducer.prepare_for_backward(&[]).expect("prepare");
        }
        a.sum(Kind::Double).backward();
        assert_eq!(numbers(&a.grad()), [3.0]);
    }

    #[test]
    fn an_error_of_the_pass_comes_through_and_a_pass_without_reduction_goes_on() {
        let Some(group) = alone() else { return };
        let a = variable(&[1.0]);
        let mut reducer = Reducer::new(group, &[&a], &ReducerOptions::default()).expect("a reducer");
        let b = tch::no_grad(|| &a + 1.0);
        crate::autograd::record(c"fails", &[&a], &[&b], |_| Err(TchError::Kind("no such luck".into()))).expect("record");
        let error = reducer.backward(&b.sum(Kind::Double)).expect_err("an error").to_string();
        assert!(error.contains("on rank 0 of 1") && error.contains("no such luck"), "{error}");
        reducer.accumulate(&a.sum(Kind::Double)).expect("a pass");
        reducer.backward(&a.sum(Kind::Double)).expect("a pass");
        assert_eq!(numbers(&a.grad()), [2.0]);
    }
}
