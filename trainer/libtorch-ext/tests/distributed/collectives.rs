//! Collectives of several ranks.

use tch::{Kind, Tensor};

use crate::ranks::{long, numbers, on_ranks};

#[test]
fn collectives_combine_the_tensors_of_all_ranks() {
    on_ranks("collectives::collectives_combine_the_tensors_of_all_ranks", 3, |ranks| {
        let group = ranks.group(long());
        assert_eq!((group.rank(), group.world_size()), (ranks.rank, 3));
        let own = || Tensor::from_slice(&[ranks.rank as f64 + 1.0, -(ranks.rank as f64)]);
        for kind in [Kind::Double, Kind::Int64, Kind::Float, Kind::Half, Kind::BFloat16] {
            let mut tensor = own().to_kind(kind);
            group.all_reduce_sum(&mut tensor).expect("all_reduce_sum");
            assert_eq!(numbers(&tensor.to_kind(Kind::Double)), [6.0, -3.0], "{kind:?}");
        }
        let mut tensor = own();
        group.queue_sum(&mut tensor).expect("queue_sum");
        assert_eq!(numbers(&tensor), [6.0, -3.0]);
        group.check().expect("no error on a GPU");
        for root in 0..3 {
            let mut tensor = own();
            group.broadcast(&mut tensor, root).expect("broadcast");
            assert_eq!(numbers(&tensor), [root as f64 + 1.0, -(root as f64)]);
        }
        let gathered = group.all_gather(&own()).expect("all_gather");
        assert_eq!(gathered.iter().flat_map(numbers).collect::<Vec<_>>(), [1.0, -0.0, 2.0, -1.0, 3.0, -2.0]);
    });
}

#[test]
fn a_barrier_waits_for_the_last_rank() {
    on_ranks("collectives::a_barrier_waits_for_the_last_rank", 3, |ranks| {
        let group = ranks.group(long());
        for round in 1..=20 {
            ranks.store.add("arrived", 1).expect("add");
            group.barrier().expect("barrier");
            assert_eq!(ranks.store.add("arrived", 0).expect("read"), 3 * round);
            // Separates reading from the next round.
            group.barrier().expect("barrier");
        }
    });
}
