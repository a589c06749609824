//! Errors of distributed training.

use libtorch_ext::distributed::Unavailable;
use tch::TchError;
use thiserror::Error;

use super::environment::EnvironmentError;

/// Error of distributed training.
#[derive(Debug, Error)]
pub enum DistributedError {
    /// The environment variables are invalid.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// This build supports a single process only.
    #[error("{0}")]
    Unavailable(Unavailable),
    /// Some ranks did not join.
    #[error(
        "{} of {world_size} did not join at {address} within {seconds} s (distributed.timeout); check that they are running and \
         can connect to this address",
        list_ranks(missing)
    )]
    Missing {
        /// Missing ranks.
        missing: Vec<usize>,
        /// Expected number of ranks.
        world_size: usize,
        /// Address of the store.
        address: String,
        /// Timeout in seconds.
        seconds: u64,
    },
    /// Another rank has failed or does not respond.
    #[error("rank {rank} (host {host}, pid {pid}) {reason}")]
    PeerFailed {
        /// Failed rank.
        rank: usize,
        /// Name of its host.
        host: String,
        /// Id of its process.
        pid: u32,
        /// Description of the failure.
        reason: String,
    },
    /// Another rank has reported the failure of a third one.
    #[error("{reason}")]
    FailureReported {
        /// Failed rank.
        rank: usize,
        /// Message of the rank that reported it.
        reason: String,
    },
    /// The store cannot be reached any more.
    #[error("lost the connection to {server}, which serves the store at {address}")]
    StoreLost {
        /// Process that served the store.
        server: &'static str,
        /// Address of the store.
        address: String,
    },
    /// Ranks run different programs, settings or data sets.
    #[error("configuration differs between ranks: {}", differences.join("; "))]
    Mismatch {
        /// Differences, one sentence each.
        differences: Vec<String>,
    },
    /// Weights are not equal on all ranks.
    #[error(
        "the weights of {} differ from those of rank 0 at step {step}; resume from the latest checkpoint, which is not affected. \
         If this happens again, the hardware may be faulty",
        list_ranks(ranks)
    )]
    WeightsDiverged {
        /// Ranks whose weights differ from those of rank 0.
        ranks: Vec<usize>,
        /// Step at which it was detected.
        step: u64,
    },
    /// A value in the store cannot be parsed or serialized.
    #[error("invalid value of {key:?} from rank {rank}: {source}")]
    InvalidValue {
        /// Rank that set the value.
        rank: usize,
        /// Key in the store.
        key: String,
        /// Cause.
        source: serde_json::Error,
    },
    /// Error of libtorch.
    #[error(transparent)]
    Torch(#[from] TchError),
}

/// Formats a list of ranks: "rank 2", "ranks 2 and 5", "ranks 0, 1, 2 and 4 more".
pub(super) fn list_ranks(ranks: &[usize]) -> String {
    /// Maximum number of ranks that are listed.
    const MAX_LISTED: usize = 16;
    let names: Vec<String> = ranks.iter().take(MAX_LISTED).map(ToString::to_string).collect();
    let more = ranks.len().saturating_sub(MAX_LISTED);
    match (&names[..], more) {
        ([], _) => "no rank".to_owned(),
        ([one], 0) => format!("rank {one}"),
        ([all @ .., last], 0) => format!("ranks {} and {last}", all.join(", ")),
        (all, more) => format!("ranks {} and {more} more", all.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_listed() {
        assert_eq!(list_ranks(&[2]), "rank 2");
        assert_eq!(list_ranks(&[2, 5]), "ranks 2 and 5");
        assert_eq!(list_ranks(&[0, 1, 7]), "ranks 0, 1 and 7");
        let many: Vec<usize> = (0..18).collect();
        assert!(list_ranks(&many).ends_with("14, 15 and 2 more"));
    }
}
