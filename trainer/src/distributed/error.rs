//! Errors of distributed training.

use libtorch_ext::distributed::{StoreError, Unavailable};
use tch::TchError;
use thiserror::Error;

use super::environment::EnvironmentError;
use super::failure::FailureError;

/// Command that creates a secret.
pub(super) const SECRET_COMMAND: &str = "export GLM_STORE_SECRET=$(head -c 32 /dev/urandom | base64)";

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
    /// The process that serves the store does not respond.
    #[error(
        "{server}, which serves the store at {address}, has not responded for {seconds:.1} s: its process is stopped, or its \
         machine cannot be reached"
    )]
    StoreSilent {
        /// Process that serves the store.
        server: &'static str,
        /// Address of the store.
        address: String,
        /// Time without a response, in seconds.
        seconds: f64,
    },
    /// This process has another secret than the one that serves the store.
    #[error(
        "{server}, which serves the store at {address}, has another secret than this process; set GLM_STORE_SECRET to the same \
         value for all ranks"
    )]
    WrongSecret {
        /// Process that serves the store.
        server: &'static str,
        /// Address of the store.
        address: String,
    },
    /// A store that other machines can connect to has no secret.
    #[error(
        "GLM_STORE_SECRET is not set, but other machines can connect to the store of this run at {address}; set it to the same \
         value for all ranks before they are started: {SECRET_COMMAND}"
    )]
    NoSecret {
        /// Address of the store.
        address: String,
    },
    /// Another error of the store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A failure in the store cannot be read.
    #[error(transparent)]
    Failure(FailureError),
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

impl DistributedError {
    /// Converts an error of the store that `server` serves.
    pub(super) fn of_store(error: StoreError, server: &'static str) -> Self {
        match error {
            StoreError::Lost { address, reason } => {
                tracing::debug!("store: {reason}");
                Self::StoreLost { server, address }
            }
            StoreError::Silent { address, timeout } => Self::StoreSilent { server, address, seconds: timeout.as_secs_f64() },
            StoreError::WrongSecret { address } => Self::WrongSecret { server, address },
            error => Self::Store(error),
        }
    }
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
