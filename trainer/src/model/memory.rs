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

/// Estimates the bytes on a GPU per token of a batch, at the peak of a training step or, without `trains`, of a forward pass.
///
/// The backward pass needs values of each block. Per token, in units of the hidden size: the input of both linear branches
/// after LayerNorm 1 + 1, query, key and value 3, the output of attention 1, the residual stream 1, and the feed-forward layer
/// before and after GELU 4 + 4. That is 15 with fused kernels, which recompute everything else.
///
/// libtorch's operators ([`LayoutKind::Padded`]) also keep the input of both LayerNorms, dropout masks, and query, key, value
/// and output of attention in rows padded to equal width, by a quarter on average: together 22 to 23. Temporary values of the
/// backward pass and gaps between blocks of memory make it half as much again, 34.
///
/// The logits of a scored token exist in the kind of the activations and, as log probabilities, in 32 bits, and so do their gradients.
/// A forward pass alone keeps the values of one block at a time. `scored` is the share of tokens that are scored.
pub fn bytes_per_token(config: &ModelConfig, kind: Kind, layout: LayoutKind, trains: bool, scored: f64) -> f64 {
    let element = kind.elt_size_in_bytes() as f64;
    let units = if layout == LayoutKind::Padded { 34.0 } else { 15.0 };
    let [layers, hidden, vocabulary] = [config.layers, config.hidden, config.vocab_rows].map(|size| size as f64);
    let (blocks, gradients) = if trains { (layers, 2.0) } else { (1.0, 1.0) };
    blocks * units * hidden * element + scored * vocabulary * gradients * (element + 4.0)
}

/// Returns the number of tokens per batch to plan for `available` bytes on a GPU, which already holds weights, gradients and
/// optimizer state. A batch holds at least one sample, whatever its size. For the other arguments, see [`bytes_per_token`].
pub fn tokens_that_fit(
    config: &ModelConfig,
    kind: Kind,
    layout: LayoutKind,
    trains: bool,
    scored: f64,
    available: u64,
) -> usize {
    // Weights in the kind of the activations, beside those in 32 bits.
    let element = kind.elt_size_in_bytes();
    let cast = if element < 4 { (element * config.parameters()) as f64 } else { 0.0 };
    let planned = (PLANNED * available as f64 - cast).max(0.0);
    let tokens = (planned / bytes_per_token(config, kind, layout, trains, scored)) as usize;
    (tokens / MULTIPLE * MULTIPLE).clamp(MULTIPLE, LARGEST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Preset;

    const GB: u64 = 1_000_000_000;

    #[test]
    fn fused_kernels_need_thirty_bytes_per_hidden_unit_and_layer() {
        let config = Preset::LARGE.config();
        let fused = bytes_per_token(&config, Kind::BFloat16, LayoutKind::Packed, true, 0.1);
        assert!((fused / (24.0 * 1024.0 * 30.0) - 1.0).abs() < 0.06, "{fused}");
        let torch = bytes_per_token(&config, Kind::Float, LayoutKind::Padded, true, 0.1);
        assert!((4.0..5.0).contains(&(torch / fused)), "{torch}");
        assert!(bytes_per_token(&config, Kind::BFloat16, LayoutKind::Packed, false, 0.1) < 0.1 * fused);
    }

    #[test]
    fn plans_are_within_memory_and_even() {
        let config = Preset::LARGE.config();
        let plan = |layout, trains, available| tokens_that_fit(&config, Kind::BFloat16, layout, trains, 0.1, available);
        // 120 questions of 267 tokens in one batch fitted into 80 GB with libtorch's operators.
        let torch = plan(LayoutKind::Padded, true, 70 * GB);
        assert!((28_000..34_000).contains(&torch), "{torch}");
        assert!(plan(LayoutKind::Packed, true, 70 * GB) > 2 * torch);
        assert_eq!(torch % MULTIPLE, 0);
        assert_eq!(plan(LayoutKind::Padded, true, 70 * GB + 1_000_000), torch);
        assert_eq!(plan(LayoutKind::Packed, false, 70 * GB), LARGEST);
        assert_eq!(plan(LayoutKind::Packed, true, 0), MULTIPLE);
    }
}
