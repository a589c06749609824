//! Triton kernels for GPUs, each with a backward pass of its own: matrix products by cuBLAS, everything between them in as few
//! passes over memory as possible, on the packed batch without padding (see `kernels/cuda`).
//!
//! As with [`cpu`](super::cpu), the gradient of a parameter is added to the model's fp32 gradient buffer directly, biases are added by
//! the operation that follows a product, and dropout is a function of the batch's keys: a GPU drops the elements that a CPU
//! drops. Nothing is added up with atomics, so results repeat bit for bit.
//!
//! Activations are bf16 or fp16, parameters fp32; matrix products read a copy of the weights in the activations' kind
//! ([`Parameters::cast`]), which the optimizer keeps up to date.

pub mod adamw;
mod attention;
mod embedding;
mod gelu;
#[cfg(test)]
pub mod interpreter;
pub mod launch;
mod linear;
mod residual;
mod scores;

use glm_kernels::dropout::Site;
use tch::{Device, Kind, TchError, Tensor};

use self::launch::{Form, Launcher, Runner};
use super::fused::{contiguous, gradient_of, pending};
use super::{Ops, Projection, Queries};
use crate::batch::blocks::BlockTables;
use crate::batch::device::DeviceBatch;
use crate::batch::layout::Layout;
use crate::model::config::ModelConfig;
use crate::model::layers::{LayerNorm, Linear};
use crate::model::parameters::Parameters;
use crate::model::pass::Pass;

/// Widths of the blocks that hold a row, ascending.
const ROW_BLOCKS: [(i64, i64); 2] = [(1024, 4), (4096, 1)];
/// Programs of a backward pass over rows; each leaves a partial sum of the gradients of biases and LayerNorm parameters.
const PROGRAMS: i64 = 528;

/// The reason why there are no kernels for a model, or `None` if there are.
pub fn unsupported(device: Device, activations: Kind, parameters: Kind, config: &ModelConfig) -> Option<String> {
    if !matches!(activations, Kind::BFloat16 | Kind::Half) || parameters != Kind::Float {
        return Some(format!("they compute in bf16 and fp16, not in {activations:?}"));
    }
    match launch::runner(device) {
        Ok(runner) => unsupported_sizes(runner, activations, config),
        Err(reason) => Some(reason),
    }
}

/// As [`unsupported`], for a runner.
fn unsupported_sizes(runner: &'static dyn Runner, activations: Kind, config: &ModelConfig) -> Option<String> {
    let Some(launcher) = Launcher::new(runner, activations) else {
        return Some(format!("there are none for {activations:?}"));
    };
    let (hidden, head) = (config.hidden as i64, (config.hidden / config.heads) as u32);
    if !config.hidden.is_multiple_of(16) || !config.vocab_rows.is_multiple_of(16) {
        return Some(format!("hidden size {hidden} and vocabulary {} are not multiples of 16", config.vocab_rows));
    }
    if !launcher.has("attention_forward", Form { size: head, ..Form::default() }) {
        return Some(format!("there are none for heads of size {head}"));
    }
    row_block(hidden).is_err().then(|| format!("there are none for hidden size {hidden}"))
}

/// Operations on one batch.
#[derive(Debug)]
pub struct CudaOps<'a> {
    launcher: Launcher,
    parameters: &'a Parameters,
    batch: &'a DeviceBatch,
    tables: &'a BlockTables,
    kind: Kind,
}

impl<'a> CudaOps<'a> {
    /// Operations on one batch, which must have a layout of blocks, with kernels of `runner`.
    ///
    /// # Errors
    /// A [`TchError`] where the batch has another layout or there are no kernels for the pass's kind.
    pub fn new(
        batch: &'a DeviceBatch,
        pass: &Pass,
        parameters: &'a Parameters,
        runner: &'static dyn Runner,
    ) -> Result<Self, TchError> {
        let Layout::Blocks(tables) = &batch.layout else {
            return Err(TchError::Shape("the CUDA kernels need a batch with a layout of blocks".to_owned()));
        };
        let missing = || TchError::Kind(format!("there are no CUDA kernels for {:?}", pass.kind));
        let launcher = Launcher::new(runner, pass.kind).ok_or_else(missing)?;
        Ok(Self { launcher, parameters, batch, tables, kind: pass.kind })
    }

    /// Dropout keys of the queries.
    fn keys(&self, queries: Queries) -> &Tensor {
        match queries {
            Queries::All => &self.tables.all.key,
            Queries::Scored => &self.tables.scored.key,
        }
    }
}

impl Ops for CudaOps<'_> {
    fn scored(&self) -> &Tensor {
        &self.batch.scored
    }

    fn embed(&self, tables: [&Tensor; 3], dropout: Site) -> Result<Tensor, TchError> {
        embedding::embed(self.launcher, tables, self.batch, self.tables, dropout, self.kind)
    }

    fn linear<'a>(&self, x: &Tensor, weight: &Tensor, bias: Option<&'a Tensor>) -> Result<Projection<'a>, TchError> {
        let cast = self.parameters.cast(weight, self.kind)?;
        Ok(Projection { values: linear::linear(x, weight, cast, None, None)?, bias })
    }

    fn bias_gelu(&self, x: Projection<'_>) -> Result<Tensor, TchError> {
        gelu::bias_gelu(self.launcher, x.values, pending(x.bias)?)
    }

    fn norm(&self, x: &Tensor, norm: &LayerNorm) -> Result<Tensor, TchError> {
        residual::norm(self.launcher, x, norm)
    }

    fn add_norm(
        &self,
        residual: &Tensor,
        branch: Projection<'_>,
        norm: &LayerNorm,
        queries: Queries,
        dropout: Site,
    ) -> Result<(Tensor, Tensor), TchError> {
        let addend = residual::Addend {
            bias: pending(branch.bias)?,
            values: branch.values,
            keys: self.keys(queries).shallow_clone(),
            site: dropout,
        };
        residual::add_and_norm(self.launcher, residual, addend, norm)
    }

    fn attention(
        &self,
        x: &Tensor,
        query_key_value: &Linear,
        heads: i64,
        queries: Queries,
        dropout: Site,
    ) -> Result<Tensor, TchError> {
        let (weight, bias) = (query_key_value.weight(), query_key_value.bias());
        let (cast, cast_bias) = (self.parameters.cast(weight, self.kind)?, self.parameters.cast(bias, self.kind)?);
        let (all, hidden) = weight.size2()?;
        let project = |x: &Tensor, rows| linear::linear(x, weight, cast, Some(cast_bias), Some(rows));
        let (projected, tables) = match queries {
            Queries::All => (attention::Projected::Together(project(x, 0..all)?), &self.tables.all),
            Queries::Scored => {
                let query = project(&self.of_queries(x, queries)?, 0..hidden)?;
                (attention::Projected::Apart { query, key_value: project(x, hidden..all)? }, &self.tables.scored)
            }
        };
        attention::attention(self.launcher, &projected, bias, tables.share(), heads, dropout)
    }

    fn target_log_probs(&self, logits: Tensor) -> Result<Tensor, TchError> {
        scores::target_log_probs(self.launcher, logits, &self.batch.host.targets, &self.tables.targets)
    }
}

/// Size of the block that holds a row of this width, and the number of rows that a program of a forward pass computes.
fn row_block(width: i64) -> Result<(u32, i64), TchError> {
    let found = ROW_BLOCKS.into_iter().find(|(block, _)| width <= *block);
    found.map(|(block, rows)| (block as u32, rows)).ok_or_else(|| TchError::Shape(format!("no kernels for rows of {width}")))
}

/// Number of programs for `count` items, of which each computes `each`.
fn programs(count: i64, each: i64) -> usize {
    (count as usize).div_ceil(each as usize)
}

/// Rows that each program of a backward pass over `tokens` rows computes, and the number of programs.
fn split_rows(tokens: i64, most: i64) -> (i64, i64) {
    let rows = (programs(tokens, most) as i64).max(1);
    (rows, programs(tokens, rows) as i64)
}

/// Number of a kernel's argument.
fn number(value: i64) -> Result<i32, TchError> {
    i32::try_from(value).map_err(|_| {
        TchError::Shape(format!(
            "{value} numbers are too many for the CUDA kernels: set data.micro_batch_tokens to a smaller number"
        ))
    })
}

/// Checks that the elements of a tensor can be counted in 32 bits, as the kernels do.
fn check_size(rows: i64, width: i64) -> Result<(), TchError> {
    number(rows.saturating_mul(width)).map(drop)
}

/// Arguments of a dropout site: key, limit, and factor of what stays.
fn dropout_arguments(site: Site) -> (i64, i32, f32) {
    (site.key.cast_signed(), site.limit().cast_signed(), site.keep_scale() as f32)
}

/// Gradients that partial sums are added to.
fn defined(gradients: &[&Tensor]) -> Result<(), TchError> {
    match gradients.iter().all(|gradient| gradient.defined()) {
        true => Ok(()),
        false => Err(TchError::Kind("there is no room for gradients: Glm::alloc_grads makes it".to_owned())),
    }
}
