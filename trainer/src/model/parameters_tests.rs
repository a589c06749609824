//! Tests of the parameters.

use tch::{Device, Kind, Tensor, no_grad};

use super::parameters::{Init, Parameters};

#[test]
fn handles_and_gradients_are_views_of_the_buffers() {
    let mut parameters = Parameters::new(Kind::Float, Device::Cpu);
    let bias = parameters.add("bias".into(), &[2], Init::Zeros).expect("bias");
    let weight = parameters.add("weight".into(), &[2, 3], Init::Ones).expect("weight");
    parameters.flatten().expect("flatten");
    assert_eq!(parameters.gradients().numel(), 0);
    parameters.draw().expect("draw");
    parameters.alloc_grads().expect("gradients");
    let numbers = |tensor: &Tensor| Vec::<f32>::try_from(tensor.reshape([-1])).expect("numbers");
    let [decayed, rest] = parameters.groups() else { panic!("two groups") };
    assert_eq!((numbers(&decayed.values), numbers(&rest.values)), (vec![1.0; 6], vec![0.0; 2]));

    let _filled = no_grad(|| decayed.values.shallow_clone().fill_(2.0));
    assert_eq!(numbers(&weight), [2.0; 6]);
    (weight.sum(Kind::Float) * 3.0 + bias.sum(Kind::Float)).backward();
    assert_eq!(numbers(parameters.gradients()), [3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 1.0, 1.0]);
    let views = parameters.unflatten(parameters.gradients()).expect("unflatten");
    assert_eq!((numbers(&views[0]), views[1].size()), (vec![1.0; 2], vec![2, 3]));
    parameters.zero_grad().expect("zero");
    assert_eq!(numbers(&weight.grad()), [0.0; 6]);
}

#[test]
fn matrices_of_blocks_are_held_in_half_precision_once() {
    let mut parameters = Parameters::new(Kind::Float, Device::Cpu);
    let table = parameters.add("word_embeddings.weight".into(), &[2, 3], Init::Normal(1.0)).expect("table");
    let weight = parameters.add("transformer.layers.0.weight".into(), &[3, 4], Init::Normal(1.0)).expect("weight");
    let bias = parameters.add("transformer.layers.0.bias".into(), &[4], Init::Ones).expect("bias");
    parameters.hold_matrices(Kind::BFloat16);
    parameters.flatten().expect("flatten");
    parameters.draw().expect("draw");
    assert_eq!([&table, &weight, &bias].map(Tensor::kind), [Kind::Float, Kind::BFloat16, Kind::Float]);
    assert_eq!(parameters.values().numel(), 6 + 4);
    let cast = |parameter: &Tensor| parameters.cast(parameter, Kind::BFloat16).expect("cast").shallow_clone();
    assert_eq!(cast(&weight).data_ptr(), weight.data_ptr(), "not a copy");
    assert_eq!(cast(&table), table.to_kind(Kind::BFloat16));
    assert!(parameters.cast(&weight, Kind::Half).is_err());
    assert!(parameters.alloc_grads().is_err());
}

#[test]
fn parameters_of_divisible_buffers_start_at_multiples() {
    let mut parameters = Parameters::new(Kind::Float, Device::Cpu);
    let bias = parameters.add("bias".into(), &[3], Init::Ones).expect("bias");
    let weight = parameters.add("weight".into(), &[2, 5], Init::Ones).expect("weight");
    let other = parameters.add("other".into(), &[3], Init::Ones).expect("other");
    parameters.make_divisible(4);
    parameters.flatten().expect("flatten");
    parameters.draw().expect("draw");
    parameters.alloc_grads().expect("gradients");
    assert_eq!(parameters.places(), [12..15, 0..10, 16..19]);
    let expected = [[1.0; 4], [1.0; 4], [1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 1.0, 0.0]].concat();
    assert_eq!(Vec::<f64>::try_from(parameters.values()).expect("numbers"), expected);
    (weight.sum(Kind::Float) + bias.sum(Kind::Float) + other.sum(Kind::Float)).backward();
    assert_eq!(Vec::<f64>::try_from(parameters.gradients()).expect("numbers"), expected);
    assert_eq!(parameters.groups()[1].values.size(), [8]);
}
