//! Floating point operations of the model.

use super::config::ModelConfig;
use crate::batch::work::FlopRates;

/// Operations of a forward pass per token, scored token and attention pair.
///
/// With width h, vocabulary V, n tokens of which s are scored, and p pairs of query and visible key of which q have a
/// scored query: a block takes `24 h² n` for its linear layers (query, key, value 6, dense 2, feed-forward 16) and `4 h p` for
/// attention. The last block needs keys and values of all tokens, the rest for scored ones: `4 h² n + 20 h² s + 4 h q`. The
/// vocabulary takes `2 h V s`. Embeddings, LayerNorm, GELU and softmax are not counted, as is usual.
pub fn flop_rates(config: &ModelConfig) -> FlopRates {
    let [h, blocks, vocabulary] = [config.hidden, config.layers, config.vocab_rows].map(|size| size as f64);
    let others = blocks - 1.0;
    FlopRates {
        token: others * 24.0 * h * h + 4.0 * h * h,
        scored: 20.0 * h * h + 2.0 * h * vocabulary,
        pair: others * 4.0 * h,
        scored_pair: 4.0 * h,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::work::Work;
    use crate::model::Preset;

    #[test]
    fn question_of_real_length_costs_what_the_documentation_says() {
        // 247 tokens of context and 27 of pieces.
        let work = Work { tokens: 274, scored: 27, pairs: 274 * 251, scored_pairs: 27 * 251, ..Work::default() };
        let flops = flop_rates(&Preset::LARGE.config()).training(&work);
        assert!((flops / 5.1e11 - 1.0).abs() < 0.05, "{flops:e}");
    }
}
