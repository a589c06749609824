//! Reductions of which each rank receives its part.

use std::rc::Rc;

use libtorch_ext::autograd::set_gradient;
use libtorch_ext::distributed::{Reducer, ReducerOptions, Unit};
use libtorch_ext::memory::allocate_zeros;
use tch::{Device, Kind, Tensor};

use crate::ranks::{long, on_ranks};
use crate::reducer::{Model, WIDTH, assert_bit_identical_on_all_ranks, assert_close, questions};

#[test]
fn each_rank_receives_its_part_of_the_gradients() {
    on_ranks("scatter::each_rank_receives_its_part_of_the_gradients", 4, |ranks| {
        let group = ranks.group(long());
        for (bucket, bf16) in [(64, false), (400, false), (400, true)] {
            let (model, single) = (Model::padded(4), Model::padded(4));
            let mut reducer = model.reducer(&group, &ReducerOptions { bucket, bf16, scatter: true });
            assert_eq!(reducer.slices().iter().map(|slice| slice.len()).sum::<usize>(), 88, "two times 36, two times 8");
            for step in 0..3 {
                let questions = questions(step, ranks.world_size);
                single.zero();
                single.loss(&Tensor::cat(&questions, 0)).backward();
                model.zero();
                reducer.backward(&model.loss(&questions[ranks.rank])).expect("backward");
                let whole = Tensor::zeros_like(&model.gradients);
                for slice in reducer.slices() {
                    let part = (slice.len() / 4) as i64;
                    let first = slice.start as i64 + part * ranks.rank as i64;
                    let mut gathered = whole.narrow(0, slice.start as i64, slice.len() as i64);
                    group.queue_gather(&mut gathered, &model.gradients.narrow(0, first, part)).expect("gathered");
                }
                if bf16 {
                    let error = (&whole - &single.gradients).norm() / single.gradients.norm();
                    assert!(error.double_value(&[]) < 0.02, "{error}");
                } else {
                    assert_close(&whole, &single.gradients, &format!("step {step}"));
                }
                assert_bit_identical_on_all_ranks(&group, &whole);
            }
        }
    });
}

#[test]
fn sums_of_several_passes_add_up_and_temporary_memory_is_released() {
    on_ranks("scatter::sums_of_several_passes_add_up_and_temporary_memory_is_released", 2, |ranks| {
        let group = ranks.group(long());
        let (model, single) = (Model::new(), Model::new());
        // The gradients of `first` and `bias` are one unit, those of `shared` another, which is temporary.
        let sizes = [WIDTH * WIDTH + WIDTH, WIDTH * WIDTH, WIDTH];
        let units = sizes.map(|size| Tensor::zeros([size], (Kind::Double, Device::Cpu)));
        let views = [
            (&model.first, &units[0], 0),
            (&model.bias, &units[0], WIDTH * WIDTH),
            (&model.shared, &units[1], 0),
            (&model.last, &units[2], 0),
        ];
        for (parameter, unit, start) in views {
            let count = parameter.numel() as i64;
            set_gradient(parameter, &unit.narrow(0, start, count).view(&parameter.size()[..])).expect("set_gradient");
        }
        let list: Vec<Unit<'_>> =
            units.iter().zip([false, true, false]).map(|(gradients, temporary)| Unit { gradients, temporary }).collect();
        let mut totals = Tensor::zeros([sizes.iter().sum::<i64>() / 2], (Kind::Double, Device::Cpu));
        let options = ReducerOptions { bucket: 1 << 20, ..ReducerOptions::default() };
        let mut reducer =
            Reducer::accumulating(Rc::clone(&group), &model.parameters(), &list, &totals, &options).expect("a reducer");
        for step in 0..3 {
            let _zeros = totals.zero_();
            single.zero();
            for pass in 0..2 {
                let questions = questions(10 * step + pass, 2);
                // The second rank has nothing in the second pass.
                let idle = pass == 1;
                let all = if idle { questions[0].shallow_clone() } else { Tensor::cat(&questions, 0) };
                single.loss(&all).backward();
                units
                    .iter()
                    .zip([true, false, true])
                    .filter(|(_, kept)| *kept)
                    .for_each(|(unit, _)| drop(unit.shallow_clone().zero_()));
                if idle && ranks.rank == 1 {
                    reducer.reduce().expect("reduce");
                } else {
                    let loss = model.loss(&questions[ranks.rank]);
                    allocate_zeros(&units[1]).expect("memory");
                    reducer.backward(&loss).expect("backward");
                }
            }
            let slices = {
                let mut slices = reducer.slices();
                slices.sort_by_key(|slice| slice.start);
                slices
            };
            let mut next = 0;
            for slice in slices {
                let part = slice.len() as i64 / 2;
                let mut whole = Tensor::zeros([slice.len() as i64], (Kind::Double, Device::Cpu));
                group.queue_gather(&mut whole, &totals.narrow(0, next, part)).expect("gathered");
                assert_close(
                    &whole,
                    &single.gradients.narrow(0, slice.start as i64, slice.len() as i64),
                    &format!("{slice:?}"),
                );
                next += part;
            }
        }
    });
}
