//! Training by several processes: who they are ([`environment`]), how they find each other and work together ([`world`]), what
//! they have to agree on ([`agree`]), and how a rank that is gone or stuck is found and named ([`watch`], [`failure`]).
//!
//! All of it stands on [`libtorch_ext::distributed`], c10d's store, process groups and reducer. Who wants to read how a
//! step is shared begins with [`crate::data::balance`] and [`crate::train::step`].

pub mod agree;
pub mod environment;
pub mod failure;
pub mod launcher;
pub mod watch;
pub mod world;

use libtorch_ext::distributed::Unavailable;
use tch::TchError;
use thiserror::Error;

pub use environment::{Environment, EnvironmentError};
pub use world::World;

/// Why processes cannot train together, or no longer.
#[derive(Debug, Error)]
pub enum DistributedError {
    /// The environment.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// This build is for one process.
    #[error("{0}")]
    Unavailable(Unavailable),
    /// Some ranks were never seen.
    #[error(
        "{} of {world_size} did not come to {address} within {seconds} s: are they started, and can they reach that address? \
         (distributed.timeout)",
        ranks(missing)
    )]
    Missing {
        /// Who.
        missing: Vec<usize>,
        /// How many were to come.
        world_size: usize,
        /// Where.
        address: String,
        /// How long they had.
        seconds: u64,
    },
    /// Another rank is the reason.
    #[error("rank {rank} (host {host}, pid {pid}) {reason}")]
    Peer {
        /// Who.
        rank: usize,
        /// On which machine.
        host: String,
        /// As which process.
        pid: u32,
        /// What is known.
        reason: String,
    },
    /// Nobody answers where the store was.
    #[error("{server}, which serves the store at {address}, is gone or cannot be reached any more")]
    StoreLost {
        /// Who served it.
        server: &'static str,
        /// Where.
        address: String,
    },
    /// Another rank has found out whose fault it is.
    #[error("{reason}")]
    Told {
        /// Who is to blame.
        rank: usize,
        /// What the other one said.
        reason: String,
    },
    /// Not all run the same.
    #[error("the ranks do not run the same, so none starts: {}", differences.join("; "))]
    Disagree {
        /// What differs, and where.
        differences: Vec<String>,
    },
    /// Weights that have to be equal are not.
    #[error(
        "the weights of {} are no longer those of rank 0 at step {step}: the last checkpoint is still good; a run that drifts \
         apart again points to a faulty machine",
        ranks(others)
    )]
    Drift {
        /// Whose.
        others: Vec<usize>,
        /// When it was seen.
        step: u64,
    },
    /// A message that this build does not understand.
    #[error("rank {rank} sent {what} that cannot be read: {source}")]
    Message {
        /// Who.
        rank: usize,
        /// What.
        what: String,
        /// Why.
        source: serde_json::Error,
    },
    /// c10d.
    #[error(transparent)]
    Torch(#[from] TchError),
}

/// "rank 2", "ranks 2 and 5", "ranks 0, 1, 2 and 4 more".
pub(crate) fn ranks(ranks: &[usize]) -> String {
    let names: Vec<String> = ranks.iter().take(MOST_NAMED).map(ToString::to_string).collect();
    let more = ranks.len().saturating_sub(MOST_NAMED);
    match (&names[..], more) {
        ([], _) => "no rank".to_owned(),
        ([one], 0) => format!("rank {one}"),
        ([all @ .., last], 0) => format!("ranks {} and {last}", all.join(", ")),
        (all, more) => format!("ranks {} and {more} more", all.join(", ")),
    }
}

/// More numbers than that nobody reads.
const MOST_NAMED: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_ranks_read_well() {
        assert_eq!(ranks(&[2]), "rank 2");
        assert_eq!(ranks(&[2, 5]), "ranks 2 and 5");
        assert_eq!(ranks(&[0, 1, 7]), "ranks 0, 1 and 7");
        let many: Vec<usize> = (0..18).collect();
        assert!(ranks(&many).ends_with("14, 15 and 2 more"));
    }
}
