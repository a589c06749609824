//! Compares the gradients of several ranks with those of one process that has all questions.

use libtorch_ext::autograd::{record, set_gradient};
use libtorch_ext::distributed::{ProcessGroup, Reducer, ReducerOptions};
use tch::{Device, Kind, Tensor, no_grad};

use crate::ranks::{Rank, long, numbers, on_ranks};

/// Parameters whose gradients are views of one buffer, as in the trainer.
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
            set_gradient(&values, &gradients.narrow(0, next, count).view(shape)).expect("set_gradient");
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

    /// A loss that is a sum over questions. `shared` is used three times: twice by a function that accumulates its gradient
    /// itself, once by a function of libtorch.
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

/// `x @ weight`. The backward pass accumulates the weight's gradient itself and returns none for it.
fn product(x: &Tensor, weight: &Tensor) -> Tensor {
    let y = no_grad(|| x.matmul(weight));
    let (saved_x, saved_weight, gradient) = (x.detach(), weight.detach(), weight.grad());
    record(c"product", &[x, weight], &[&y], move |grads| {
        let dy = grads[0].as_ref().expect("y was used");
        let _added = gradient.shallow_clone().f_add_(&saved_x.f_tr()?.f_matmul(dy)?)?;
        Ok(vec![Some(dy.f_matmul(&saved_weight.f_tr()?)?), None])
    })
    .expect("record");
    y
}

/// Returns the questions of every rank in a step. The ranks have different numbers of questions.
fn questions(step: u64, ranks: usize) -> Vec<Tensor> {
    tch::manual_seed(100 + step as i64);
    (0..ranks as i64).map(|rank| Tensor::randn([rank + 1, WIDTH], (Kind::Double, Device::Cpu))).collect()
}

fn assert_close(found: &Tensor, expected: &Tensor, what: &str) {
    let scale = expected.abs().max().double_value(&[]);
    let error = (found - expected).abs().max().double_value(&[]) / scale;
    assert!(scale > 0.0 && error < 1e-12, "{what}: {error:e}");
}

fn assert_bit_identical_on_all_ranks(group: &ProcessGroup, gradients: &Tensor) {
    let all = group.all_gather(gradients).expect("all_gather");
    let bits = |tensor: &Tensor| numbers(tensor).into_iter().map(f64::to_bits).collect::<Vec<_>>();
    assert_eq!(all.len(), group.world_size());
    assert!(all.iter().all(|other| bits(other) == bits(&all[0])));
}

/// Bucket sizes with which several buckets are reduced per pass, and the larger parameters have a bucket of their own.
const SMALL_BUCKETS: ReducerOptions = ReducerOptions { first_bucket: 8, bucket: 64 };

fn gradients_equal_those_of_one_process(ranks: &Rank) {
    let (model, single) = (Model::new(), Model::new());
    let group = ranks.group(long());
    let mut reducer = Reducer::new(group.clone(), &model.parameters(), &SMALL_BUCKETS).expect("a reducer");
    for step in 0..4 {
        let questions = questions(step, ranks.world_size);
        single.zero();
        single.loss(&Tensor::cat(&questions, 0)).backward();
        model.zero();
        reducer.backward(&model.loss(&questions[ranks.rank])).expect("backward");
        assert!(reducer.buckets() > 1, "{} buckets", reducer.buckets());
        assert_close(&model.gradients, &single.gradients, &format!("step {step}"));
        assert_bit_identical_on_all_ranks(&group, &model.gradients);
    }
}

#[test]
fn gradients_of_2_ranks_equal_those_of_one_process() {
    on_ranks("reducer::gradients_of_2_ranks_equal_those_of_one_process", 2, gradients_equal_those_of_one_process);
}

#[test]
fn gradients_of_4_ranks_equal_those_of_one_process() {
    on_ranks("reducer::gradients_of_4_ranks_equal_those_of_one_process", 4, gradients_equal_those_of_one_process);
}

#[test]
fn accumulated_gradients_are_reduced_once() {
    on_ranks("reducer::accumulated_gradients_are_reduced_once", 2, |ranks| {
        let (model, single, local) = (Model::new(), Model::new(), Model::new());
        let group = ranks.group(long());
        let mut reducer = Reducer::new(group.clone(), &model.parameters(), &SMALL_BUCKETS).expect("a reducer");
        for step in 0..3 {
            let passes: Vec<Vec<Tensor>> = (0..3).map(|pass| questions(10 * step + pass, 2)).collect();
            for model in [&model, &single, &local] {
                model.zero();
            }
            for (pass, questions) in passes.iter().enumerate() {
                single.loss(&Tensor::cat(questions, 0)).backward();
                let (own, loss) = (&questions[ranks.rank], model.loss(&questions[ranks.rank]));
                if pass + 1 < passes.len() {
                    loss.backward();
                    local.loss(own).backward();
                    assert_eq!(numbers(&model.gradients), numbers(&local.gradients), "not reduced");
                } else {
                    reducer.backward(&loss).expect("backward");
                }
            }
            assert_close(&model.gradients, &single.gradients, &format!("step {step}"));
            assert_bit_identical_on_all_ranks(&group, &model.gradients);
        }
    });
}

/// Uses the parameter only in functions that accumulate its gradient themselves, so that libtorch never computes one.
#[test]
fn gradients_accumulated_outside_of_libtorch_are_reduced() {
    on_ranks("reducer::gradients_accumulated_outside_of_libtorch_are_reduced", 2, |ranks| {
        let (model, single) = (Model::new(), Model::new());
        let loss = |model: &Model, x: &Tensor| {
            let y = product(&product(x, &model.shared).tanh(), &model.shared);
            product(&y.sin(), &model.shared).sum(Kind::Double)
        };
        let group = ranks.group(long());
        let mut reducer = Reducer::new(group.clone(), &[&model.shared], &SMALL_BUCKETS).expect("a reducer");
        for step in 0..3 {
            let questions = questions(step, 2);
            model.zero();
            single.zero();
            // The weight is the only input of the first product that requires a gradient.
            loss(&single, &Tensor::cat(&questions, 0)).backward();
            reducer.backward(&loss(&model, &questions[ranks.rank])).expect("backward");
            assert_close(&model.gradients, &single.gradients, &format!("step {step}"));
            assert_bit_identical_on_all_ranks(&group, &model.gradients);
        }
    });
}
