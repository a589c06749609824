//! Tests that need a GPU; without one they pass at once. They have a binary of their own, because libtorch_cuda must be loaded
//! before anything else asks libtorch for CUDA.

use std::time::Instant;

use glm_trainer::checkpoint::device_copy::DeviceCopier;
use glm_trainer::distributed::checksum;
use glm_trainer::model::parameters::{Init, Parameters};
use libtorch_ext::stream::{Stream, available_bytes};
use tch::{Cuda, Device, Kind, Tensor, no_grad};

fn has_gpu() -> bool {
    let has_gpu = libtorch_ext::cuda::load().is_ok() && Cuda::device_count() > 0;
    if !has_gpu {
        eprintln!("no GPU: nothing is tested");
    }
    has_gpu
}

/// 42 million parameters in tensors of very different sizes.
fn parameters(device: Device) -> Parameters {
    let mut parameters = Parameters::new(Kind::Float, device);
    for (name, shape) in
        [("table", &[30_592, 1024][..]), ("weight", &[1024, 3072]), ("bias", &[3072]), ("other", &[4096, 1777]), ("norm", &[7])]
    {
        let _handle = parameters.add(name.into(), shape, Init::Normal(1.0)).expect("parameter");
    }
    parameters.flatten().expect("memory");
    parameters
}

fn on_host(tensor: &Tensor) -> Tensor {
    tensor.detach().to_device(Device::Cpu)
}

#[test]
fn copies_are_those_of_the_state_before_the_next_update() {
    if !has_gpu() {
        return;
    }
    let parameters = parameters(Device::Cuda(0));
    let count: i64 = parameters.iter().map(|parameter| parameter.shape().iter().product::<i64>()).sum();
    let mut moments = [0, 1].map(|_| Tensor::zeros([count], (Kind::Float, Device::Cuda(0))));
    let weights = || parameters.groups().iter().map(|group| group.values.shallow_clone());
    for duplicate in [true, false] {
        let mut copier = DeviceCopier::new(&parameters, 0, duplicate).expect("memory");
        for round in 0..3 {
            no_grad(|| {
                weights().chain(moments.iter().map(Tensor::shallow_clone)).for_each(|mut vector| drop(vector.normal_(0.0, 1.0)))
            });
            let mut expected = vec![parameters.iter().map(|parameter| on_host(&parameter.tensor)).collect::<Vec<_>>()];
            for moment in &moments {
                expected.push(parameters.unflatten(&on_host(moment)).expect("views"));
            }
            let start = Instant::now();
            let [first, second] = &moments;
            let copy = copier.start(&parameters, [first, second]).expect("copy");
            println!("duplicate {duplicate}, copy {round}: the host was blocked for {:?}", start.elapsed());
            assert_eq!(copy.before_update.is_none(), duplicate);
            if let Some(event) = copy.before_update {
                event.block(&Stream::current(0).expect("stream")).expect("wait");
            }
            // The update.
            no_grad(|| weights().for_each(|mut values| drop(values.fill_(f64::from(round)))));
            moments.iter_mut().for_each(|moment| drop(moment.fill_(f64::from(round))));
            copy.complete.synchronize().expect("copied");
            println!("duplicate {duplicate}, copy {round}: complete after {:?}", start.elapsed());
            for (found, expected) in copy.tensors.iter().zip(&expected) {
                assert_eq!(found, expected, "duplicate {duplicate}, copy {round}");
            }
        }
    }
}

#[test]
fn checksum_is_that_of_the_cpu() {
    if !has_gpu() {
        return;
    }
    let (on_gpu, on_cpu) = (parameters(Device::Cuda(0)), parameters(Device::Cpu));
    on_cpu.draw().expect("weights");
    for (to, from) in on_gpu.groups().iter().zip(on_cpu.groups()) {
        no_grad(|| to.values.shallow_clone().copy_(&from.values));
    }
    let expected = checksum::of_parameters(&on_cpu).expect("checksum");
    for _ in 0..2 {
        let start = Instant::now();
        assert_eq!(checksum::of_parameters(&on_gpu).expect("checksum"), expected);
        println!("checksum of 42 million weights in {:?}", start.elapsed());
    }
}

#[test]
fn available_memory_shrinks_by_what_is_allocated() {
    if !has_gpu() {
        return;
    }
    let _context = Tensor::zeros([1], (Kind::Float, Device::Cuda(0)));
    let before = available_bytes(0).expect("memory");
    let kept = Tensor::zeros([1 << 28], (Kind::Float, Device::Cuda(0)));
    let after = available_bytes(0).expect("memory");
    assert!((1 << 30..(1 << 30) + (1 << 25)).contains(&(before - after)), "{before} bytes before, {after} after");
    drop(kept);
    assert!(available_bytes(0).expect("memory") >= before - (1 << 25), "freed memory that the allocator keeps counts");
}
