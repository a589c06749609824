//! Vectors that ranks divide.

use std::time::Instant;

use libtorch_ext::distributed::DividedVector;
use libtorch_ext::memory::{allocate_zeros, release};
use tch::{Device, Kind, Tensor, no_grad};

use crate::ranks::{long, numbers, on_ranks};

#[test]
fn a_divided_vector_is_whole_while_it_is_gathered() {
    on_ranks("gather::a_divided_vector_is_whole_while_it_is_gathered", 2, |ranks| {
        let group = ranks.group(long());
        let own = Tensor::from_slice(&[1.0_f32, 2.0, 3.0]) + ranks.rank as f64 * 10.0;
        for kind in [Kind::Float, Kind::BFloat16] {
            let whole = Tensor::ones([6], (kind, Device::Cpu));
            let view = whole.view([2, 3]);
            // SAFETY: view and vector are read while it is gathered.
            let divided = unsafe { DividedVector::new(&group, &whole, &own) }.expect("divided");
            for step in 0..2 {
                divided.gather().expect("gathered");
                let expected = [1.0, 2.0, 3.0, 11.0, 12.0, 13.0].map(|number: f64| number + f64::from(step));
                assert_eq!(numbers(&view.to_kind(Kind::Double).reshape([-1])), expected);
                // SAFETY: as above.
                unsafe { divided.release() }.expect("released");
                let _more = no_grad(|| own.shallow_clone().f_add_scalar_(1.0).expect("added"));
            }
            let _fewer = own.shallow_clone().f_sub_scalar_(2.0).expect("subtracted");
        }
        // SAFETY: it is not read.
        let wrong = unsafe { DividedVector::new(&group, &Tensor::ones([5], (Kind::Float, Device::Cpu)), &own) };
        let error = wrong.expect_err("an error").to_string();
        assert!(error.contains("the parts of all ranks are not the whole") && error.contains(" of 2"), "{error}");
    });
}

/// Asserts that there is no memory for a tensor, whose values are not zeros otherwise.
fn assert_no_memory(tensor: &Tensor) {
    allocate_zeros(tensor).expect("memory");
    assert_eq!(numbers(&tensor.to_kind(Kind::Double)), vec![0.0; tensor.numel()]);
    // SAFETY: nothing uses the tensor.
    unsafe { release(tensor) }.expect("released");
}

#[test]
fn several_vectors_are_on_their_way_at_once() {
    on_ranks("gather::several_vectors_are_on_their_way_at_once", 3, |ranks| {
        let group = ranks.group(long());
        let vectors: Vec<(DividedVector, Tensor)> = (0..4)
            .map(|index| {
                let own = Tensor::from_slice(&[1.0_f32, 2.0]) + (10 * ranks.rank + 100 * index) as f64;
                let whole = Tensor::ones([6], (Kind::Float, Device::Cpu));
                // SAFETY: the vector is read while it is gathered.
                (unsafe { DividedVector::new(&group, &whole, &own) }.expect("divided"), whole)
            })
            .collect();
        // SAFETY: as above.
        let free = |(vector, _): &(DividedVector, Tensor)| unsafe { vector.release() }.expect("released");
        let is_whole = |index: usize| {
            let (vector, whole) = &vectors[index];
            vector.gather().expect("gathered");
            let expected = [1, 2, 11, 12, 21, 22].map(|number| f64::from(number + 100 * index as i32));
            assert_eq!(numbers(&whole.to_kind(Kind::Double)), expected);
        };
        for _ in 0..3 {
            vectors.iter().for_each(|(vector, _)| vector.start().expect("started"));
            // It has been started, so these start nothing, whatever their order.
            if ranks.rank == 1 { [3, 1, 0, 2] } else { [0, 1, 2, 3] }.into_iter().for_each(is_whole);
            vectors.iter().for_each(free);
            // The memory of a vector on its way is freed when it has arrived.
            vectors.iter().for_each(|(vector, _)| vector.start().expect("started"));
            vectors.iter().for_each(free);
            vectors.iter().for_each(|(_, whole)| assert_no_memory(whole));
        }
        // Nobody waits for these.
        vectors.iter().for_each(|(vector, _)| vector.start().expect("started"));
        drop(vectors);
        group.barrier().expect("all ranks are alive");
    });
}

#[test]
fn a_vector_on_its_way_fails_if_a_rank_exits() {
    on_ranks("gather::a_vector_on_its_way_fails_if_a_rank_exits", 2, |ranks| {
        let group = ranks.group(long());
        let own = Tensor::from_slice(&[1.0_f32, 2.0]);
        let whole = Tensor::ones([4], (Kind::Float, Device::Cpu));
        // SAFETY: nothing reads it.
        let vector = unsafe { DividedVector::new(&group, &whole, &own) }.expect("divided");
        group.barrier().expect("all ranks are alive");
        if ranks.rank == 1 {
            return;
        }
        let started = Instant::now();
        vector.start().expect("started");
        let error = vector.gather().expect_err("an error").to_string();
        assert!(error.contains("gathering a divided vector on rank 0 of 2"), "{error}");
        // SAFETY: as above.
        let released = unsafe { vector.release() };
        released.expect_err("the same error");
        assert_no_memory(&whole);
        // SAFETY: as above.
        unsafe { vector.release() }.expect("nothing is on its way");
        assert!(started.elapsed() < long() / 2, "{:?}", started.elapsed());
    });
}
