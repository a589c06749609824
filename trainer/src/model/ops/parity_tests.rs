//! Every implementation of the operations against the reference: results and gradients, in double precision on a CPU, in single
//! precision for the CUDA kernels, which run in Triton's interpreter.

use std::sync::Arc;

use glm_kernels::dropout::Site;
use glm_schemas::vocab::TokenId;
use proptest::prelude::*;
use tch::{Device, Kind, Tensor, no_grad};

use super::cuda::CudaOps;
use super::cuda::interpreter::interpreter;
use super::{Ops, Queries};
use crate::batch::device::DeviceBatch;
use crate::batch::packed::Batch;
use crate::model::backend::Backend;
use crate::model::layers::{LayerNorm, Linear};
use crate::model::parameters::{Init, Parameters};
use crate::model::pass::{Kernels, Pass};

const HIDDEN: i64 = 32;
const HEADS: i64 = 2;
const WORDS: i64 = 48;
const POSITIONS: i64 = 100;

/// Implementations that are compared with [`Backend::Torch`].
const OTHERS: [Backend; 2] = [Backend::Cpu, Backend::Cuda];

/// Kind in which an implementation is tested, and the tolerance of its results.
fn precision(backend: Backend) -> (Kind, f64) {
    match backend {
        Backend::Cuda => (Kind::Float, 1e-5),
        Backend::Cpu | Backend::Torch => (Kind::Double, 1e-11),
    }
}

/// Operations on one batch; the CUDA kernels run in Triton's interpreter.
fn ops_of<'a>(backend: Backend, batch: &'a DeviceBatch, dropout: Option<u64>, layers: &'a Layers) -> Box<dyn Ops + 'a> {
    let pass = Pass { kind: precision(backend).0, dropout, kernels: Kernels::Auto };
    match backend {
        Backend::Cuda => Box::new(CudaOps::new(batch, &pass, &layers.parameters, interpreter()).expect("layout")),
        other => other.ops(batch, &pass, &layers.parameters).expect("layout"),
    }
}

/// Rows as lengths of context and pieces.
fn rows() -> impl Strategy<Value = Vec<(usize, Vec<usize>)>> {
    prop::collection::vec((1_usize..20, prop::collection::vec(1_usize..5, 0..5)), 1..5)
}

/// Batch of such rows, each an example with one group per piece. In every second row the pieces are spans: each has a start of its own,
/// and for attention they are one piece, so that a token sees the spans before its own.
fn batch(rows: &[(usize, Vec<usize>)]) -> Arc<Batch> {
    let mut batch = Batch::default();
    let word = |i: usize| (i * 7 % WORDS as usize) as TokenId;
    for (ordinal, (context, pieces)) in rows.iter().enumerate() {
        batch.push_context(&(0..*context).map(word).collect::<Vec<_>>());
        let start_of_piece = batch.push_scored(1, 2, 1, *context);
        let mut index = context + 1;
        let are_spans = ordinal % 2 == 1;
        for (piece, length) in pieces.iter().enumerate() {
            let (start, group, mut previous) = (index, batch.targets.groups + piece, start_of_piece);
            let start = if are_spans { *context } else { start };
            if are_spans && piece > 0 {
                previous = batch.push_scored(1, 3, 1, start);
                index += 1;
            }
            for i in 0..*length {
                // Of every other piece, only the last token is scored.
                if piece % 2 == 1 && i + 1 < *length {
                    batch.push_unscored(word(index + i), 2, 2 + i as i64, start);
                    continue;
                }
                batch.push_target(previous, word(index + i), group);
                previous = batch.push_scored(word(index + i), 2, 2 + i as i64, start);
            }
            batch.push_target(previous, 3, group);
            index += length;
        }
        batch.end_row(ordinal as u64, 0);
        batch.end_example(ordinal, ordinal, pieces.len());
    }
    Arc::new(batch)
}

/// Parameters of one of each layer, with random values that are the same for every call.
struct Layers {
    parameters: Parameters,
    tables: [Tensor; 3],
    query_key_value: Linear,
    square: Linear,
    norm: LayerNorm,
}

impl Layers {
    fn new(kind: Kind) -> Self {
        let mut parameters = Parameters::new(kind, Device::Cpu);
        let mut table = |name: &str, rows: i64| parameters.add(name.into(), &[rows, HIDDEN], Init::Normal(1.0)).expect("table");
        let tables = [table("word", WORDS), table("position", POSITIONS), table("block", POSITIONS)];
        let hidden = HIDDEN as usize;
        let query_key_value = Linear::new(&mut parameters, "qkv", hidden, 3 * hidden, 0.5).expect("linear");
        let square = Linear::new(&mut parameters, "square", hidden, hidden, 0.5).expect("linear");
        let norm = LayerNorm::new(&mut parameters, "norm", hidden, 1e-5).expect("norm");
        parameters.flatten().expect("flatten");
        tch::manual_seed(3);
        parameters.draw().expect("draw");
        // Biases and LayerNorm start constant, which would hide errors.
        let drawn = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu)) * 0.5 + 1.0;
        no_grad(|| parameters.iter().filter(|p| !p.decay).for_each(|p| p.tensor.shallow_clone().copy_(&drawn(p.shape()))));
        parameters.alloc_grads().expect("gradients");
        Self { parameters, tables, query_key_value, square, norm }
    }
}

/// Random input, the same numbers for every implementation.
fn random(shape: &[i64], layers: &Layers) -> Tensor {
    let numbers = Tensor::randn(shape, (Kind::Float, Device::Cpu));
    numbers.to_kind(layers.parameters.kind()).set_requires_grad(true)
}

/// Runs an operation with each implementation and compares its results, and the gradients of inputs and parameters.
fn compare(rows: &[(usize, Vec<usize>)], operation: impl Fn(&dyn Ops, &Layers, &DeviceBatch) -> (Vec<Tensor>, Vec<Tensor>)) {
    let run = |backend: Backend| {
        let layers = Layers::new(precision(backend).0);
        let device_batch = batch(rows).to_device(Device::Cpu, backend.layout()).expect("batch");
        let ops = ops_of(backend, &device_batch, None, &layers);
        tch::manual_seed(5);
        let (inputs, outputs) = operation(&*ops, &layers, &device_batch);
        tch::manual_seed(7);
        let random_sum = |output: &Tensor| {
            let weights = Tensor::randn(output.size(), (Kind::Float, Device::Cpu));
            (output * weights.to_kind(output.kind())).sum(output.kind())
        };
        outputs.iter().map(random_sum).reduce(|a, b| a + b).expect("an output").backward();
        // In-place operations have overwritten inputs of products by now, but no outputs.
        let results = outputs.iter().map(Tensor::detach);
        let gradients = inputs.iter().map(Tensor::grad).chain([layers.parameters.gradients().copy()]);
        results.chain(gradients).map(|tensor| tensor.to_kind(Kind::Double).contiguous()).collect::<Vec<_>>()
    };
    let expected = run(Backend::Torch);
    for backend in OTHERS {
        for (i, (found, expected)) in run(backend).iter().zip(&expected).enumerate() {
            let scale = expected.norm().double_value(&[]).max(1.0);
            let difference = (found - expected).norm().double_value(&[]);
            let tolerance = precision(backend).1;
            assert!(difference <= tolerance * scale, "{backend:?}, tensor {i}: off by {difference}, norm {scale}");
        }
    }
}

fn tokens(batch: &DeviceBatch, queries: Queries) -> i64 {
    match queries {
        Queries::All => batch.host.tokens() as i64,
        Queries::Scored => batch.host.targets.scored.len() as i64,
    }
}

/// Input of an operation: the given numbers, and zeros for tokens of padding.
fn padded(x: &Tensor, batch: &DeviceBatch, queries: Queries) -> Tensor {
    let rows = match queries {
        Queries::All => batch.ids.size()[0],
        Queries::Scored => batch.scored.size()[0],
    };
    Tensor::cat(&[x, &Tensor::zeros([rows - x.size()[0], HIDDEN], (x.kind(), x.device()))], 0)
}

/// Output of an operation without tokens of padding.
fn unpadded(x: &Tensor, batch: &DeviceBatch, queries: Queries) -> Tensor {
    x.narrow(0, 0, tokens(batch, queries))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn embeddings_are_equal(rows in rows()) {
        compare(&rows, |ops, layers, batch| {
            let tables = [&layers.tables[0], &layers.tables[1], &layers.tables[2]];
            let output = ops.embed(tables, Site::NONE).expect("embed");
            (Vec::new(), vec![unpadded(&output, batch, Queries::All)])
        });
    }

    #[test]
    fn linear_and_gelu_are_equal(rows in rows()) {
        compare(&rows, |ops, layers, batch| {
            let x = random(&[tokens(batch, Queries::All), HIDDEN], layers);
            let linear = &layers.query_key_value;
            let inner = padded(&x, batch, Queries::All);
            let inner = ops.linear(&inner, linear.weight(), Some(linear.bias())).expect("linear");
            let output = ops.bias_gelu(inner).expect("gelu");
            (vec![x], vec![unpadded(&output, batch, Queries::All)])
        });
    }

    #[test]
    fn layer_norm_and_residual_sum_are_equal(rows in rows(), scored: bool) {
        let queries = if scored { Queries::Scored } else { Queries::All };
        compare(&rows, |ops, layers, batch| {
            let shape = [tokens(batch, queries), HIDDEN];
            let (residual, x) = (random(&shape, layers), random(&shape, layers));
            let (weight, bias) = (layers.square.weight(), layers.square.bias());
            let stream = padded(&residual, batch, queries);
            let branch = ops.linear(&padded(&x, batch, queries), weight, Some(bias)).expect("linear");
            let (sum, normed) = ops.add_norm(&stream, branch, &layers.norm, queries, Site::NONE).expect("add_norm");
            let first = ops.norm(&stream, &layers.norm).expect("norm");
            (vec![residual, x], [sum, normed, first].iter().map(|output| unpadded(output, batch, queries)).collect())
        });
    }

    #[test]
    fn attention_is_equal(rows in rows(), scored: bool) {
        let queries = if scored { Queries::Scored } else { Queries::All };
        compare(&rows, |ops, layers, batch| attend(ops, layers, batch, queries));
    }

    #[test]
    fn log_probabilities_of_targets_are_equal(rows in rows()) {
        prop_assume!(rows.iter().any(|(_, pieces)| !pieces.is_empty()));
        compare(&rows, |ops, layers, batch| {
            let x = random(&[tokens(batch, Queries::Scored), HIDDEN], layers);
            let input = padded(&x, batch, Queries::Scored);
            let logits = ops.linear(&input, &layers.tables[0], None).expect("logits").values;
            (vec![x], vec![ops.target_log_probs(logits).expect("log probabilities")])
        });
    }
}

/// Inputs and outputs of attention.
fn attend(ops: &dyn Ops, layers: &Layers, batch: &DeviceBatch, queries: Queries) -> (Vec<Tensor>, Vec<Tensor>) {
    let x = random(&[tokens(batch, Queries::All), HIDDEN], layers);
    let input = padded(&x, batch, Queries::All);
    let output = ops.attention(&input, &layers.query_key_value, HEADS, queries, Site::NONE).expect("attention");
    (vec![x], vec![unpadded(&output, batch, queries)])
}

/// Rows shorter than a block, of exactly one or two blocks, of the longest length, with pieces of one token; a row without pieces.
#[test]
fn attention_of_odd_rows_is_equal() {
    for rows in
        [vec![(1, vec![])], vec![(63, vec![]), (62, vec![1])], vec![(127, vec![1; 9]), (64, vec![])], vec![(500, vec![1; 11])]]
    {
        for queries in [Queries::All, Queries::Scored] {
            compare(&rows, |ops, layers, batch| attend(ops, layers, batch, queries));
        }
    }
}

#[test]
fn empty_batch_has_empty_results() {
    for backend in [Backend::Cpu, Backend::Cuda] {
        let layers = Layers::new(precision(backend).0);
        let device_batch = batch(&[]).to_device(Device::Cpu, backend.layout()).expect("batch");
        let ops = ops_of(backend, &device_batch, Some(1), &layers);
        let embedded = ops.embed([&layers.tables[0], &layers.tables[1], &layers.tables[2]], SITES[0]).expect("embed");
        let normed = ops.norm(&embedded, &layers.norm).expect("norm");
        let mixed = ops.attention(&normed, &layers.query_key_value, HEADS, Queries::All, SITES[0]).expect("attention");
        assert_eq!((embedded.size(), mixed.size()), (vec![0, HIDDEN], vec![0, HIDDEN]), "{backend:?}");
        mixed.sum(mixed.kind()).backward();
    }
}

/// Sites of dropout with different keys.
const SITES: [Site; 2] = [Site { key: 4, rate: 0.25 }, Site { key: u64::MAX - 2, rate: 0.25 }];

/// The share of dropped elements is the rate, and what stays is scaled, in every implementation.
#[test]
fn dropout_keeps_the_mean() {
    let rows = vec![(20, vec![2, 3]); 20];
    for backend in [Backend::Torch].into_iter().chain(OTHERS) {
        let layers = Layers::new(precision(backend).0);
        let device_batch = batch(&rows).to_device(Device::Cpu, backend.layout()).expect("batch");
        let ops = ops_of(backend, &device_batch, Some(9), &layers);
        let tables = [&layers.tables[0], &layers.tables[1], &layers.tables[2]];
        let (kept, dropped) = no_grad(|| {
            let exact = ops.embed(tables, Site::NONE).expect("embed");
            let dropped = ops.embed(tables, SITES[0]).expect("embed");
            (unpadded(&exact, &device_batch, Queries::All), unpadded(&dropped, &device_batch, Queries::All))
        });
        let share = dropped.eq(0.0).to_kind(Kind::Double).mean(Kind::Double).double_value(&[]);
        assert!((share - 0.25).abs() < 0.02, "{backend:?}: {share}");
        let scaled = &dropped - &kept / 0.75 * dropped.ne(0.0).to_kind(kept.kind());
        assert!(scaled.norm().double_value(&[]) < 30.0 * precision(backend).1, "{backend:?}");
    }
}

/// The CUDA kernels drop the elements that the CPU kernels drop, in the forward and in the backward pass.
#[test]
fn a_gpu_drops_what_a_cpu_drops() {
    let rows = [(70, vec![2, 3, 1]), (5, vec![]), (1, vec![4, 4])];
    for (site, queries) in SITES.into_iter().zip([Queries::All, Queries::Scored]) {
        let run = |backend: Backend| {
            let layers = Layers::new(precision(backend).0);
            let device_batch = batch(&rows).to_device(Device::Cpu, backend.layout()).expect("batch");
            let ops = ops_of(backend, &device_batch, Some(9), &layers);
            tch::manual_seed(5);
            let x = random(&[tokens(&device_batch, Queries::All), HIDDEN], &layers);
            let shape = [tokens(&device_batch, queries), HIDDEN];
            let (residual, branch) = (random(&shape, &layers), random(&shape, &layers));
            let (weight, bias) = (layers.square.weight(), layers.square.bias());
            let embedded = ops.embed([&layers.tables[0], &layers.tables[1], &layers.tables[2]], site).expect("embed");
            let input = padded(&x, &device_batch, Queries::All);
            let mixed = ops.attention(&input, &layers.query_key_value, HEADS, queries, site).expect("attention");
            let branch = ops.linear(&padded(&branch, &device_batch, queries), weight, Some(bias)).expect("linear");
            let stream = padded(&residual, &device_batch, queries);
            let (sum, normed) = ops.add_norm(&stream, branch, &layers.norm, queries, site).expect("add_norm");
            let of_queries = [mixed, sum, normed].map(|output| unpadded(&output, &device_batch, queries));
            let [mixed, sum, normed] = of_queries;
            let outputs = [unpadded(&embedded, &device_batch, Queries::All), mixed, sum, normed];
            let loss = outputs.iter().map(|output| output.square().sum(output.kind())).reduce(|a, b| a + b);
            loss.expect("outputs").backward();
            let gradients = [x.grad(), residual.grad(), layers.parameters.gradients().copy()];
            let tensors = outputs.into_iter().map(|output| output.detach()).chain(gradients);
            tensors.map(|tensor| tensor.to_kind(Kind::Double)).collect::<Vec<_>>()
        };
        for (i, (found, expected)) in run(Backend::Cuda).iter().zip(run(Backend::Cpu)).enumerate() {
            let difference = (found - &expected).norm().double_value(&[]) / expected.norm().double_value(&[]);
            assert!(difference < 1e-5, "{queries:?}, tensor {i}: {difference}");
        }
    }
}
