//! Forward and backward passes of the fused operations compared with libtorch's operators, with the sizes of GLM-base: 2,048
//! tokens, width 768, and attention over 8 rows of 256 tokens with 12 heads.
//!
//! Run with `cargo bench --workspace --bench operations`.

use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use glm_kernels::dropout::Site;
use glm_trainer::batch::packed::{Batch, RowSpan};
use glm_trainer::model::layers::LayerNorm;
use glm_trainer::model::ops::cpu::attention::{Projected, attention};
use glm_trainer::model::ops::cpu::gelu::bias_gelu;
use glm_trainer::model::ops::cpu::residual::{Addend, add_and_norm};
use glm_trainer::model::parameters::{Init, Parameters};
use tch::{Device, Kind, Tensor};

const TOKENS: i64 = 2048;
const HIDDEN: i64 = 768;
const HEADS: i64 = 12;
const ROWS: i64 = 8;
const CONTEXT: usize = 230;
const DROPOUT: f64 = 0.1;

fn random(shape: &[i64]) -> Tensor {
    Tensor::randn(shape, (Kind::Float, Device::Cpu)).set_requires_grad(true)
}

/// A batch of identical rows: a context, the start of piece, and pieces of two tokens.
fn batch() -> Arc<Batch> {
    let length = (TOKENS / ROWS) as usize;
    let mut batch = Batch::default();
    for row in 0..ROWS as usize {
        batch.inputs.rows.push(RowSpan { start: row * length, length, context: CONTEXT });
        batch.inputs.piece_start.extend((0..length).map(|i| match i.checked_sub(CONTEXT) {
            None => -1,
            Some(0) => CONTEXT as i32,
            Some(behind) => (CONTEXT + 1 + (behind - 1) / 2 * 2) as i32,
        }));
    }
    batch.inputs.ids = vec![0; TOKENS as usize];
    batch.inputs.token_key = (0..TOKENS as u64).collect();
    Arc::new(batch)
}

/// The attention mask of [`batch`] as an additive bias for libtorch: `[rows, 1, length, length]`, 0 or minus infinity.
fn mask(batch: &Batch) -> Tensor {
    let length = (TOKENS / ROWS) as usize;
    let mut visible = vec![f32::NEG_INFINITY; length * length];
    for (query, from) in batch.inputs.piece_start[..length].iter().enumerate() {
        let row = &mut visible[query * length..][..length];
        row[..CONTEXT].fill(0.0);
        if let Ok(from) = usize::try_from(*from) {
            row[CONTEXT] = 0.0;
            row[from..=query.max(from)].fill(0.0);
        }
    }
    let length = length as i64;
    Tensor::from_slice(&visible).view([1, 1, length, length]).expand([ROWS, 1, length, length], false)
}

fn both(c: &mut Criterion, name: &str, fused: impl Fn() -> Tensor, plain: impl Fn() -> Tensor) {
    let mut group = c.benchmark_group(name);
    group.sample_size(20).throughput(Throughput::Elements(TOKENS as u64));
    group.bench_function("fused", |b| b.iter(|| fused().sum(Kind::Float).backward()));
    group.bench_function("libtorch", |b| b.iter(|| plain().sum(Kind::Float).backward()));
    group.finish();
}

fn operations(c: &mut Criterion) {
    let mut parameters = Parameters::new(Kind::Float, Device::Cpu);
    let norm = LayerNorm::new(&mut parameters, "norm", HIDDEN as usize, 1e-5).expect("norm");
    let bias = parameters.add("bias".into(), &[HIDDEN], Init::Normal(0.1)).expect("bias");
    let wide_bias = parameters.add("wide".into(), &[4 * HIDDEN], Init::Normal(0.1)).expect("bias");
    let projection_bias = parameters.add("projection".into(), &[3 * HIDDEN], Init::Normal(0.1)).expect("bias");
    parameters.flatten().expect("flatten");
    parameters.draw().expect("draw");
    parameters.alloc_grads().expect("gradients");
    let site = Site { key: 1, rate: DROPOUT };

    // The backward pass of the fused operation overwrites its input, so both run on a copy.
    let wide = random(&[TOKENS, 4 * HIDDEN]);
    both(c, "bias and GELU", || bias_gelu(&wide * 1.0, &wide_bias).expect("gelu"), || (&wide * 1.0 + &wide_bias).gelu("tanh"));

    let (residual, branch) = (random(&[TOKENS, HIDDEN]), random(&[TOKENS, HIDDEN]));
    let keys: Arc<[u64]> = (0..TOKENS as u64).collect();
    let fused = || {
        let addend = Addend { values: branch.shallow_clone(), bias: &bias, keys: Arc::clone(&keys), site };
        let (sum, out) = add_and_norm(&residual, addend, &norm).expect("norm");
        sum + out
    };
    let plain = || {
        let sum = &residual + (&branch + &bias).dropout(DROPOUT, true);
        sum.layer_norm([HIDDEN], Some(norm.weight()), Some(norm.bias()), 1e-5, true) + sum
    };
    both(c, "bias, dropout, residual, LayerNorm", fused, plain);

    let (batch, projected) = (batch(), random(&[TOKENS, 3 * HIDDEN]));
    let mask = mask(&batch);
    let fused = || {
        let projected = Projected::Together(projected.shallow_clone());
        attention(&projected, &projection_bias, &batch, HEADS, site).expect("attention")
    };
    let plain = || {
        let size = HIDDEN / HEADS;
        let split = (&projected + &projection_bias).view([ROWS, TOKENS / ROWS, 3, HEADS, size]).permute([2, 0, 3, 1, 4]);
        let (q, k, v) = (split.select(0, 0), split.select(0, 1), split.select(0, 2));
        Tensor::scaled_dot_product_attention(&q, &k, &v, Some(&mask), DROPOUT, false, None, false)
            .transpose(1, 2)
            .reshape([TOKENS, HIDDEN])
    };
    both(c, "attention", fused, plain);
}

criterion_group!(benches, operations);
criterion_main!(benches);
