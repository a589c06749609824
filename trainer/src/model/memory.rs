//! Memory of the model's activations.

use tch::Kind;

use super::config::ModelConfig;
use crate::batch::layout::LayoutKind;

/// Share of the available memory to plan with. The estimate is not an upper bound, and rows of one batch may be longer than others.
const PLANNED: f64 = 0.8;
/// Plans are a multiple of this many tokens, so that a little more or less available memory gives the same plan.
const MULTIPLE: usize = 1024;
/// Largest plan: more tokens per batch are not faster.
const LARGEST: usize = 1 << 17;

/// Passes that a batch goes through.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Workload {
    /// Kind of the activations.
    pub kind: Kind,
    /// Layout of the implementation of the operations.
    pub layout: LayoutKind,
    /// True for training steps, false for forward passes alone.
    pub trains: bool,
    /// Share of tokens that are scored.
    pub scored: f64,
    /// Blocks keep only their input, see [`Glm::checkpoint_activations`](super::Glm::checkpoint_activations).
    pub recomputes: bool,
}

/// Bytes per token of a batch, at the peak of a training step or a forward pass.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BytesPerToken {
    /// Values of blocks.
    pub activations: f64,
    /// Logits and log probabilities, with their gradients.
    pub logits: f64,
}

/// Estimates the bytes per token of a batch.
///
/// The backward pass needs values of each block. Per token, in units of the hidden size: the input of both linear branches
/// after LayerNorm 1 + 1, query, key and value 3, the output of attention 1, the residual stream 1, and the feed-forward layer
/// before and after GELU 4 + 4. That is 15 with fused kernels on a GPU, which recompute everything else; on a CPU the residual stream is
/// kept after each branch, 16.
///
/// libtorch's operators ([`LayoutKind::Padded`]) also keep the input of both LayerNorms, dropout masks, and query, key, value
/// and output of attention in rows padded to equal width, by a quarter on average: together 22 to 23. Temporary values of the
/// backward pass and gaps between blocks of memory make it half as much again, 34.
///
/// A block that is computed again keeps the residual stream and its LayerNorm, 2; one block at a time has all its values, and their
/// gradients. Of the last block only the scored tokens have more than keys and values, unless it is padded.
///
/// On a GPU, the logits of a scored token exist in the kind of the activations and, as log probabilities, in 32 bits, and so do their
/// gradients. On a CPU, the gradients overwrite the logits. A forward pass alone keeps the values of one block at a time.
pub fn bytes_per_token(config: &ModelConfig, work: &Workload) -> BytesPerToken {
    let element = work.kind.elt_size_in_bytes() as f64;
    let units = match work.layout {
        LayoutKind::Padded => 34.0,
        LayoutKind::Packed => 16.0,
        LayoutKind::Blocks => 15.0,
    };
    let [layers, hidden, vocabulary] = [config.layers, config.hidden, config.vocab_rows].map(|size| size as f64);
    let kept = match (work.trains, work.recomputes) {
        (false, _) => units,
        (true, false) => layers * units,
        (true, true) => (layers - 1.0) * KEPT_UNITS + 2.0 * units,
    };
    let logits = match (work.layout, work.trains) {
        (LayoutKind::Packed, _) => element,
        (_, true) => 2.0 * (element + 4.0),
        (_, false) => element + 4.0,
    };
    BytesPerToken { activations: kept * hidden * element, logits: work.scored * vocabulary * logits }
}

/// Units of the hidden size that a block keeps per token if it is computed again.
const KEPT_UNITS: f64 = 2.0;

/// Returns the number of tokens per batch to plan for `available` bytes on a GPU, which already holds weights, gradients and
/// optimizer state. A batch holds at least one sample, whatever its size.
pub fn tokens_that_fit(config: &ModelConfig, work: &Workload, available: u64) -> usize {
    // Weights in the kind of the activations, beside those in 32 bits.
    let element = work.kind.elt_size_in_bytes();
    let cast = if element < 4 { (element * config.parameters()) as f64 } else { 0.0 };
    let planned = (PLANNED * available as f64 - cast).max(0.0);
    let BytesPerToken { activations, logits } = bytes_per_token(config, work);
    let tokens = (planned / (activations + logits)) as usize;
    (tokens / MULTIPLE * MULTIPLE).clamp(MULTIPLE, LARGEST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Preset;

    const GB: u64 = 1_000_000_000;

    fn work(kind: Kind, layout: LayoutKind, trains: bool) -> Workload {
        Workload { kind, layout, trains, scored: 0.1, recomputes: false }
    }

    fn bytes(config: &ModelConfig, work: &Workload) -> f64 {
        let BytesPerToken { activations, logits } = bytes_per_token(config, work);
        activations + logits
    }

    #[test]
    fn fused_kernels_need_thirty_bytes_per_hidden_unit_and_layer() {
        let config = Preset::LARGE.config();
        let fused = bytes(&config, &work(Kind::BFloat16, LayoutKind::Blocks, true));
        assert!((fused / (24.0 * 1024.0 * 30.0) - 1.0).abs() < 0.06, "{fused}");
        let torch = bytes(&config, &work(Kind::Float, LayoutKind::Padded, true));
        assert!((4.0..5.0).contains(&(torch / fused)), "{torch}");
        assert!(bytes(&config, &work(Kind::BFloat16, LayoutKind::Blocks, false)) < 0.1 * fused);
        let again = Workload { recomputes: true, ..work(Kind::BFloat16, LayoutKind::Blocks, true) };
        assert!(bytes_per_token(&config, &again).activations < 0.25 * fused);
    }

    #[test]
    fn plans_are_within_memory_and_even() {
        let config = Preset::LARGE.config();
        let plan = |layout, trains, available| tokens_that_fit(&config, &work(Kind::BFloat16, layout, trains), available);
        // 120 questions of 267 tokens in one batch fitted into 80 GB with libtorch's operators.
        let torch = plan(LayoutKind::Padded, true, 70 * GB);
        assert!((28_000..34_000).contains(&torch), "{torch}");
        assert!(plan(LayoutKind::Blocks, true, 70 * GB) > 2 * torch);
        assert_eq!(torch % MULTIPLE, 0);
        assert_eq!(plan(LayoutKind::Padded, true, 70 * GB + 1_000_000), torch);
        assert_eq!(plan(LayoutKind::Blocks, false, 70 * GB), LARGEST);
        assert_eq!(plan(LayoutKind::Blocks, true, 0), MULTIPLE);
    }
}
