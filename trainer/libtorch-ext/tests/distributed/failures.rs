//! Ranks that die, hang or never were.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Instant;

use libtorch_ext::distributed::{GroupOptions, ProcessGroup, ReduceOp, Reducer, ReducerOptions};
use tch::{Kind, TchError, Tensor};

use crate::ranks::{long, on_ranks, on_ranks_that_end, short};

fn error_of<T>(result: Result<T, TchError>) -> String {
    match result {
        Ok(_) => panic!("no error"),
        Err(error) => error.to_string(),
    }
}

fn die() -> ! {
    // SAFETY: ends this process, as `kill -9` does.
    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    unreachable!("a process outlived its death")
}

fn rank_1_was_killed(rank: usize, status: ExitStatus) {
    match rank {
        1 => assert_eq!(status.signal(), Some(libc::SIGKILL)),
        _ => assert!(status.success(), "rank {rank}: {status}"),
    }
}

#[test]
fn a_rank_that_is_killed_ends_what_the_others_wait_for() {
    let test = "failures::a_rank_that_is_killed_ends_what_the_others_wait_for";
    let body = |ranks: &crate::ranks::Rank| {
        let group = ranks.group(long());
        group.barrier().expect("all are there");
        if ranks.rank == 1 {
            die();
        }
        let started = Instant::now();
        let error = error_of(group.all_reduce(&mut Tensor::from_slice(&[1.0, 2.0]), ReduceOp::Sum));
        assert!(started.elapsed() < long() / 2, "{:?}", started.elapsed());
        let expected = format!("all_reduce (Sum) of Double [2] on rank {} of 3", ranks.rank);
        assert!(error.contains(&expected), "{error}");
        // Rank 0 and rank 2 may hear it from rank 1 or from each other.
        assert!(error.contains("Connection") || error.contains("connection"), "{error}");
        let barrier = error_of(group.barrier());
        assert!(barrier.contains("barrier on rank"), "{barrier}");
    };
    on_ranks_that_end(test, 3, body, rank_1_was_killed);
}

#[test]
fn a_rank_that_exits_ends_the_reduction_of_gradients() {
    let test = "failures::a_rank_that_exits_ends_the_reduction_of_gradients";
    on_ranks(test, 2, |ranks| {
        let weight = Tensor::from_slice(&[1.0, 2.0]).set_requires_grad(true);
        let loss = || (&weight * &weight).sum(Kind::Double);
        let mut reducer = Reducer::new(ranks.group(long()), &[&weight], &ReducerOptions::default()).expect("a reducer");
        reducer.backward(&loss()).expect("both are there");
        if ranks.rank == 1 {
            return;
        }
        let started = Instant::now();
        let error = error_of(reducer.backward(&loss()));
        assert!(started.elapsed() < long() / 2, "{:?}", started.elapsed());
        assert!(error.contains("reduction of gradients on rank 0 of 2"), "{error}");
        // It can still be used alone, and dropped.
        reducer.accumulate(&loss()).expect("a pass");
    });
}

#[test]
fn a_rank_that_is_late_is_an_error_after_the_timeout() {
    on_ranks("failures::a_rank_that_is_late_is_an_error_after_the_timeout", 2, |ranks| {
        ranks.meet(&[0, 1]);
        let group = ranks.group(short());
        if ranks.rank == 1 {
            return drop(ranks.store.get("rank 0 is through").expect("get"));
        }
        let started = Instant::now();
        let error = error_of(group.all_reduce(&mut Tensor::from_slice(&[1.0]), ReduceOp::Sum));
        let took = started.elapsed();
        assert!(short() <= took && took < long() / 2, "{took:?}");
        assert!(error.contains("all_reduce (Sum) of Double [1] on rank 0 of 2"), "{error}");
        assert!(error.contains(&short().as_millis().to_string()), "{error}");
        ranks.store.set("rank 0 is through", b"").expect("set");
    });
}

#[test]
fn waiting_for_work_ends_before_the_work() {
    on_ranks("failures::waiting_for_work_ends_before_the_work", 2, |ranks| {
        let group = ranks.group(long());
        if ranks.rank == 0 {
            let work = group.all_reduce_async(Tensor::from_slice(&[1.0]), ReduceOp::Sum).expect("all_reduce");
            let error = error_of(work.wait(short()));
            assert!(error.contains("all_reduce") && error.contains(&format!("not done after {:?}", short())), "{error}");
            ranks.store.set("rank 0 is through", b"").expect("set");
        } else {
            ranks.store.get("rank 0 is through").expect("get");
            // The work of rank 0 goes on, and meets this.
            group.all_reduce(&mut Tensor::from_slice(&[1.0]), ReduceOp::Sum).expect("all_reduce");
        }
        group.barrier().expect("barrier");
    });
}

#[test]
fn a_barrier_names_who_is_missing() {
    on_ranks("failures::a_barrier_names_who_is_missing", 4, |ranks| {
        let group = ranks.group(long());
        match ranks.rank {
            0 => {
                ranks.meet(&[0, 2]);
                let error = error_of(group.barrier_within(short()));
                assert!(error.contains("barrier on rank 0 of 4") && error.contains("Ranks 1, 3 failed"), "{error}");
                ranks.store.set("rank 0 is through", b"").expect("set");
            }
            // Hears of it when rank 0 is gone.
            2 => {
                ranks.meet(&[0, 2]);
                assert!(error_of(group.barrier_within(long())).contains("barrier on rank 2 of 4"));
            }
            _ => drop(ranks.store.get("rank 0 is through").expect("get")),
        }
    });
}

#[test]
fn a_group_that_is_too_large_is_an_error() {
    on_ranks("failures::a_group_that_is_too_large_is_an_error", 2, |ranks| {
        let options = GroupOptions { timeout: short(), ..GroupOptions::default() };
        let started = Instant::now();
        let error = error_of(ProcessGroup::new(&ranks.store, ranks.rank, 3, &options));
        assert!(started.elapsed() < long() / 2, "{:?}", started.elapsed());
        assert!(error.contains(&format!("making the group \"world\" as rank {} of 3", ranks.rank)), "{error}");
    });
}

#[test]
fn ranks_with_other_parameters_are_an_error() {
    on_ranks("failures::ranks_with_other_parameters_are_an_error", 2, |ranks| {
        let group = ranks.group(long());
        let variable = |n: usize| Tensor::from_slice(&vec![1.0; n]).set_requires_grad(true);
        let (common, other) = (variable(2), variable(3 + ranks.rank));
        let single = variable(2).to_kind(Kind::Float).detach().set_requires_grad(true);
        let lists = [
            (vec![&common, &other], "parameter 1 of rank 1 has another shape or kind"),
            (vec![&common; 1 + ranks.rank], "rank 1 has 2 parameters, rank 0 has 1"),
            (vec![if ranks.rank == 0 { &common } else { &single }], "parameter 0 of rank 1"),
        ];
        for (parameters, expected) in lists {
            let error = error_of(Reducer::new(group.clone(), &parameters, &ReducerOptions::default()));
            assert!(error.contains("making a reducer on rank") && error.contains(expected), "{error}");
        }
        // On all ranks, which so can go on.
        let _reducer = Reducer::new(group, &[&common], &ReducerOptions::default()).expect("the same");
    });
}
