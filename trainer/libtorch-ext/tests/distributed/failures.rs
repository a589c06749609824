//! Ranks that die, hang or do not start.

use std::ops::Range;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Instant;

use libtorch_ext::autograd::set_gradient;
use libtorch_ext::distributed::{GroupOptions, ProcessGroup, Reducer, ReducerOptions};
use tch::{Device, Kind, TchError, Tensor};

use crate::ranks::{long, on_ranks, on_ranks_that_end, short};

fn error_of<T>(result: Result<T, TchError>) -> String {
    match result {
        Ok(_) => panic!("no error"),
        Err(error) => error.to_string(),
    }
}

fn die() -> ! {
    // SAFETY: a system call without pointers, which ends this process.
    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    unreachable!("still running after SIGKILL")
}

fn rank_1_was_killed(rank: usize, status: ExitStatus) {
    match rank {
        1 => assert_eq!(status.signal(), Some(libc::SIGKILL)),
        _ => assert!(status.success(), "rank {rank}: {status}"),
    }
}

#[test]
fn collectives_fail_if_a_rank_is_killed() {
    let test = "failures::collectives_fail_if_a_rank_is_killed";
    let body = |ranks: &crate::ranks::Rank| {
        let group = ranks.group(long());
        group.barrier().expect("all ranks are alive");
        if ranks.rank == 1 {
            die();
        }
        let started = Instant::now();
        let error = error_of(group.all_reduce_sum(&mut Tensor::from_slice(&[1.0, 2.0])));
        assert!(started.elapsed() < long() / 2, "{:?}", started.elapsed());
        let expected = format!("all_reduce_sum of Double [2] on rank {} of 3", ranks.rank);
        assert!(error.contains(&expected), "{error}");
        // Ranks 0 and 2 may lose their connection to rank 1 or to each other first.
        assert!(error.contains("Connection") || error.contains("connection"), "{error}");
        let barrier = error_of(group.barrier());
        assert!(barrier.contains("barrier on rank"), "{barrier}");
    };
    on_ranks_that_end(test, 3, body, rank_1_was_killed);
}

#[test]
fn gradient_reduction_fails_if_a_rank_exits() {
    let test = "failures::gradient_reduction_fails_if_a_rank_exits";
    on_ranks(test, 2, |ranks| {
        let (weight, gradients) = parameter(2, Kind::Double);
        let loss = || (&weight * &weight).sum(Kind::Double);
        let group = ranks.group(long());
        let mut reducer = Reducer::new(group, &[&weight], &gradients, &ReducerOptions::default()).expect("a reducer");
        reducer.backward(&loss()).expect("both ranks are alive");
        if ranks.rank == 1 {
            return;
        }
        let started = Instant::now();
        let error = error_of(reducer.backward(&loss()));
        assert!(started.elapsed() < long() / 2, "{:?}", started.elapsed());
        assert!(error.contains("gradient reduction on rank 0 of 2"), "{error}");
        // A backward pass without reduction still works, and the reducer can be dropped.
        loss().backward();
    });
}

#[test]
fn collectives_time_out_if_a_rank_hangs() {
    on_ranks("failures::collectives_time_out_if_a_rank_hangs", 2, |ranks| {
        ranks.synchronize();
        let group = ranks.group(short());
        if ranks.rank == 1 {
            return drop(ranks.store.get("rank 0 is done").expect("get"));
        }
        let started = Instant::now();
        let error = error_of(group.all_reduce_sum(&mut Tensor::from_slice(&[1.0])));
        let took = started.elapsed();
        assert!(short() <= took && took < long() / 2, "{took:?}");
        assert!(error.contains("all_reduce_sum of Double [1] on rank 0 of 2"), "{error}");
        assert!(error.contains(&short().as_millis().to_string()), "{error}");
        ranks.store.set("rank 0 is done", b"").expect("set");
    });
}

#[test]
fn creating_a_group_times_out_if_a_rank_is_missing() {
    on_ranks("failures::creating_a_group_times_out_if_a_rank_is_missing", 2, |ranks| {
        let options = GroupOptions { timeout: short(), ..GroupOptions::default() };
        let started = Instant::now();
        let error = error_of(ProcessGroup::new(&ranks.store, ranks.rank, 3, &options));
        assert!(started.elapsed() < long() / 2, "{:?}", started.elapsed());
        assert!(error.contains(&format!("creating process group \"world\" on rank {} of 3", ranks.rank)), "{error}");
    });
}

#[test]
fn different_parameters_are_an_error() {
    on_ranks("failures::different_parameters_are_an_error", 2, |ranks| {
        let group = ranks.group(long());
        let ((a, a_gradient), (single, single_gradient)) = (parameter(2, Kind::Double), parameter(2, Kind::Float));
        // Two parameters, the second with another size on each rank; and the first in another place.
        let both = Tensor::zeros([5 + ranks.rank as i64], (Kind::Double, Device::Cpu));
        let [first, second] = [0..2, 2..both.numel() as i64].map(|place| view(&both, place));
        let four = Tensor::zeros([4], (Kind::Double, Device::Cpu));
        let mut halves = [0..2, 2..4].map(|place| view(&four, place));
        halves.rotate_left(ranks.rank);
        let usual = ReducerOptions::default();
        let other = ReducerOptions { bucket: 1 + ranks.rank, ..usual };
        let cases = [
            (vec![&first, &second], &both, &usual, "parameter 1 of rank 1 differs in shape, kind or place"),
            (halves.iter().collect(), &four, &usual, "parameter 0 of rank 1 differs in shape, kind or place"),
            match ranks.rank {
                0 => (vec![&a], &a_gradient, &usual, "rank 1 has 2 parameters, rank 0 has 1"),
                _ => (vec![&first, &second], &both, &usual, "rank 1 has 2 parameters, rank 0 has 1"),
            },
            match ranks.rank {
                0 => (vec![&a], &a_gradient, &usual, "parameter 0 of rank 1"),
                _ => (vec![&single], &single_gradient, &usual, "parameter 0 of rank 1"),
            },
            (vec![&a], &a_gradient, &other, "the options of rank 1 differ"),
        ];
        for (parameters, gradients, options, expected) in cases {
            let error = error_of(Reducer::new(group.clone(), &parameters, gradients, options));
            assert!(error.contains("creating reducer on rank") && error.contains(expected), "{error}");
        }
        // All ranks got the error, so the group remains usable.
        let _reducer = Reducer::new(group, &[&a], &a_gradient, &usual).expect("equal parameters");
    });
}

/// Returns a parameter of `n` numbers, and its gradient.
fn parameter(n: i64, kind: Kind) -> (Tensor, Tensor) {
    let gradient = Tensor::zeros([n], (kind, Device::Cpu));
    (view(&gradient, 0..n), gradient)
}

/// Returns a parameter whose gradient is that part of a vector.
fn view(gradients: &Tensor, place: Range<i64>) -> Tensor {
    let gradient = gradients.narrow(0, place.start, place.end - place.start);
    let parameter = gradient.ones_like().set_requires_grad(true);
    set_gradient(&parameter, &gradient).expect("set_gradient");
    parameter
}
