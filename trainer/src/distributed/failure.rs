//! What a rank that failed, or its launcher, leaves in the store for the others to read.

use std::fmt;

use libtorch_ext::distributed::Store;
use serde::{Deserialize, Serialize};
use tch::TchError;

/// Why a rank ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The rank.
    pub rank: usize,
    /// Its machine.
    pub host: String,
    /// Its process.
    pub pid: u32,
    /// Why.
    pub reason: String,
    /// The rank that was the reason, where it was another.
    pub because_of: Option<usize>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rank {} (host {}, pid {}): {}", self.rank, self.host, self.pid, self.reason)
    }
}

/// Where the record of a rank is.
#[must_use]
pub fn key(attempt: u32, rank: usize) -> String {
    format!("glm/{attempt}/failed/{rank}")
}

/// Where the number of records is.
fn counter(attempt: u32) -> String {
    format!("glm/{attempt}/failed")
}

/// Leaves a record, unless the rank has one.
///
/// # Errors
/// A [`TchError`] where the store is gone.
pub fn publish(store: &Store, attempt: u32, failure: &Failure) -> Result<(), TchError> {
    let key = key(attempt, failure.rank);
    // Whoever counts first writes.
    if store.add(&format!("{key}/claims"), 1)? > 1 {
        return Ok(());
    }
    let json = serde_json::to_vec(failure).map_err(|error| TchError::Torch(error.to_string()))?;
    store.set(&key, &json)?;
    store.add(&counter(attempt), 1).map(drop)
}

/// Whether any rank has one.
///
/// # Errors
/// A [`TchError`] where the store is gone.
pub fn any(store: &Store, attempt: u32) -> Result<bool, TchError> {
    store.check(&[&counter(attempt)])
}

/// All records, in the order of ranks.
///
/// # Errors
/// A [`TchError`] where the store is gone.
pub fn all(store: &Store, attempt: u32, world_size: usize) -> Result<Vec<Failure>, TchError> {
    let mut failures = Vec::new();
    if !any(store, attempt)? {
        return Ok(failures);
    }
    for rank in 0..world_size {
        let key = key(attempt, rank);
        if store.check(&[&key])?
            && let Ok(failure) = serde_json::from_slice(&store.get(&key)?)
        {
            failures.push(failure);
        }
    }
    Ok(failures)
}
