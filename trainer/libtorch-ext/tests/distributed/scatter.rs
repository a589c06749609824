//! Reductions of which each rank receives its part.

use std::rc::Rc;

use libtorch_ext::autograd::set_gradient;
use libtorch_ext::distributed::{PART_MULTIPLE, ProcessGroup, Reducer, ReducerOptions, Unit};
use libtorch_ext::memory::{allocate_zeros, release};
use tch::{Device, Kind, Tensor};

use crate::ranks::{Rank, long, on_ranks};
use crate::reducer::{Model, assert_bit_identical_on_all_ranks, assert_close, questions};

/// Elements of which every gradient takes a multiple, and the bytes of so many.
fn multiple(ranks: usize) -> (i64, usize) {
    let elements = ranks * PART_MULTIPLE;
    (elements as i64, elements * size_of::<f64>())
}

#[test]
fn each_rank_receives_its_part_of_the_gradients() {
    on_ranks("scatter::each_rank_receives_its_part_of_the_gradients", 4, |ranks| {
        let group = ranks.group(long());
        let (multiple, bytes) = multiple(4);
        // Slices of one parameter, and of two.
        for (bucket, bf16) in [(bytes, false), (2 * bytes, false), (2 * bytes, true)] {
            let (model, single) = (Model::padded(multiple), Model::padded(multiple));
            let mut reducer = model.reducer(&group, &ReducerOptions { bucket, bf16, scatter: true });
            assert_eq!(reducer.slices().iter().map(|slice| slice.len() as i64).sum::<i64>(), 4 * multiple);
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
fn slices_do_not_cross_units_that_are_parts_of_one_vector() {
    on_ranks("scatter::slices_do_not_cross_units_that_are_parts_of_one_vector", 2, |ranks| {
        let group = ranks.group(long());
        let (taken, _) = multiple(2);
        let (model, single) = (Model::padded(taken), Model::padded(taken));
        // Of `first` and `bias`, and of `shared` and `last`.
        let parts = [0, 1].map(|part| model.gradients.narrow(0, 2 * part * taken, 2 * taken));
        let units = parts.each_ref().map(|gradients| Unit { gradients, temporary: false });
        let options = ReducerOptions { scatter: true, ..ReducerOptions::default() };
        let mut reducer = Reducer::of_units(Rc::clone(&group), &model.parameters(), &units, None, &options).expect("a reducer");
        let taken = taken as usize;
        assert_eq!(reducer.slices(), [2 * taken..4 * taken, 0..2 * taken]);
        let questions = questions(0, 2);
        single.loss(&Tensor::cat(&questions, 0)).backward();
        reducer.backward(&model.loss(&questions[ranks.rank])).expect("backward");
        for slice in reducer.slices() {
            let first = (slice.start + ranks.rank * taken) as i64;
            let own = |model: &Model| model.gradients.narrow(0, first, taken as i64);
            assert_close(&own(&model), &own(&single), &format!("{slice:?}"));
        }
    });
}

#[test]
fn sums_of_several_passes_add_up_and_temporary_memory_is_released() {
    on_ranks("scatter::sums_of_several_passes_add_up_and_temporary_memory_is_released", 2, |ranks| {
        let group = ranks.group(long());
        let (taken, bytes) = multiple(2);
        // The gradients of `first` and `bias` are in one slice, or in two whose memory is released together.
        [1 << 20, bytes].into_iter().for_each(|bucket| accumulate(ranks, &group, taken, bucket));
    });
}

fn accumulate(ranks: &Rank, group: &Rc<ProcessGroup>, taken: i64, bucket: usize) {
    let (model, single) = (Model::padded(taken), Model::padded(taken));
    // Of `first` and `bias`, of `shared`, and of `last`, which are not temporary.
    let sizes = [2 * taken, taken, taken];
    let units = sizes.map(|size| Tensor::zeros([size], (Kind::Double, Device::Cpu)));
    let views = [
        (&model.first, &units[0], 0),
        (&model.bias, &units[0], taken),
        (&model.shared, &units[1], 0),
        (&model.last, &units[2], 0),
    ];
    for (parameter, unit, start) in views {
        let count = parameter.numel() as i64;
        set_gradient(parameter, &unit.narrow(0, start, count).view(&parameter.size()[..])).expect("set_gradient");
    }
    let list: Vec<Unit<'_>> =
        units.iter().zip([true, true, false]).map(|(gradients, temporary)| Unit { gradients, temporary }).collect();
    let mut totals = Tensor::zeros([sizes.iter().sum::<i64>() / 2], (Kind::Double, Device::Cpu));
    // SAFETY: they are allocated before a backward pass.
    units[..2].iter().for_each(|unit| unsafe { release(unit) }.expect("released"));
    let options = ReducerOptions { bucket, ..ReducerOptions::default() };
    let mut reducer =
        Reducer::of_units(Rc::clone(group), &model.parameters(), &list, Some(&totals), &options).expect("a reducer");
    for step in 0..3 {
        let _zeros = totals.zero_();
        single.zero();
        for pass in 0..2 {
            let questions = questions(10 * step + pass, 2);
            // The second rank has nothing in the second pass.
            let idle = pass == 1;
            let all = if idle { questions[0].shallow_clone() } else { Tensor::cat(&questions, 0) };
            single.loss(&all).backward();
            let _zeros = units[2].shallow_clone().zero_();
            if idle && ranks.rank == 1 {
                let mut started = Vec::new();
                let before = |slice| {
                    started.push(slice);
                    Ok(())
                };
                reducer.reduce_after(before).expect("reduce");
                assert_eq!(started, Vec::from_iter(0..reducer.slices().len()));
            } else {
                let loss = model.loss(&questions[ranks.rank]);
                units[..2].iter().for_each(|unit| allocate_zeros(unit).expect("memory"));
                reducer.backward(&loss).expect("backward");
            }
        }
        let mut slices = reducer.slices();
        slices.sort_by_key(|slice| slice.start);
        let mut next = 0;
        for slice in slices {
            let part = slice.len() as i64 / 2;
            let mut whole = Tensor::zeros([slice.len() as i64], (Kind::Double, Device::Cpu));
            group.queue_gather(&mut whole, &totals.narrow(0, next, part)).expect("gathered");
            let expected = single.gradients.narrow(0, slice.start as i64, slice.len() as i64);
            assert_close(&whole, &expected, &format!("{slice:?}"));
            next += part;
        }
    }
}
