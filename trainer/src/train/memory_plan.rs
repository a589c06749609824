//! Memory that a training run takes on each rank, computed before it starts.

use serde::Serialize;
use tch::Kind;

use crate::batch::layout::LayoutKind;
use crate::config::{Checkpointing, Config, MICRO_BATCH_TOKENS, ReduceKind, ShardKind};
use crate::model::ModelConfig;
use crate::model::memory::{BytesPerToken, Workload, bytes_per_token};

/// Bytes of the master weights, a gradient and each average.
const MASTER: u64 = 4;
/// The program, libtorch and its threads on a CPU, without data: the resident memory of a run of the smallest model.
const PROGRAM_ON_CPU: u64 = 200_000_000;
/// Packed operands and generated code of oneDNN for products in half precision on a CPU: the excess that was measured on an AMD EPYC (0.13 GB)
/// and on an Intel Xeon with AMX (0.21 GB).
const HALF_PRODUCTS_ON_CPU: u64 = 160_000_000;
/// The CUDA context, kernels, and workspaces of cuBLAS and NCCL, by estimate.
const LIBRARIES_ON_GPU: u64 = 1_500_000_000;

/// A run of which memory is planned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Subject<'a> {
    /// Sizes of the model.
    pub model: &'a ModelConfig,
    /// Kind of the activations.
    pub kind: Kind,
    /// Layout of the implementation of the operations.
    pub layout: LayoutKind,
    /// True if the ranks compute on GPUs.
    pub on_gpu: bool,
    /// Number of ranks.
    pub ranks: usize,
    /// Share of the tokens of a batch that are scored.
    pub scored: f64,
}

/// Choices that a plan is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Choices {
    /// State that ranks divide among themselves.
    pub shard: ShardKind,
    /// Blocks keep only their input for the backward pass.
    pub checkpoint_activations: bool,
    /// Largest number of tokens of a batch.
    pub micro_batch_tokens: usize,
}

/// Bytes on one rank, by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MemoryPlan {
    /// Number of parameters of the model.
    pub parameters: u64,
    /// Weights in 32 bits, and their copy in half precision where there is one.
    pub weights: u64,
    /// Gradients.
    pub gradients: u64,
    /// Both averages of the optimizer.
    pub optimizer: u64,
    /// Values of blocks for the largest batch, for its backward pass.
    pub activations: u64,
    /// Logits of the largest batch.
    pub logits: u64,
    /// Copies of gradients and weights that are sent.
    pub communication: u64,
    /// Copy of weights and averages while a checkpoint is written; on a GPU it is in the memory of the host.
    pub checkpoint: u64,
    /// By how much the start of a run or an evaluation exceeds a step: where ranks divide weights, these are whole there.
    pub outside: u64,
    /// Program and libraries.
    pub program: u64,
    /// Sum of all.
    pub total: u64,
}

impl MemoryPlan {
    /// Plans the memory of the rank that needs the most, which is rank 0.
    pub fn new(subject: &Subject<'_>, choices: &Choices, config: &Config) -> Self {
        let &Subject { model, kind, layout, on_gpu, ranks, scored } = subject;
        let parameters = model.parameters() as u64;
        let ranks = ranks as u64;
        let share = |whole: u64, from: ShardKind| if choices.shard >= from { whole.div_ceil(ranks) } else { whole };
        let half = if kind == Kind::Float { 0 } else { kind.elt_size_in_bytes() as u64 };
        // A CPU casts the weights in each pass, unless ranks divide them.
        let divides = choices.shard != ShardKind::None && ranks > 1;
        let copied = if layout == LayoutKind::Blocks || (layout == LayoutKind::Packed && divides) { half } else { 0 };
        let divides_masters = divides && copied > 0;
        // The matrices of blocks, those of one block, and tables and vectors.
        let blocks = 12 * (model.layers * model.hidden * model.hidden) as u64;
        let of_block = blocks / (model.layers as u64).max(1);
        let rest = parameters.saturating_sub(blocks);
        // What a forward or backward pass computes with: one block, while the next one is gathered.
        let computed = if copied > 0 { copied } else { MASTER };
        let own = parameters.div_ceil(ranks);
        let weights = match choices.shard {
            ShardKind::Weights => MASTER * own + (MASTER + copied) * rest + computed * 2 * of_block,
            _ if divides_masters => MASTER * (own + rest) + copied * parameters,
            _ => (MASTER + copied) * parameters,
        };
        // Of the matrices of blocks, one is computed while another one is sent; tables and vectors are whole.
        let gradients = match choices.shard {
            ShardKind::None | ShardKind::Optimizer => MASTER * parameters,
            ShardKind::Gradients | ShardKind::Weights => MASTER * (own + rest + 2 * of_block),
        };
        let optimizer = share(2 * MASTER * parameters, ShardKind::Optimizer);
        let work = Workload { kind, layout, trains: true, scored, recomputes: choices.checkpoint_activations };
        let BytesPerToken { activations, logits } = bytes_per_token(model, &work);
        let tokens = choices.micro_batch_tokens as f64;
        // On a CPU, the backward pass keeps copies of the weights of blocks in half precision, unless it computes them again. The largest
        // matrix has a copy, a gradient in half precision and, within the product, one in 32 bits.
        let table = (model.vocab_rows * model.hidden) as u64;
        let kept = match (half > 0 && !on_gpu && layout != LayoutKind::Blocks, copied > 0) {
            (true, false) => {
                let of_blocks = if choices.checkpoint_activations { 2 * of_block } else { blocks };
                half * of_blocks + (2 * half + MASTER) * table
            }
            (true, true) => (half + MASTER) * table,
            (false, _) => 0,
        };
        let mut plan = Self {
            parameters,
            weights,
            gradients,
            optimizer,
            activations: (tokens * activations) as u64 + kept,
            logits: (tokens * logits) as u64,
            communication: communication(subject, choices, config, divides_masters, [of_block.max(1), rest]),
            checkpoint: if on_gpu { 0 } else { MASTER * parameters + optimizer },
            outside: 0,
            program: match (on_gpu, half) {
                (true, _) => LIBRARIES_ON_GPU,
                (false, 0) => PROGRAM_ON_CPU,
                (false, _) => PROGRAM_ON_CPU + HALF_PRODUCTS_ON_CPU,
            },
            total: 0,
        };
        if choices.shard == ShardKind::Weights || divides_masters {
            let steps = weights + gradients + plan.activations + plan.logits + plan.communication + plan.checkpoint + optimizer;
            let forward = bytes_per_token(model, &Workload { trains: false, recomputes: false, ..work });
            let gathers = choices.shard == ShardKind::Weights;
            let evaluation = MASTER * (2 * own + 2 * rest)
                + copied * rest
                + optimizer
                + plan.checkpoint
                + computed * blocks
                + (tokens * (forward.activations + forward.logits)) as u64;
            // On a CPU, rank 0 has read all weights, and the blocks that an evaluation frees stay with the allocator.
            let copies = copied * if gathers { rest } else { parameters };
            let start = if on_gpu { 0 } else { MASTER * (parameters + own + rest) + copies };
            plan.outside = match gathers {
                true => evaluation.max(start).saturating_sub(steps).max(if on_gpu { 0 } else { computed * blocks }),
                false => start.saturating_sub(steps),
            };
        }
        plan.total = plan.kinds().iter().map(|(_, bytes)| bytes).sum();
        plan
    }

    /// Names and bytes of all kinds.
    pub fn kinds(&self) -> [(&'static str, u64); 9] {
        [
            ("weights", self.weights),
            ("gradients", self.gradients),
            ("optimizer state", self.optimizer),
            ("activations", self.activations),
            ("logits", self.logits),
            ("communication", self.communication),
            ("checkpoint copy", self.checkpoint),
            ("outside of steps", self.outside),
            ("program", self.program),
        ]
    }
}

/// Bytes of gradients and weights on their way to other ranks, of which one slice is sent while the next one is computed.
fn communication(
    subject: &Subject<'_>,
    choices: &Choices,
    config: &Config,
    divides_masters: bool,
    [of_block, rest]: [u64; 2],
) -> u64 {
    if subject.ranks == 1 {
        return 0;
    }
    let bf16 = config.distributed.reduce_dtype == ReduceKind::Bf16;
    let parameters = subject.model.parameters() as u64;
    // Where blocks are sent, tables are the largest slice.
    let sends_blocks = divides_masters || choices.shard >= ShardKind::Gradients;
    let slices = if sends_blocks { MASTER * rest.max(2 * of_block) } else { 2 * config.distributed.bucket_bytes() as u64 };
    match choices.shard {
        ShardKind::None | ShardKind::Optimizer if bf16 => slices + 2 * parameters,
        _ if bf16 || !sends_blocks => slices,
        // Gloo sums a copy; NCCL has a buffer for the part that a rank receives.
        _ if subject.on_gpu => slices / subject.ranks as u64,
        _ => slices,
    }
}

/// Tokens of a batch that are enough for the speed of a GPU: with fewer, activation checkpointing is the better use of memory.
const ENOUGH_TOKENS: usize = 8192;
/// Share of the memory beside everything else that batches may take on a GPU: rows of one batch may be longer than others.
const PLANNED: f64 = 0.8;
/// Number of which the tokens of a batch on a GPU are a multiple, and their largest number.
const TOKENS: (usize, usize) = (1024, 1 << 17);

/// About the largest number of tokens of a step, if a sample has a context and as many tokens of pieces.
fn tokens_of_a_step(config: &Config) -> usize {
    config.samples_per_update().saturating_mul(config.data.max_seq_len).saturating_mul(2)
}

/// Resolves what is automatic in the settings of a run with `available` bytes per rank.
pub fn automatic(subject: &Subject<'_>, config: &Config, available: u64) -> Choices {
    let shard = if subject.ranks > 1 { config.distributed.shard } else { ShardKind::None };
    let with = |checkpoint_activations: bool| {
        let none = Choices { shard, checkpoint_activations, micro_batch_tokens: 0 };
        let micro_batch_tokens = match config.data.micro_batch_tokens {
            0 if subject.on_gpu => {
                let left = available.saturating_sub(MemoryPlan::new(subject, &none, config).total) as f64 * PLANNED;
                let one = MemoryPlan::new(subject, &Choices { micro_batch_tokens: TOKENS.0, ..none }, config);
                let tokens = left / ((one.activations + one.logits) as f64 / TOKENS.0 as f64);
                (tokens as usize / TOKENS.0 * TOKENS.0).clamp(TOKENS.0, TOKENS.1)
            }
            0 => MICRO_BATCH_TOKENS,
            tokens => tokens,
        };
        Choices { micro_batch_tokens: micro_batch_tokens.min(tokens_of_a_step(config)), ..none }
    };
    let plain = with(false);
    let fits = |choices: &Choices| MemoryPlan::new(subject, choices, config).total <= available;
    match config.train.checkpoint_activations {
        Checkpointing::Never => plain,
        Checkpointing::Always => with(true),
        Checkpointing::Auto => {
            let is_small = subject.on_gpu && config.data.micro_batch_tokens == 0 && plain.micro_batch_tokens < ENOUGH_TOKENS;
            if is_small || (!fits(&plain) && fits(&with(true))) { with(true) } else { plain }
        }
    }
}

/// Returns the first choices with which a run fits into `available` bytes per rank, in the order in which they cost speed: activation
/// checkpointing if it is automatic, sharding, then smaller batches. `None` if nothing makes it fit.
pub fn choices_that_fit(
    subject: &Subject<'_>,
    wanted: &Choices,
    config: &Config,
    available: u64,
) -> Option<(Choices, MemoryPlan)> {
    let shards = [ShardKind::None, ShardKind::Optimizer, ShardKind::Gradients, ShardKind::Weights];
    let shards = shards.into_iter().filter(|&shard| shard == wanted.shard || (shard > wanted.shard && subject.ranks > 1));
    let least = config.data.max_seq_len.next_multiple_of(256);
    let smaller = std::iter::successors(Some(wanted.micro_batch_tokens), |tokens| Some(tokens / 2));
    for micro_batch_tokens in smaller.take_while(|&tokens| tokens == wanted.micro_batch_tokens || tokens >= least) {
        for shard in shards.clone() {
            for checkpoint_activations in [wanted.checkpoint_activations, true] {
                let choices = Choices { shard, checkpoint_activations, micro_batch_tokens };
                let plan = MemoryPlan::new(subject, &choices, config);
                if plan.total <= available {
                    return Some((choices, plan));
                }
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Preset;

    const GB: u64 = 1_000_000_000;

    fn subject(model: &ModelConfig, ranks: usize) -> Subject<'_> {
        Subject { model, kind: Kind::BFloat16, layout: LayoutKind::Blocks, on_gpu: true, ranks, scored: 0.1 }
    }

    fn plain(tokens: usize) -> Choices {
        Choices { shard: ShardKind::None, checkpoint_activations: false, micro_batch_tokens: tokens }
    }

    #[test]
    fn the_state_is_divided_by_the_number_of_ranks() {
        let (model, config) = (Preset::LARGE.config(), Config::default());
        let parameters = model.parameters() as u64;
        let whole = MemoryPlan::new(&subject(&model, 8), &plain(8192), &config);
        assert_eq!(whole.weights + whole.gradients + whole.optimizer, (4 + 2 + 4 + 8) * parameters);
        let choices = Choices { shard: ShardKind::Optimizer, ..plain(8192) };
        let shared = MemoryPlan::new(&subject(&model, 8), &choices, &config);
        assert_eq!(shared.optimizer, parameters);
        // Each rank has master weights of tables and vectors, and of its eighth.
        let rest = parameters - 12 * (model.layers * model.hidden * model.hidden) as u64;
        assert_eq!(shared.weights, 4 * (parameters.div_ceil(8) + rest) + 2 * parameters);
        assert_eq!(shared.gradients, whole.gradients);
        // In 32 bits there is nothing but the master weights to compute with.
        let single = Subject { kind: Kind::Float, layout: LayoutKind::Padded, ..subject(&model, 8) };
        assert_eq!(MemoryPlan::new(&single, &choices, &config).weights, 4 * parameters);
        assert_eq!(whole.total, whole.kinds().iter().map(|(_, bytes)| bytes).sum::<u64>());
    }

    #[test]
    fn what_does_not_fit_fits_with_other_settings() {
        let (model, config) = (Preset::LARGE.config(), Config::default());
        let fits = |ranks, available| choices_that_fit(&subject(&model, ranks), &plain(16_384), &config, available * GB);
        let (unchanged, _) = fits(1, 80).expect("fits");
        assert_eq!(unchanged, plain(16_384));
        let (again, plan) = fits(8, 12).expect("fits");
        assert!(again.checkpoint_activations && plan.total <= 12 * GB, "{again:?} {plan:?}");
        let (sharded, _) = fits(8, 9).expect("fits");
        assert_eq!(sharded.shard, ShardKind::Optimizer);
        assert_eq!(fits(1, 4), None);
    }
}
