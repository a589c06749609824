//! Gradients of several ranks against those of one process that has all the questions.

use libtorch_ext::autograd::{record, set_gradient};
use libtorch_ext::distributed::{Reducer, ReducerOptions};
use tch::{Device, Kind, Tensor, no_grad};

use crate::ranks::{Rank, long, numbers, on_ranks};

/// Parameters whose gradients are views of one buffer, as the trainer's are.
struct Model {
    first: Tensor,
    bias: Tensor,
    shared: Tensor,
    last: Tensor,
    gradients: Tensor,
}

impl Model {
    fn new() -> Self {
        tch::manual_seed(7);
        let options = (Kind::Double, Device::Cpu);
        let gradients = Tensor::zeros([WIDTH * WIDTH * 2 + WIDTH + WIDTH], options);
        let mut next = 0;
        let mut parameter = |shape: &[i64]| {
            let values = Tensor::randn(shape, options).set_requires_grad(true);
            let count = values.numel() as i64;
            set_gradient(&values, &gradients.narrow(0, next, count).view(shape)).expect("a place");
            next += count;
            values
        };
        let (first, bias) = (parameter(&[WIDTH, WIDTH]), parameter(&[WIDTH]));
        let (shared, last) = (parameter(&[WIDTH, WIDTH]), parameter(&[WIDTH, 1]));
        Self { first, bias, shared, last, gradients }
    }

    fn parameters(&self) -> [&Tensor; 4] {
        [&self.first, &self.bias, &self.shared, &self.last]
    }

    /// A loss that is a sum over questions. `shared` is used three times: twice by a function that adds its gradient up by
    /// itself, once by one of libtorch's.
    fn loss(&self, questions: &Tensor) -> Tensor {
        let x = (questions.matmul(&self.first) + &self.bias).tanh();
        let x = product(&x, &self.shared).tanh();
        let x = product(&x, &self.shared).tanh() + x.matmul(&self.shared).sin();
        x.matmul(&self.last).square().sum(Kind::Double)
    }

    fn zero(&self) {
        let _zeros = self.gradients.shallow_clone().zero_();
    }
}

const WIDTH: i64 = 6;

/// `x @ weight`, whose backward pass adds the weight's gradient to its place and returns none.
fn product(x: &Tensor, weight: &Tensor) -> Tensor {
    let y = no_grad(|| x.matmul(weight));
    let (saved_x, saved_weight, place) = (x.detach(), weight.detach(), weight.grad());
    record(c"product", &[x, weight], &[&y], move |grads| {
        let dy = grads[0].as_ref().expect("y was used");
        let _added = place.shallow_clone().f_add_(&saved_x.f_tr()?.f_matmul(dy)?)?;
        Ok(vec![Some(dy.f_matmul(&saved_weight.f_tr()?)?), None])
    })
    .expect("record");
    y
}

/// The questions of every rank in a step, the same on all ranks; ranks have different numbers of them.
fn questions(step: u64, ranks: usize) -> Vec<Tensor> {
    tch::manual_seed(100 + step as i64);
    (0..ranks as i64).map(|rank| Tensor::randn([rank + 1, WIDTH], (Kind::Double, Device::Cpu))).collect()
}

fn assert_close(found: &Tensor, expected: &Tensor, what: &str) {
    let scale = expected.abs().max().double_value(&[]);
    let error = (found - expected).abs().max().double_value(&[]) / scale;
    assert!(scale > 0.0 && error < 1e-12, "{what}: {error:e}");
}

fn assert_same_bits_everywhere(ranks: &Rank, reducer: &Reducer, gradients: &Tensor) {
    let all = reducer.group().all_gather(gradients).expect("all_gather");
    let bits = |tensor: &Tensor| numbers(tensor).into_iter().map(f64::to_bits).collect::<Vec<_>>();
    assert_eq!(all.len(), ranks.world_size);
    assert!(all.iter().all(|other| bits(other) == bits(&all[0])));
}

/// Small buckets: several a pass, and the larger parameters one each.
fn small(average: bool, find_unused: bool) -> ReducerOptions {
    ReducerOptions { first_bucket: 8, bucket: 64, average, find_unused }
}

fn gradients_are_those_of_one_process(ranks: &Rank) {
    let (model, alone) = (Model::new(), Model::new());
    for (average, find_unused) in [(false, false), (true, false), (false, true)] {
        model.zero();
        let options = small(average, find_unused);
        let mut reducer = Reducer::new(ranks.group_named(&format!("{options:?}"), long()), &model.parameters(), &options);
        let reducer = reducer.as_mut().expect("a reducer");
        for step in 0..4 {
            let questions = questions(step, ranks.world_size);
            alone.zero();
            alone.loss(&Tensor::cat(&questions, 0)).backward();
            if average {
                let _mean = alone.gradients.shallow_clone().divide_scalar_(ranks.world_size as f64);
            }
            reducer.backward(&model.loss(&questions[ranks.rank])).expect("backward");
            assert!(reducer.buckets() > 1, "{} buckets", reducer.buckets());
            assert_close(&model.gradients, &alone.gradients, &format!("step {step}, {options:?}"));
            assert_same_bits_everywhere(ranks, reducer, &model.gradients);
            model.zero();
        }
    }
}

#[test]
fn gradients_of_2_ranks_are_those_of_one_process() {
    on_ranks("reducer::gradients_of_2_ranks_are_those_of_one_process", 2, gradients_are_those_of_one_process);
}

#[test]
fn gradients_of_4_ranks_are_those_of_one_process() {
    on_ranks("reducer::gradients_of_4_ranks_are_those_of_one_process", 4, gradients_are_those_of_one_process);
}

#[test]
fn several_passes_are_reduced_once() {
    on_ranks("reducer::several_passes_are_reduced_once", 2, |ranks| {
        for find_unused in [false, true] {
            let (model, alone, local) = (Model::new(), Model::new(), Model::new());
            let options = small(false, find_unused);
            let group = ranks.group_named(&format!("{options:?}"), long());
            let mut reducer = Reducer::new(group, &model.parameters(), &options).expect("a reducer");
            for step in 0..3 {
                let passes: Vec<Vec<Tensor>> = (0..3).map(|pass| questions(10 * step + pass, 2)).collect();
                for model in [&model, &alone, &local] {
                    model.zero();
                }
                for (pass, questions) in passes.iter().enumerate() {
                    alone.loss(&Tensor::cat(questions, 0)).backward();
                    let (mine, loss) = (&questions[ranks.rank], model.loss(&questions[ranks.rank]));
                    if pass + 1 < passes.len() {
                        reducer.accumulate(&loss).expect("accumulate");
                        local.loss(mine).backward();
                        assert_eq!(numbers(&model.gradients), numbers(&local.gradients), "nothing is sent");
                    } else {
                        reducer.backward(&loss).expect("backward");
                    }
                }
                assert_close(&model.gradients, &alone.gradients, &format!("step {step}"));
                assert_same_bits_everywhere(ranks, &reducer, &model.gradients);
            }
        }
    });
}

#[test]
fn a_parameter_may_be_unused_on_some_ranks_and_used_in_an_earlier_pass() {
    on_ranks("reducer::a_parameter_may_be_unused_on_some_ranks_and_used_in_an_earlier_pass", 2, |ranks| {
        let (model, rank) = (Model::new(), ranks.rank as f64);
        let mut reducer = Reducer::new(ranks.group(long()), &model.parameters(), &small(false, true)).expect("a reducer");
        for _ in 0..2 {
            model.zero();
            // `bias` on both ranks, `last` on rank 1, `first` on rank 0 in a pass that is not reduced, `shared` nowhere.
            if ranks.rank == 0 {
                reducer.accumulate(&(&model.first * 5.0).sum(Kind::Double)).expect("accumulate");
            }
            let loss = (&model.bias * (rank + 1.0)).sum(Kind::Double);
            let loss = if ranks.rank == 1 { loss + (&model.last * 7.0).sum(Kind::Double) } else { loss };
            reducer.backward(&loss).expect("backward");
            for (parameter, expected) in model.parameters().into_iter().zip([5.0, 3.0, 0.0, 7.0]) {
                assert!(numbers(&parameter.grad()).iter().all(|&value| value == expected), "{expected}");
            }
        }
    });
}

/// A parameter that only functions with gradients of their own use: libtorch itself never gets one for it.
#[test]
fn gradients_that_libtorch_never_sees_are_reduced() {
    on_ranks("reducer::gradients_that_libtorch_never_sees_are_reduced", 2, |ranks| {
        let (model, alone) = (Model::new(), Model::new());
        let only = |model: &Model| [model.shared.shallow_clone()];
        let loss = |model: &Model, x: &Tensor| {
            let y = product(&product(x, &model.shared).tanh(), &model.shared);
            product(&y.sin(), &model.shared).sum(Kind::Double)
        };
        for find_unused in [false, true] {
            let options = small(false, find_unused);
            let group = ranks.group_named(&format!("{options:?}"), long());
            let mut reducer = Reducer::new(group, &only(&model).each_ref(), &options).expect("a reducer");
            for step in 0..3 {
                let questions = questions(step, 2);
                model.zero();
                alone.zero();
                // Its first product has no input that needs a gradient but the weight.
                loss(&alone, &Tensor::cat(&questions, 0)).backward();
                reducer.backward(&loss(&model, &questions[ranks.rank])).expect("backward");
                assert_close(&model.gradients, &alone.gradients, &format!("step {step}"));
                assert_same_bits_everywhere(ranks, &reducer, &model.gradients);
            }
        }
    });
}
