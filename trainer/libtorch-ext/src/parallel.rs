//! Parallel loops on libtorch's thread pool.

use std::any::Any;
use std::ffi::c_void;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;

use tch::TchError;

use crate::ffi::{self, check};

struct Context<'a, F> {
    body: &'a F,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// Calls `body` with ranges that together cover `0..n`, in parallel on libtorch's threads (see [`tch::set_num_threads`]). Every
/// range but the last has at least `grain` items. A nested call runs on one thread.
///
/// A panic of `body` is propagated to the caller.
///
/// # Errors
/// A [`TchError`] if libtorch cannot start threads.
fn parallel_for<F: Fn(Range<usize>) + Sync>(n: usize, grain: usize, body: F) -> Result<(), TchError> {
    unsafe extern "C" fn run<F: Fn(Range<usize>) + Sync>(context: *mut c_void, begin: usize, end: usize) {
        // SAFETY: a pointer to the context below, which outlives the call. Threads may share it because `F` is `Sync`.
        let context = unsafe { &*context.cast::<Context<'_, F>>() };
        // Unwinding must not reach C++.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (context.body)(begin..end)))
            && let Ok(mut first) = context.panic.lock()
        {
            first.get_or_insert(panic);
        }
    }
    let context = Context { body: &body, panic: Mutex::new(None) };
    // SAFETY: the call returns after all ranges are done, so the context outlives every use.
    check(unsafe { ffi::glm_ext_parallel_for(n, grain.max(1), run::<F>, (&raw const context).cast_mut().cast()) })?;
    match context.panic.into_inner() {
        Ok(Some(panic)) => resume_unwind(panic),
        _ => Ok(()),
    }
}

/// Calls `body` with each task, in parallel. A task owns its data, for example a chunk of a slice, so tasks do not share
/// mutable memory. Results do not depend on the number of threads.
///
/// # Errors
/// A [`TchError`] if libtorch cannot start threads.
pub fn for_each<T: Send>(tasks: impl IntoIterator<Item = T>, body: impl Fn(T) + Sync) -> Result<(), TchError> {
    // One lock per task, taken once. Its cost is negligible because a task processes thousands of elements.
    let tasks: Vec<Mutex<Option<T>>> = tasks.into_iter().map(|task| Mutex::new(Some(task))).collect();
    parallel_for(tasks.len(), 1, |range| {
        for slot in &tasks[range] {
            if let Some(task) = slot.lock().ok().and_then(|mut slot| slot.take()) {
                body(task);
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn every_index_is_visited_once() {
        let counts: Vec<AtomicU32> = (0..1000).map(|_| AtomicU32::new(0)).collect();
        parallel_for(counts.len(), 7, |range| {
            for count in &counts[range] {
                count.fetch_add(1, Ordering::Relaxed);
            }
        })
        .expect("threads");
        assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1));
        parallel_for(0, 1, |_| panic!("nothing to do")).expect("threads");
    }

    #[test]
    fn tasks_own_their_chunks() {
        let mut squares = vec![0_usize; 100];
        for_each(squares.chunks_mut(9).enumerate(), |(chunk, part)| {
            for (i, square) in part.iter_mut().enumerate() {
                *square = (9 * chunk + i).pow(2);
            }
        })
        .expect("threads");
        assert!(squares.iter().enumerate().all(|(i, square)| *square == i * i));
    }

    #[test]
    fn panics_propagate() {
        let caught = catch_unwind(|| parallel_for(100, 1, |range| assert!(!range.contains(&50), "fifty")));
        let panic = caught.expect_err("a panic");
        let text = panic.downcast_ref::<&str>().map(ToString::to_string).or_else(|| panic.downcast_ref::<String>().cloned());
        assert_eq!(text.as_deref(), Some("fifty"));
    }
}
