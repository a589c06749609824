//! Autograd functions whose backward pass is a Rust closure.
//!
//! ```
//! use libtorch_ext::autograd::record;
//! use tch::{Kind, Tensor, no_grad};
//!
//! let x = Tensor::from_slice(&[1.0_f64, 2.0, 3.0]).set_requires_grad(true);
//! let y = no_grad(|| &x * &x);
//! let saved = x.detach();
//! record(c"square", &[&x], &[&y], move |grads| {
//!     let grad = grads[0].as_ref().expect("y was used");
//!     Ok(vec![Some(2.0 * saved * grad)])
//! })?;
//! y.sum(Kind::Double).backward();
//! assert_eq!(Vec::<f64>::try_from(x.grad())?, [2.0, 4.0, 6.0]);
//! # Ok::<(), tch::TchError>(())
//! ```

use std::ffi::{CStr, CString, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null_mut;

use tch::{TchError, Tensor};

use crate::ffi::{self, TensorPtr, check, lend};

/// Makes `outputs`, which were computed from `inputs` without being recorded (see [`tch::no_grad`]), results of a function
/// with this backward pass. Where nothing is to be recorded, because no input needs a gradient or recording is switched
/// off, `backward` is dropped.
///
/// `backward` gets the gradient of each output (`None` where an output was not used) and returns that of each input (`None`
/// for an input that has none, or that `backward` has taken care of itself). It runs at most once, and on the thread that
/// libtorch chooses: the caller's for a CPU. What it holds is freed behind it. It must not hold `outputs` themselves, whose
/// graph holds it: a detached copy shares the memory and does not.
///
/// # Errors
/// A [`TchError`] where an output already belongs to a graph, or is no tensor of floating point numbers.
pub fn record<F>(name: &CStr, inputs: &[&Tensor], outputs: &[&Tensor], backward: F) -> Result<(), TchError>
where
    F: FnOnce(&[Option<Tensor>]) -> Result<Vec<Option<Tensor>>, TchError> + Send + 'static,
{
    if !is_recording() || !inputs.iter().any(|input| input.requires_grad()) {
        return Ok(());
    }
    let inputs: Vec<TensorPtr> = inputs.iter().map(|tensor| lend(tensor)).collect();
    let outputs: Vec<TensorPtr> = outputs.iter().map(|tensor| lend(tensor)).collect();
    let closure = Box::into_raw(Box::new(Some(backward)));
    // SAFETY: the lists are as long as said and their tensors outlive the call; the closure is a `Box<Option<F>>`, as
    // `run_backward::<F>` and `drop_closure::<F>` expect, and the node that this makes owns it from here on.
    check(unsafe {
        ffi::glm_ext_record(
            inputs.as_ptr(),
            inputs.len(),
            outputs.as_ptr(),
            outputs.len(),
            closure.cast(),
            run_backward::<F>,
            drop_closure::<F>,
            name.as_ptr(),
        )
    })
}

/// Makes `gradient` the place where backward passes add up the gradient of `parameter`, for example a part of a buffer that
/// holds the gradients of all parameters.
///
/// # Errors
/// A [`TchError`] where `parameter` is no leaf that needs a gradient, or shape, kind or device differ.
pub fn set_gradient(parameter: &Tensor, gradient: &Tensor) -> Result<(), TchError> {
    // SAFETY: both tensors outlive the call.
    check(unsafe { ffi::glm_ext_set_gradient(lend(parameter), lend(gradient)) })
}

/// Whether operations of this thread are recorded for a backward pass.
pub fn is_recording() -> bool {
    // SAFETY: reads a flag of this thread.
    unsafe { ffi::glm_ext_grad_enabled() != 0 }
}

/// What C++ calls; a message is the closure's error, or its panic, which must not unwind into C++.
///
/// # Safety
/// `closure` is the pointer that [`record`] made for this `F`; `grads` and `out` are as long as said.
unsafe extern "C" fn run_backward<F>(
    closure: *mut c_void,
    grads: *const TensorPtr,
    n_grads: usize,
    out: *mut TensorPtr,
    n_out: usize,
) -> *mut c_char
where
    F: FnOnce(&[Option<Tensor>]) -> Result<Vec<Option<Tensor>>, TchError> + Send + 'static,
{
    // SAFETY: the caller's promise; the node calls under a lock, so nobody else looks at the closure.
    let closure = unsafe { &mut *closure.cast::<Option<F>>() };
    // SAFETY: the caller's promise.
    let grads = unsafe { std::slice::from_raw_parts(grads, n_grads) };
    let run = || {
        let grads: Vec<Option<Tensor>> = grads
            .iter()
            // SAFETY: a gradient that is not null points to a tensor that lives through this call.
            .map(|&grad| (!grad.is_null()).then(|| unsafe { Tensor::clone_from_ptr(grad.cast()) }))
            .collect();
        match closure.take() {
            Some(backward) => backward(&grads).map_err(|error| error.to_string()),
            None => Err("its backward pass ran already".to_owned()),
        }
    };
    let results = match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(results)) if results.len() == n_out => results,
        Ok(Ok(results)) => return message(&format!("{} gradients for {n_out} inputs", results.len())),
        Ok(Err(error)) => return message(&error),
        Err(_) => return message("the backward pass panicked; the message above says where"),
    };
    for (i, result) in results.into_iter().enumerate() {
        let Some(mut tensor) = result else { continue };
        // SAFETY: `out` has room for `n_out` pointers, and there are as many results.
        unsafe { *out.add(i) = tensor.as_mut_ptr().cast() };
        // C++ owns it now.
        std::mem::forget(tensor);
    }
    null_mut()
}

/// # Safety
/// `closure` is the pointer that [`record`] made for this `F`, and is not used again.
unsafe extern "C" fn drop_closure<F>(closure: *mut c_void) {
    // SAFETY: the caller's promise.
    let closure = unsafe { Box::from_raw(closure.cast::<Option<F>>()) };
    // A panic in the destructor of something that was saved must not unwind into C++.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(closure)));
}

/// A copy of `text` that C++ frees with `free`.
fn message(text: &str) -> *mut c_char {
    let text = CString::new(text.replace('\0', " ")).unwrap_or_default();
    // SAFETY: `strdup` copies a string that ends with a zero byte.
    unsafe { libc::strdup(text.as_ptr()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Kind, no_grad};

    fn variable(values: &[f64]) -> Tensor {
        Tensor::from_slice(values).set_requires_grad(true)
    }

    #[test]
    fn gradients_of_several_inputs_and_outputs_meet() {
        let (a, b) = (variable(&[1.0, 2.0]), variable(&[3.0, 5.0]));
        let (sum, product) = no_grad(|| (&a + &b, &a * &b));
        let (x, y) = (a.detach(), b.detach());
        record(c"both", &[&a, &b], &[&sum, &product], move |grads| {
            let (ds, dp) = (grads[0].as_ref().expect("sum"), grads[1].as_ref().expect("product"));
            Ok(vec![Some(ds + dp * &y), Some(ds + dp * &x)])
        })
        .expect("record");
        (sum * 10.0 + product).sum(Kind::Double).backward();
        assert_eq!(Vec::<f64>::try_from(a.grad()).expect("numbers"), [13.0, 15.0]);
        assert_eq!(Vec::<f64>::try_from(b.grad()).expect("numbers"), [11.0, 12.0]);
    }

    #[test]
    fn an_unused_output_has_no_gradient_and_an_input_may_have_none() {
        let (a, b) = (variable(&[1.0]), variable(&[2.0]));
        let (used, unused) = no_grad(|| (&a + &b, &a * &b));
        record(c"one", &[&a, &b], &[&used, &unused], |grads| {
            assert!(grads[1].is_none());
            Ok(vec![grads[0].as_ref().map(Tensor::shallow_clone), None])
        })
        .expect("record");
        used.sum(Kind::Double).backward();
        assert_eq!(Vec::<f64>::try_from(a.grad()).expect("numbers"), [1.0]);
        assert!(!b.grad().defined());
    }

    #[test]
    fn errors_and_panics_end_the_backward_pass_with_their_message() {
        for (panics, expected) in [(false, "no such luck"), (true, "panicked")] {
            let a = variable(&[1.0]);
            let b = no_grad(|| &a + 1.0);
            record(c"fails", &[&a], &[&b], move |_| {
                assert!(!panics, "as the test wants");
                Err(TchError::Kind("no such luck".into()))
            })
            .expect("record");
            let error = b.sum(Kind::Double).f_backward().expect_err("an error").to_string();
            assert!(error.contains("fails: ") && error.contains(expected), "{error}");
        }
    }

    #[test]
    fn what_a_closure_holds_is_freed_with_the_graph() {
        struct Flag(std::sync::Arc<std::sync::atomic::AtomicUsize>);
        impl Drop for Flag {
            fn drop(&mut self) {
                self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            }
        }
        let drops = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = || drops.load(std::sync::atomic::Ordering::SeqCst);
        let make = || {
            let a = variable(&[1.0]);
            let b = no_grad(|| &a + 1.0);
            let flag = Flag(drops.clone());
            record(c"holds", &[&a], &[&b], move |grads| {
                let _held = &flag;
                Ok(vec![grads[0].as_ref().map(Tensor::shallow_clone)])
            })
            .expect("record");
            b
        };
        make().sum(Kind::Double).backward();
        assert_eq!(count(), 1, "behind a backward pass");
        drop(make());
        assert_eq!(count(), 2, "a graph that was never used");
        no_grad(|| drop(make()));
        assert_eq!(count(), 3, "nothing is recorded");
    }

    #[test]
    fn gradients_are_added_up_where_they_are_told_to() {
        let (all, a) = (Tensor::zeros([4], (Kind::Double, tch::Device::Cpu)), variable(&[1.0, 2.0]));
        set_gradient(&a, &all.narrow(0, 1, 2)).expect("place");
        for _ in 0..2 {
            (&a * 3.0).sum(Kind::Double).backward();
        }
        assert_eq!(Vec::<f64>::try_from(&all).expect("numbers"), [0.0, 6.0, 6.0, 0.0]);
        assert!(set_gradient(&a, &all).is_err());
        assert!(set_gradient(&all, &all).is_err());
    }

    #[test]
    fn a_graph_is_used_once() {
        let a = variable(&[1.0]);
        let b = no_grad(|| &a + 1.0);
        record(c"once", &[&a], &[&b], |grads| Ok(vec![grads[0].as_ref().map(Tensor::shallow_clone)])).expect("record");
        let sum = b.sum(Kind::Double);
        sum.backward();
        assert!(sum.f_backward().is_err());
    }
}
