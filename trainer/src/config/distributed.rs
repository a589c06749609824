//! Settings of distributed training.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// `[distributed]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "reference.toml documents every key")]
pub struct DistributedSettings {
    pub timeout: f64,
    pub bucket_mib: f64,
    pub reduce_dtype: ReduceKind,
    // Runs of earlier versions do not have it.
    #[serde(default)]
    pub shard: ShardKind,
}

/// State that ranks divide among themselves instead of holding it whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ShardKind {
    /// Nothing.
    #[default]
    None,
    /// The state of the optimizer, with master weights if passes compute with copies: ZeRO stage 1.
    Optimizer,
    /// Gradients as well: ZeRO stage 2.
    Gradients,
    /// The weights of blocks as well: ZeRO stage 3.
    Weights,
}

impl fmt::Display for ShardKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Optimizer => "optimizer",
            Self::Gradients => "gradients",
            Self::Weights => "weights",
        })
    }
}

/// Number format in which gradients are sent to other ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReduceKind {
    /// Single precision, as they are.
    Fp32,
    /// bfloat16, in half the bytes.
    Bf16,
}

impl DistributedSettings {
    /// Maximum time to wait for another rank.
    pub fn timeout(&self) -> Duration {
        Duration::try_from_secs_f64(self.timeout).unwrap_or(Duration::MAX)
    }

    /// Approximate size of a gradient bucket in bytes.
    pub fn bucket_bytes(&self) -> usize {
        (self.bucket_mib * f64::from(1 << 20)) as usize
    }
}
