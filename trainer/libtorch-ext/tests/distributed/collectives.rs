//! What several ranks do together.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use libtorch_ext::distributed::{ReduceOp, Store, StoreOptions};
use tch::{Device, Kind, Tensor};

use crate::ranks::{long, numbers, on_ranks};

#[test]
fn every_rank_gets_what_all_have() {
    on_ranks("collectives::every_rank_gets_what_all_have", 3, |ranks| {
        let group = ranks.group(long());
        assert_eq!((group.rank(), group.world_size()), (ranks.rank, 3));
        let mine = || Tensor::from_slice(&[ranks.rank as f64 + 1.0, -(ranks.rank as f64)]);
        for (op, expected) in [
            (ReduceOp::Sum, [6.0, -3.0]),
            (ReduceOp::Average, [2.0, -1.0]),
            (ReduceOp::Product, [6.0, 0.0]),
            (ReduceOp::Min, [1.0, -2.0]),
            (ReduceOp::Max, [3.0, 0.0]),
        ] {
            let mut tensor = mine();
            group.all_reduce(&mut tensor, op).expect("all_reduce");
            for (value, expected) in numbers(&tensor).into_iter().zip(expected) {
                assert!((value - expected).abs() < 1e-12, "{op:?}: {value} for {expected}");
            }
        }
        for root in 0..3 {
            let mut tensor = mine();
            group.broadcast(&mut tensor, root).expect("broadcast");
            assert_eq!(numbers(&tensor), [root as f64 + 1.0, -(root as f64)]);
        }
        let gathered = group.all_gather(&mine()).expect("all_gather");
        assert_eq!(gathered.iter().flat_map(numbers).collect::<Vec<_>>(), [1.0, -0.0, 2.0, -1.0, 3.0, -2.0]);
        for kind in [Kind::Int64, Kind::Float, Kind::Half] {
            let mut tensor = mine().to_kind(kind);
            group.all_reduce(&mut tensor, ReduceOp::Sum).expect("all_reduce");
            assert_eq!(numbers(&tensor.to_kind(Kind::Double)), [6.0, -3.0], "{kind:?}");
        }
    });
}

#[test]
fn a_barrier_holds_until_the_last_has_come() {
    on_ranks("collectives::a_barrier_holds_until_the_last_has_come", 3, |ranks| {
        let group = ranks.group(long());
        for round in 1..=20 {
            let monitored = round % 2 == 0;
            ranks.store.add("arrived", 1).expect("add");
            if monitored { group.barrier_within(long()) } else { group.barrier() }.expect("barrier");
            // Nobody comes again before all have looked.
            assert_eq!(ranks.store.add("arrived", 0).expect("look"), 3 * round);
            group.barrier().expect("barrier");
        }
    });
}

#[test]
fn work_goes_on_in_the_background() {
    on_ranks("collectives::work_goes_on_in_the_background", 2, |ranks| {
        let group = ranks.group(long());
        let ones = |n: i64| Tensor::ones([n], (Kind::Double, Device::Cpu));
        // Several at once, waited for in another order; nothing of rank 0's is done before rank 1 has come.
        if ranks.rank == 1 {
            ranks.store.get("rank 0 has looked").expect("get");
        }
        let mut first = group.all_reduce_async(ones(1000), ReduceOp::Sum).expect("all_reduce");
        let second = group.broadcast_async(ones(3) * ranks.rank as f64, 1).expect("broadcast");
        let third = group.all_gather_async(&ones(2)).expect("all_gather");
        if ranks.rank == 0 {
            assert!(!first.is_done());
            assert!(!first.wait_for(Duration::from_millis(20)).expect("not yet"));
            ranks.store.set("rank 0 has looked", b"").expect("set");
        }
        assert_eq!(third.wait(long()).expect("all_gather").len(), 2);
        assert_eq!(numbers(&second.wait(long()).expect("broadcast")), [1.0; 3]);
        while !first.wait_for(Duration::from_millis(50)).expect("all_reduce") {}
        assert!(first.is_done());
        assert_eq!(numbers(&first.wait(long()).expect("all_reduce")), [2.0; 1000]);
        group.barrier_async().expect("barrier").wait(long()).expect("barrier");
        // Whoever drops the work does not stop it.
        drop(group.all_reduce_async(ones(5), ReduceOp::Sum).expect("all_reduce"));
        group.barrier().expect("barrier");
    });
}

/// As a launcher has it: rank 0 serves the store on a free port and says which.
#[test]
fn rank_0_tells_its_port() {
    const VARIABLE: &str = "LIBTORCH_EXT_TEST_SERVER";
    let options = |port| StoreOptions { port, world_size: 2, timeout: long(), ..StoreOptions::default() };
    if std::env::var_os(VARIABLE).is_some() {
        let store = Store::open(0, &options(0)).expect("a server");
        println!("\nport {}", store.port());
        store.join().expect("both are there");
        store.set("answer", b"42").expect("set");
        return store.wait(&["thanks"], long()).expect("the other got it");
    }
    let mut server = Command::new(std::env::current_exe().expect("this program"))
        .args(["collectives::rank_0_tells_its_port", "--exact", "--nocapture", "--test-threads=1"])
        .env(VARIABLE, "1")
        .stdout(Stdio::piped())
        .spawn()
        .expect("a process");
    let lines = BufReader::new(server.stdout.take().expect("its output")).lines();
    let mut ports = lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("port ")?.parse().ok());
    let store = Store::open(1, &options(ports.next().expect("a port"))).expect("a client");
    store.join().expect("join");
    assert_eq!(store.get("answer").expect("get"), b"42");
    store.set("thanks", b"").expect("set");
    // Its output is read to the end, so that it does not wait for us.
    assert_eq!(ports.next(), None);
    assert!(server.wait().expect("a status").success());
}
