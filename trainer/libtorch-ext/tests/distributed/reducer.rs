//! Compares the gradients of several ranks with those of one process that has all questions.

use std::rc::Rc;

use libtorch_ext::autograd::{record, set_gradient};
use libtorch_ext::distributed::{ProcessGroup, Reducer, ReducerOptions};
use tch::{Device, Kind, TchError, Tensor, no_grad};

use crate::ranks::{Rank, long, numbers, on_ranks};

/// Parameters whose gradients are views of one buffer, as in the trainer.
pub(crate) struct Model {
    pub(crate) first: Tensor,
    pub(crate) bias: Tensor,
    pub(crate) shared: Tensor,
    pub(crate) last: Tensor,
    pub(crate) gradients: Tensor,
}

impl Model {
    pub(crate) fn new() -> Self {
        Self::padded(1)
    }

    /// The gradient of each parameter takes a multiple of `multiple` in the buffer.
    pub(crate) fn padded(multiple: i64) -> Self {
        tch::manual_seed(7);
        let options = (Kind::Double, Device::Cpu);
        let taken = |count: i64| (count + multiple - 1) / multiple * multiple;
        let gradients = Tensor::zeros([2 * taken(WIDTH * WIDTH) + 2 * taken(WIDTH)], options);
        let mut next = 0;
        let mut parameter = |shape: &[i64]| {
            let values = Tensor::randn(shape, options).set_requires_grad(true);
            let count = values.numel() as i64;
            set_gradient(&values, &gradients.narrow(0, next, count).view(shape)).expect("set_gradient");
            next += taken(count);
            values
        };
        let (first, bias) = (parameter(&[WIDTH, WIDTH]), parameter(&[WIDTH]));
        let (shared, last) = (parameter(&[WIDTH, WIDTH]), parameter(&[WIDTH, 1]));
        Self { first, bias, shared, last, gradients }
    }

    pub(crate) fn parameters(&self) -> [&Tensor; 4] {
        [&self.first, &self.bias, &self.shared, &self.last]
    }

    /// A loss that is a sum over questions. `shared` is used three times: twice by a function that accumulates its gradient
    /// itself, once by a function of libtorch.
    pub(crate) fn loss(&self, questions: &Tensor) -> Tensor {
        let x = (questions.matmul(&self.first) + &self.bias).tanh();
        let x = product(&x, &self.shared).tanh();
        let x = product(&x, &self.shared).tanh() + x.matmul(&self.shared).sin();
        x.matmul(&self.last).square().sum(Kind::Double)
    }

    pub(crate) fn reducer(&self, group: &Rc<ProcessGroup>, options: &ReducerOptions) -> Reducer {
        Reducer::new(Rc::clone(group), &self.parameters(), &self.gradients, options).expect("a reducer")
    }

    pub(crate) fn zero(&self) {
        let _zeros = self.gradients.shallow_clone().zero_();
    }
}

pub(crate) const WIDTH: i64 = 6;

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
pub(crate) fn questions(step: u64, ranks: usize) -> Vec<Tensor> {
    tch::manual_seed(100 + step as i64);
    (0..ranks as i64).map(|rank| Tensor::randn([rank + 1, WIDTH], (Kind::Double, Device::Cpu))).collect()
}

pub(crate) fn assert_close(found: &Tensor, expected: &Tensor, what: &str) {
    let scale = expected.abs().max().double_value(&[]);
    let error = (found - expected).abs().max().double_value(&[]) / scale;
    assert!(scale > 0.0 && error < 1e-12, "{what}: {error:e}");
}

fn bits(tensor: &Tensor) -> Vec<u64> {
    numbers(tensor).into_iter().map(f64::to_bits).collect()
}

pub(crate) fn assert_bit_identical_on_all_ranks(group: &ProcessGroup, gradients: &Tensor) {
    let all = group.all_gather(gradients).expect("all_gather");
    assert_eq!(all.len(), group.world_size());
    assert!(all.iter().all(|other| bits(other) == bits(&all[0])));
}

/// A bucket size with which each parameter is a slice of its own.
const SMALL_BUCKETS: ReducerOptions = ReducerOptions { bucket: 64, bf16: false, scatter: false };

fn gradients_equal_those_of_one_process(ranks: &Rank) {
    let (model, single) = (Model::new(), Model::new());
    let group = ranks.group(long());
    let mut reducer = model.reducer(&group, &SMALL_BUCKETS);
    for step in 0..4 {
        let questions = questions(step, ranks.world_size);
        single.zero();
        single.loss(&Tensor::cat(&questions, 0)).backward();
        model.zero();
        reducer.backward(&model.loss(&questions[ranks.rank])).expect("backward");

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
        let mut reducer = model.reducer(&group, &SMALL_BUCKETS);
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
        let shared = Tensor::zeros([WIDTH * WIDTH], (Kind::Double, Device::Cpu));
        set_gradient(&model.shared, &shared.view([WIDTH, WIDTH])).expect("set_gradient");
        let mut reducer = Reducer::new(group.clone(), &[&model.shared], &shared, &SMALL_BUCKETS).expect("a reducer");
        for step in 0..3 {
            let questions = questions(step, 2);
            let _zeros = shared.shallow_clone().zero_();
            single.zero();
            // The weight is the only input of the first product that requires a gradient.
            loss(&single, &Tensor::cat(&questions, 0)).backward();
            reducer.backward(&loss(&model, &questions[ranks.rank])).expect("backward");
            assert_close(&shared, &single.shared.grad().view(-1), &format!("step {step}"));
            assert_bit_identical_on_all_ranks(&group, &shared);
        }
    });
}

#[test]
fn slices_equal_a_reduction_of_the_whole_buffer() {
    on_ranks("reducer::slices_equal_a_reduction_of_the_whole_buffer", 2, |ranks| {
        let group = ranks.group(long());
        let (model, local) = (Model::new(), Model::new());
        let mut reducer = model.reducer(&group, &SMALL_BUCKETS);
        assert_eq!(reducer.slices().len(), 4);
        for step in 0..3 {
            let questions = &questions(step, 2)[ranks.rank];
            for model in [&model, &local] {
                model.zero();
            }
            reducer.backward(&model.loss(questions)).expect("backward");
            assert_eq!(reducer.overlapped(), 4);
            local.loss(questions).backward();
            let mut whole = local.gradients.copy();
            group.all_reduce_sum(&mut whole).expect("all_reduce_sum");
            // A sum of two numbers does not depend on their order.
            assert_eq!(bits(&model.gradients), bits(&whole));
        }
    });
}

#[test]
fn sums_of_3_ranks_are_exact_if_they_can_be() {
    on_ranks("reducer::sums_of_3_ranks_are_exact_if_they_can_be", 3, |ranks| {
        let group = ranks.group(long());
        let model = Model::new();
        for bf16 in [false, true] {
            let mut reducer = model.reducer(&group, &ReducerOptions { bf16, ..SMALL_BUCKETS });
            // At most 8 bits, as bf16 has.
            let values = |rank: usize| model.gradients.ones_like().cumsum(0, Kind::Double).remainder(64.0) + rank as f64;
            model.gradients.shallow_clone().copy_(&values(ranks.rank));
            reducer.reduce().expect("reduce");
            let expected: Tensor = (0..3).map(values).sum();
            assert_eq!(numbers(&model.gradients), numbers(&expected), "bf16: {bf16}");
        }
    });
}

#[test]
fn bf16_sums_are_close_and_the_same_on_all_ranks() {
    on_ranks("reducer::bf16_sums_are_close_and_the_same_on_all_ranks", 3, |ranks| {
        let group = ranks.group(long());
        let (model, single) = (Model::new(), Model::new());
        let mut reducer = model.reducer(&group, &ReducerOptions { bf16: true, ..SMALL_BUCKETS });
        for step in 0..3 {
            let questions = questions(step, 3);
            model.zero();
            single.zero();
            single.loss(&Tensor::cat(&questions, 0)).backward();
            reducer.backward(&model.loss(&questions[ranks.rank])).expect("backward");
            assert_bit_identical_on_all_ranks(&group, &model.gradients);
            assert_eq!(bits(&model.gradients), bits(&model.gradients.to_kind(Kind::BFloat16).to_kind(Kind::Double)));
            let error = (&model.gradients - &single.gradients).norm().double_value(&[]);
            let relative = error / single.gradients.norm().double_value(&[]);
            assert!(1e-6 < relative && relative < 0.01, "step {step}: {relative}");
        }
    });
}

#[test]
fn a_rank_without_questions_reduces_zeros() {
    on_ranks("reducer::a_rank_without_questions_reduces_zeros", 3, |ranks| {
        let group = ranks.group(long());
        let (model, single) = (Model::new(), Model::new());
        let mut reducer = model.reducer(&group, &SMALL_BUCKETS);
        for step in 0..3_usize {
            let questions = questions(step as u64, 3);
            let with_questions = |rank: usize| rank != step;
            model.zero();
            single.zero();
            (0..3).filter(|&rank| with_questions(rank)).for_each(|rank| single.loss(&questions[rank]).backward());
            match with_questions(ranks.rank) {
                true => reducer.backward(&model.loss(&questions[ranks.rank])).expect("backward"),
                false => reducer.reduce().expect("reduce"),
            }
            assert_close(&model.gradients, &single.gradients, &format!("step {step}"));
            assert_bit_identical_on_all_ranks(&group, &model.gradients);
        }
    });
}

/// Gradients that are complete in another order on each rank, in slices of different sizes, one of a tied parameter.
#[test]
fn all_ranks_reduce_slices_in_the_same_order() {
    on_ranks("reducer::all_ranks_reduce_slices_in_the_same_order", 2, |ranks| {
        let group = ranks.group(long());
        let model = Model::new();
        let mut reducer = model.reducer(&group, &SMALL_BUCKETS);
        let (matrix, width) = ((WIDTH * WIDTH) as usize, WIDTH as usize);
        let (first, bias, shared) = (0..matrix, matrix..matrix + width, matrix + width..2 * matrix + width);
        assert_eq!(reducer.slices(), [shared.end..shared.end + width, shared, bias, first]);
        for step in 0..4 {
            model.zero();
            // The tied parameter is used in the first and in the last term.
            let terms = [&model.first, &model.bias, &model.shared, &model.last, &model.first];
            let terms = terms.map(|parameter| (parameter * 2.0).sum(Kind::Double));
            let loss: Tensor = match (ranks.rank + step) % 2 {
                0 => terms.iter().sum(),
                _ => terms.iter().rev().sum(),
            };
            reducer.backward(&loss).expect("backward");
            let expected = |parameter: &Tensor| if parameter.data_ptr() == model.first.data_ptr() { 8.0 } else { 4.0 };
            for parameter in model.parameters() {
                let gradient = numbers(&parameter.grad());
                assert!(gradient.iter().all(|&number| number == expected(parameter)), "{gradient:?}");
            }
        }
    });
}

#[test]
fn a_reducer_is_usable_after_all_ranks_had_the_same_error() {
    on_ranks("reducer::a_reducer_is_usable_after_all_ranks_had_the_same_error", 2, |ranks| {
        let group = ranks.group(long());
        let (model, single) = (Model::new(), Model::new());
        let mut reducer = model.reducer(&group, &SMALL_BUCKETS);
        for step in 0..3 {
            let questions = questions(step, 2);
            // Fails after the gradients of `last` are complete, and before the others are.
            let x = no_grad(|| questions[ranks.rank].matmul(&model.first));
            record(c"fails", &[&model.first], &[&x], |_| Err(TchError::Kind("intended error".into()))).expect("record");
            let loss = x.matmul(&model.last).square().sum(Kind::Double);
            let error = reducer.backward(&loss).expect_err("an error").to_string();
            assert!(error.contains("backward pass with gradient reduction") && error.contains("intended error"), "{error}");
            reducer.reduce().expect("the slices of the failed pass are complete");

            model.zero();
            single.zero();
            single.loss(&Tensor::cat(&questions, 0)).backward();
            reducer.backward(&model.loss(&questions[ranks.rank])).expect("backward");
            assert_close(&model.gradients, &single.gradients, &format!("step {step}"));
            assert_bit_identical_on_all_ranks(&group, &model.gradients);
        }
    });
}
