//! NCCL with a single rank. Skipped without a GPU.
//!
//! This is a binary of its own because libtorch_cuda must be loaded before anything else uses libtorch.

#![cfg(feature = "cuda")]

use std::rc::Rc;
use std::time::{Duration, Instant};

use libtorch_ext::autograd::set_gradient;
use libtorch_ext::distributed::{Backend, GroupOptions, ProcessGroup, Reducer, ReducerOptions, Store, StoreOptions};
use libtorch_ext::stream::{Event, Stream, current_device, set_current_device};
use tch::{Cuda, Device, Kind, Tensor};

const GPU: Device = Device::Cuda(0);
const SIZE: i64 = 1000;

/// Three parameters and the buffer of their gradients.
fn parameters() -> (Vec<Tensor>, Tensor) {
    let gradients = Tensor::zeros([3 * SIZE], (Kind::Float, GPU));
    let parameter = |i| {
        let parameter = Tensor::ones([SIZE], (Kind::Float, GPU)).set_requires_grad(true);
        set_gradient(&parameter, &gradients.narrow(0, i * SIZE, SIZE)).expect("a view");
        parameter
    };
    ((0..3).map(parameter).collect(), gradients)
}

fn reducer(group: &Rc<ProcessGroup>, parameters: &[Tensor], gradients: &Tensor, bf16: bool) -> Reducer {
    let options = ReducerOptions { bucket: 4 * SIZE as usize, bf16, scatter: false };
    Reducer::new(Rc::clone(group), &parameters.iter().collect::<Vec<_>>(), gradients, &options).expect("a reducer")
}

fn gradients_are_reduced(group: &Rc<ProcessGroup>) {
    let (parameters, gradients) = parameters();
    let weights = Tensor::rand([3, SIZE], (Kind::Float, GPU));
    for bf16 in [false, true] {
        let mut reducer = reducer(group, &parameters, &gradients, bf16);
        let loss = Tensor::stack(&parameters, 0) * &weights;
        reducer.backward(&loss.sum(Kind::Float)).expect("backward");
        assert_eq!((reducer.slices().len(), reducer.overlapped()), (3, 3));
        let expected = if bf16 { weights.to_kind(Kind::BFloat16).to_kind(Kind::Float) } else { weights.shallow_clone() };
        assert!(gradients.equal(&expected.view(-1)), "bf16: {bf16}");
        let _zeros = gradients.shallow_clone().zero_();
        reducer.reduce().expect("reduce");
        assert_eq!(gradients.abs().sum(Kind::Float).double_value(&[]), 0.0);
    }
}

/// Queues work of some hundred milliseconds, a backward pass with reduction, and a sum.
fn the_thread_does_not_wait(group: &Rc<ProcessGroup>) {
    let (parameters, gradients) = parameters();
    let mut reducer = reducer(group, &parameters, &gradients, false);
    let matrix = Tensor::rand([8192, 8192], (Kind::Half, GPU));
    let mut queue = |products: usize| {
        let start = Instant::now();
        for _ in 0..products {
            let _product = matrix.matmul(&matrix);
        }
        reducer.backward(&Tensor::stack(&parameters, 0).sum(Kind::Float)).expect("backward");
        let mut sum = gradients.sum(Kind::Float);
        group.queue_sum(&mut sum).expect("queue_sum");
        let event = Event::record(&Stream::current(0).expect("a stream")).expect("an event");
        let queued = start.elapsed();
        let was_reached = event.is_reached().expect("a state");
        group.check().expect("no error");
        event.synchronize().expect("done");
        assert!(event.is_reached().expect("a state"));
        (was_reached, queued, start.elapsed(), sum.double_value(&[]))
    };
    // Initializes libraries.
    assert_eq!(queue(2).3, 3.0 * SIZE as f64);
    let (was_reached, queued, done, sum) = queue(200);
    println!("queued in {queued:?}, done after {done:?}");
    assert_eq!(sum, 6.0 * SIZE as f64);
    assert!(!was_reached && queued < done / 4, "the thread has waited: queued in {queued:?}, done after {done:?}");
}

#[test]
fn one_rank() {
    if let Err(reason) = libtorch_ext::cuda::load() {
        return eprintln!("skipped: {reason}");
    }
    if !Cuda::is_available() {
        return eprintln!("skipped: no GPU");
    }
    set_current_device(0).expect("a GPU");
    assert_eq!(current_device(), Some(0));
    let store = Store::serve(&StoreOptions { port: 0, ..StoreOptions::default() }).expect("a store");
    let timeout = Duration::from_secs(60);
    let options = GroupOptions { backend: Backend::Nccl, timeout, ..GroupOptions::default() };
    let group = Rc::new(ProcessGroup::new(&store, 0, 1, &options).expect("a group"));
    gradients_are_reduced(&group);
    the_thread_does_not_wait(&group);
    let numbers = group.all_gather(&Tensor::from_slice(&[7.0])).expect("CPU tensors use Gloo");
    assert_eq!(Vec::<f64>::try_from(&numbers[0]).expect("numbers"), [7.0]);
    group.barrier().expect("barrier");
}
