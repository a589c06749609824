//! Failures of ranks, published in the store so that other ranks can report the cause of their own errors.
//!
//! A rank calls [`publish`] before it exits with an error. The launcher does so for a rank that was killed. Keys contain the
//! number of the attempt, so that a failure does not affect the next attempt.

use std::fmt;

use libtorch_ext::distributed::{Store, StoreError};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Failure of a rank.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Failed rank.
    pub rank: usize,
    /// Name of its host.
    pub host: String,
    /// Id of its process.
    pub pid: u32,
    /// Error message.
    pub reason: String,
    /// Rank that caused this failure, if it is another one.
    pub caused_by: Option<usize>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rank, host, pid, reason, .. } = self;
        write!(f, "rank {rank} (host {host}, pid {pid}): {reason}")
    }
}

/// Error of reading or writing failures.
#[derive(Debug, Error)]
pub enum FailureError {
    /// The store cannot be reached.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The value of a key is not a failure. It was written by another program or another version.
    #[error("the value of {key:?} in the store is not a failure; check that all ranks run the same version of this program")]
    Malformed {
        /// Key in the store.
        key: String,
        /// Cause.
        source: serde_json::Error,
    },
}

/// Value of a [`key`].
#[derive(Serialize, Deserialize)]
struct Record {
    /// Number of this failure in its attempt, from 1.
    order: i64,
    #[serde(flatten)]
    failure: Failure,
}

fn key(attempt: u32, rank: usize) -> String {
    format!("failure/{attempt}/rank/{rank}")
}

/// Returns a key that is set when the first failure of an attempt is published. [`Store::wait`] can wait for it.
pub fn any_key(attempt: u32) -> String {
    format!("failure/{attempt}/any")
}

/// Returns true if any rank has failed, with a single request to the store.
///
/// # Errors
/// A [`FailureError`] if the store cannot be reached.
pub fn any(store: &Store, attempt: u32) -> Result<bool, FailureError> {
    Ok(store.check(&[&any_key(attempt)])?)
}

/// Publishes a failure, unless its rank has already published one. It must not be called concurrently for the same rank; the
/// launcher calls it only after the rank has exited.
///
/// # Errors
/// A [`FailureError`] if the store cannot be reached.
pub fn publish(store: &Store, attempt: u32, failure: &Failure) -> Result<(), FailureError> {
    let key = key(attempt, failure.rank);
    if store.check(&[&key])? {
        return Ok(());
    }
    let order = store.add(&format!("failure/{attempt}/order"), 1)?;
    let record = Record { order, failure: failure.clone() };
    let value = serde_json::to_vec(&record).map_err(|source| FailureError::Malformed { key: key.clone(), source })?;
    store.set(&key, &value)?;
    // Set last, so that the failure can be read once this key is set.
    store.set(&any_key(attempt), b"1")?;
    Ok(())
}

/// Returns all failures of an attempt, in the order of publication.
///
/// # Errors
/// A [`FailureError`] if the store cannot be reached, or if a value is not a failure.
pub fn all(store: &Store, attempt: u32, world_size: usize) -> Result<Vec<Failure>, FailureError> {
    let mut records = Vec::new();
    for key in (0..world_size).map(|rank| key(attempt, rank)) {
        if store.check(&[&key])? {
            let record: Record =
                serde_json::from_slice(&store.get(&key)?).map_err(|source| FailureError::Malformed { key, source })?;
            records.push(record);
        }
    }
    records.sort_by_key(|record| record.order);
    Ok(records.into_iter().map(|record| record.failure).collect())
}

/// Returns the failure that caused the others: the first one that was not caused by another rank.
pub fn root_cause(failures: &[Failure]) -> Option<&Failure> {
    failures.iter().find(|failure| failure.caused_by.is_none()).or(failures.first())
}

/// Returns the name of this machine.
pub fn host_name() -> String {
    // POSIX's maximum length, and the terminating NUL.
    let mut name = [0_u8; 256];
    // SAFETY: the pointer and length describe `name`, which is borrowed exclusively.
    let done = unsafe { libc::gethostname(name.as_mut_ptr().cast(), name.len()) };
    let length = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
    match done {
        0 if length > 0 => String::from_utf8_lossy(&name[..length]).into_owned(),
        _ => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libtorch_ext::distributed::StoreOptions;
    use std::time::Duration;

    fn store() -> Store {
        let options = StoreOptions { port: 0, timeout: Duration::from_secs(60), ..StoreOptions::default() };
        Store::serve(&options).expect("a store")
    }

    fn failure(rank: usize, reason: &str, caused_by: Option<usize>) -> Failure {
        Failure { rank, host: "box".into(), pid: 4711, reason: reason.into(), caused_by }
    }

    #[test]
    fn failures_are_displayed_with_rank_host_and_pid() {
        assert_eq!(failure(2, "cannot read x", None).to_string(), "rank 2 (host box, pid 4711): cannot read x");
    }

    #[test]
    fn failures_are_in_the_order_of_publication() {
        let store = store();
        let other = store.try_clone().expect("a connection");
        assert!(!any(&store, 0).expect("any") && all(&store, 0, 4).expect("all").is_empty());
        let (second, first) = (failure(2, "no data", None), failure(3, "lost rank 2", Some(2)));
        publish(&store, 0, &first).expect("publish");
        publish(&other, 0, &second).expect("publish");
        other.wait(&[&any_key(0)], Duration::from_secs(60)).expect("a failure");
        assert!(any(&other, 0).expect("any"));
        assert_eq!(all(&other, 0, 4).expect("all"), [first, second.clone()]);
        assert_eq!(root_cause(&all(&other, 0, 4).expect("all")), Some(&second));
    }

    #[test]
    fn the_first_failure_of_a_rank_is_kept() {
        let store = store();
        publish(&store, 0, &failure(1, "its own reason", None)).expect("publish");
        publish(&store, 0, &failure(1, "exit code 1", None)).expect("publish");
        assert_eq!(all(&store, 0, 2).expect("all"), [failure(1, "its own reason", None)]);
    }

    #[test]
    fn attempts_are_independent() {
        let store = store();
        publish(&store, 0, &failure(0, "x", None)).expect("publish");
        assert!(!any(&store, 1).expect("any") && all(&store, 1, 1).expect("all").is_empty());
    }

    #[test]
    fn a_caused_failure_is_the_root_cause_only_if_there_is_no_other() {
        assert_eq!(root_cause(&[]), None);
        let alone = [failure(1, "lost rank 0", Some(0))];
        assert_eq!(root_cause(&alone), Some(&alone[0]));
    }

    #[test]
    fn errors_of_invalid_values_name_the_key() {
        let store = store();
        store.set(&key(0, 1), b"{}").expect("set");
        let error = all(&store, 0, 2).expect_err("an invalid value").to_string();
        assert!(error.contains("failure/0/rank/1"), "{error}");
    }

    #[test]
    fn the_host_name_is_that_of_the_system() {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname");
        if let Ok(name) = name {
            assert_eq!(host_name(), name.trim());
        }
    }
}
