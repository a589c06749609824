//! Settings of a forward pass.

use glm_kernels::dropout::{Site, mix};
use serde::{Deserialize, Serialize};
use tch::Kind;

/// Setting that selects the implementation of operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Kernels {
    /// Fused kernels where there are any for the device and kind, else libtorch's operators.
    #[default]
    Auto,
    /// libtorch's operators everywhere.
    Torch,
}

/// Settings of a forward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pass {
    /// Kind of the activations.
    pub kind: Kind,
    /// Seed of dropout; `None` in evaluation.
    pub dropout: Option<u64>,
    /// Implementation of the operations.
    pub kernels: Kernels,
}

/// Place in the model where dropout is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Embeddings,
    AttentionProbabilities(usize),
    AttentionOutput(usize),
    FeedForward(usize),
}

impl Pass {
    /// Returns a pass without dropout.
    pub fn evaluation(kind: Kind, kernels: Kernels) -> Self {
        Self { kind, dropout: None, kernels }
    }

    /// Dropout at one place of the model.
    pub(crate) fn site(&self, place: Place, rate: f64) -> Site {
        let Some(seed) = self.dropout else { return Site::NONE };
        let place = match place {
            Place::Embeddings => 0,
            Place::AttentionProbabilities(layer) => 1 + 3 * layer,
            Place::AttentionOutput(layer) => 2 + 3 * layer,
            Place::FeedForward(layer) => 3 + 3 * layer,
        };
        Site { key: mix(mix(seed) ^ place as u64), rate }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_has_a_key_of_its_own() {
        let pass = Pass { kind: Kind::Float, dropout: Some(5), kernels: Kernels::Auto };
        let places = (0..24)
            .flat_map(|layer| [Place::AttentionProbabilities(layer), Place::AttentionOutput(layer), Place::FeedForward(layer)]);
        let keys: std::collections::BTreeSet<u64> =
            places.chain([Place::Embeddings]).map(|place| pass.site(place, 0.1).key).collect();
        assert_eq!(keys.len(), 73);
        assert_eq!(Pass { dropout: None, ..pass }.site(Place::Embeddings, 0.1), Site::NONE);
    }
}
