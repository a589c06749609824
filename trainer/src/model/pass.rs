//! How a forward pass computes: in which kind, with what dropped, by which operations.

use glm_kernels::dropout::{Site, mix};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind};

use super::ops::cpu as fused;

/// Which operations compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Kernels {
    /// The fused ones where they serve, else libtorch's.
    #[default]
    Auto,
    /// libtorch's own, everywhere.
    Plain,
}

/// A forward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pass {
    /// The kind of activations.
    pub kind: Kind,
    /// Draws what is dropped; `None`: nothing is.
    pub dropout: Option<u64>,
    /// Which operations compute.
    pub kernels: Kernels,
}

/// A place in the model where something is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Embeddings,
    AttentionProbabilities(usize),
    AttentionOutput(usize),
    FeedForward(usize),
}

impl Pass {
    /// A pass without dropout.
    pub fn evaluation(kind: Kind, kernels: Kernels) -> Self {
        Self { kind, dropout: None, kernels }
    }

    /// Whether the fused operations compute on this device, with parameters of kind `master`.
    pub fn is_fused(&self, device: Device, master: Kind) -> bool {
        self.kernels == Kernels::Auto && fused::serves(device, self.kind, master)
    }

    /// Whether this is training.
    pub fn trains(&self) -> bool {
        self.dropout.is_some()
    }

    /// What is dropped at a place of the model.
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

    #[test]
    fn fused_operations_are_for_cpus() {
        let pass = Pass::evaluation(Kind::Float, Kernels::Auto);
        assert!(pass.is_fused(Device::Cpu, Kind::Float));
        assert!(!pass.is_fused(Device::Cuda(0), Kind::Float));
        assert!(!Pass { kind: Kind::Half, ..pass }.is_fused(Device::Cpu, Kind::Float));
        assert!(!Pass { kernels: Kernels::Plain, ..pass }.is_fused(Device::Cpu, Kind::Float));
    }
}
