//! Autograd functions whose backward pass is a Rust closure.
//!
//! A square, recorded with its gradient:
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

use crate::ffi::{self, TensorPtr, as_raw, check};

/// Records a function that computed `outputs` from `inputs`, with a closure as its backward pass. The outputs must have been
/// computed without recording (see [`tch::no_grad`]). If no input requires a gradient, or if recording is disabled, `backward`
/// is dropped.
///
/// `backward` receives the gradient of each output (`None` if the output was not used) and returns the gradient of each input
/// (`None` if it has none, or if `backward` has accumulated it itself). It runs at most once, on a thread chosen by libtorch
/// (the calling thread on a CPU), and its captured values are freed afterwards. It must not capture `outputs`, because their
/// graph owns the closure; capture detached copies, which share the memory.
///
/// # Errors
/// A [`TchError`] if an output already belongs to a graph or is not a floating-point tensor.
pub fn record<F>(name: &CStr, inputs: &[&Tensor], outputs: &[&Tensor], backward: F) -> Result<(), TchError>
where
    F: FnOnce(&[Option<Tensor>]) -> Result<Vec<Option<Tensor>>, TchError> + Send + 'static,
{
    if !is_recording() || !inputs.iter().any(|input| input.requires_grad()) {
        return Ok(());
    }
    let inputs: Vec<TensorPtr> = inputs.iter().map(|tensor| as_raw(tensor)).collect();
    let outputs: Vec<TensorPtr> = outputs.iter().map(|tensor| as_raw(tensor)).collect();
    let closure = Box::into_raw(Box::new(Some(backward)));
    // SAFETY: the lengths match the lists, and the tensors outlive the call. `closure` is a `Box<Option<F>>`, as
    // `run_backward::<F>` and `drop_closure::<F>` expect, and the new node takes ownership of it.
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

/// Sets `parameter.grad`. Backward passes accumulate into `gradient`, which may be a view of a larger buffer.
///
/// # Errors
/// A [`TchError`] if `parameter` is not a leaf that requires a gradient, or if shape, kind or device differ.
pub fn set_gradient(parameter: &Tensor, gradient: &Tensor) -> Result<(), TchError> {
    // SAFETY: both tensors outlive the call.
    check(unsafe { ffi::glm_ext_set_gradient(as_raw(parameter), as_raw(gradient)) })
}

/// Runs the backward pass from outputs whose gradients are given, as pairs. The closure of [`record`] may call it, to run the backward
/// pass of something that it has just computed.
///
/// # Errors
/// A [`TchError`] of the backward pass, or if an output belongs to no graph.
pub fn backward(outputs: &[(&Tensor, &Tensor)]) -> Result<(), TchError> {
    let (tensors, gradients): (Vec<TensorPtr>, Vec<TensorPtr>) =
        outputs.iter().map(|(output, gradient)| (as_raw(output), as_raw(gradient))).unzip();
    // SAFETY: the lengths match the lists, and the tensors outlive the call.
    check(unsafe { ffi::glm_ext_backward(tensors.as_ptr(), gradients.as_ptr(), tensors.len()) })
}

/// Returns true if operations of this thread are recorded for a backward pass.
fn is_recording() -> bool {
    // SAFETY: reads a thread-local flag.
    unsafe { ffi::glm_ext_grad_enabled() != 0 }
}

/// Called from C++ to run the closure. Returns the message of its error or panic, which must not unwind into C++.
///
/// # Safety
/// `closure` was created by [`record`] for this `F`; `grads` and `out` have `n_grads` and `n_out` elements.
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
    // SAFETY: see the function's contract. The node holds a lock during the call, so the reference is unique.
    let closure = unsafe { &mut *closure.cast::<Option<F>>() };
    // SAFETY: see the function's contract.
    let grads = unsafe { std::slice::from_raw_parts(grads, n_grads) };
    let run = || {
        let grads: Vec<Option<Tensor>> = grads
            .iter()
            // SAFETY: a gradient that is not null points to a tensor that outlives this call.
            .map(|&grad| (!grad.is_null()).then(|| unsafe { Tensor::clone_from_ptr(grad.cast()) }))
            .collect();
        match closure.take() {
            Some(backward) => backward(&grads).map_err(|error| error.to_string()),
            None => Err("the backward pass has already been run".to_owned()),
        }
    };
    let results = match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(results)) if results.len() == n_out => results,
        Ok(Ok(results)) => return message(&format!("{} gradients for {n_out} inputs", results.len())),
        Ok(Err(error)) => return message(&error),
        Err(_) => return message("the backward pass panicked; see the message above"),
    };
    for (i, result) in results.into_iter().enumerate() {
        let Some(mut tensor) = result else { continue };
        // SAFETY: `out` has `n_out` elements, as many as there are results.
        unsafe { *out.add(i) = tensor.as_mut_ptr().cast() };
        // C++ takes ownership.
        std::mem::forget(tensor);
    }
    null_mut()
}

/// Called from C++ to drop the closure.
///
/// # Safety
/// `closure` was created by [`record`] for this `F` and is not used again.
unsafe extern "C" fn drop_closure<F>(closure: *mut c_void) {
    // SAFETY: see the function's contract.
    let closure = unsafe { Box::from_raw(closure.cast::<Option<F>>()) };
    // A panic in the destructor of a captured value must not unwind into C++.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(closure)));
}

/// Copies `text` to memory that C++ releases with `free`.
fn message(text: &str) -> *mut c_char {
    let text = CString::new(text.replace('\0', " ")).unwrap_or_default();
    // SAFETY: the string is NUL-terminated.
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
    fn several_inputs_and_outputs() {
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
    fn unused_outputs_and_inputs_without_gradient() {
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
    fn errors_and_panics_become_errors_of_the_backward_pass() {
        for (panics, expected) in [(false, "intended error"), (true, "panicked")] {
            let a = variable(&[1.0]);
            let b = no_grad(|| &a + 1.0);
            record(c"fails", &[&a], &[&b], move |_| {
                assert!(!panics, "intended panic");
                Err(TchError::Kind("intended error".into()))
            })
            .expect("record");
            let error = b.sum(Kind::Double).f_backward().expect_err("an error").to_string();
            assert!(error.contains("fails: ") && error.contains(expected), "{error}");
        }
    }

    #[test]
    fn captured_values_are_freed_with_the_graph() {
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
        assert_eq!(count(), 1, "after a backward pass");
        drop(make());
        assert_eq!(count(), 2, "a graph that was never used");
        no_grad(|| drop(make()));
        assert_eq!(count(), 3, "nothing is recorded");
    }

    #[test]
    fn a_backward_pass_within_another_recomputes() {
        let (a, weight) = (variable(&[1.0, 2.0]), variable(&[5.0, 7.0]));
        let cubes = |x: &Tensor, weight: &Tensor| (x * x * x * weight, x * weight);
        let (cube, product) = no_grad(|| cubes(&a, &weight));
        let (saved, same) = (a.detach(), weight.shallow_clone());
        record(c"again", &[&a], &[&cube, &product], move |grads| {
            tch::with_grad(|| {
                let x = saved.detach().set_requires_grad(true);
                let (cube, product) = cubes(&x, &same);
                backward(&[(&cube, grads[0].as_ref().expect("used")), (&product, grads[1].as_ref().expect("used"))])?;
                Ok(vec![Some(x.grad())])
            })
        })
        .expect("record");
        (cube * 2.0 + product).sum(Kind::Double).backward();
        // 2 · 3 x² w + w, and 2 x³ + x.
        assert_eq!(Vec::<f64>::try_from(a.grad()).expect("numbers"), [35.0, 175.0]);
        assert_eq!(Vec::<f64>::try_from(weight.grad()).expect("numbers"), [3.0, 18.0]);
        assert!(backward(&[(&a.detach(), &a.detach())]).is_err());
    }

    #[test]
    fn gradients_accumulate_into_a_view() {
        let (all, a) = (Tensor::zeros([4], (Kind::Double, tch::Device::Cpu)), variable(&[1.0, 2.0]));
        set_gradient(&a, &all.narrow(0, 1, 2)).expect("set_gradient");
        for _ in 0..2 {
            (&a * 3.0).sum(Kind::Double).backward();
        }
        assert_eq!(Vec::<f64>::try_from(&all).expect("numbers"), [0.0, 6.0, 6.0, 0.0]);
        assert!(set_gradient(&a, &all).is_err());
        assert!(set_gradient(&all, &all).is_err());
    }

    #[test]
    fn a_second_backward_pass_is_an_error() {
        let a = variable(&[1.0]);
        let b = no_grad(|| &a + 1.0);
        record(c"once", &[&a], &[&b], |grads| Ok(vec![grads[0].as_ref().map(Tensor::shallow_clone)])).expect("record");
        let sum = b.sum(Kind::Double);
        sum.backward();
        assert!(sum.f_backward().is_err());
    }
}
