//! Why a rank failed, written into the store for the others: whoever loses a peer can say which one went first, and why.
//!
//! A rank [`publish`]es its own reason before it ends. For one that cannot, because it was killed, the launcher does. The
//! keys belong to one attempt, so that what ended the last one does not end the next.

use std::fmt;

use libtorch_ext::distributed::Store;
use serde::{Deserialize, Serialize};
use tch::TchError;
use thiserror::Error;

/// Why a rank failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Which one.
    pub rank: usize,
    /// Name of its machine.
    pub host: String,
    /// Its process there.
    pub pid: u32,
    /// What went wrong, in a sentence without a full stop.
    pub reason: String,
    /// The rank whose failure led to this one; `None` where this one came by itself.
    pub because_of: Option<usize>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rank, host, pid, reason, .. } = self;
        write!(f, "rank {rank} (host {host}, pid {pid}): {reason}")
    }
}

/// Why a failure could not be written or read.
#[derive(Debug, Error)]
pub enum FailureError {
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] TchError),
    /// What is at a key is no failure; another program, or another version of this one, wrote it.
    #[error("{key:?} in the store holds no failure; do all ranks run the same version of this program?")]
    Malformed {
        /// The key.
        key: String,
        /// What its value lacks.
        source: serde_json::Error,
    },
}

/// What is at a [`key`].
#[derive(Serialize, Deserialize)]
struct Record {
    /// 1 for the first failure of the attempt.
    order: i64,
    #[serde(flatten)]
    failure: Failure,
}

/// Where the failure of `rank` is.
pub fn key(attempt: u32, rank: usize) -> String {
    format!("failure/{attempt}/rank/{rank}")
}

/// A key that has a value as soon as any failure of the attempt is to be read; [`Store::wait`] may wait for it.
pub fn any_key(attempt: u32) -> String {
    format!("failure/{attempt}/any")
}

/// Whether any rank has failed: one question to the store.
///
/// # Errors
/// A [`FailureError`] where the store is gone.
pub fn any(store: &Store, attempt: u32) -> Result<bool, FailureError> {
    Ok(store.check(&[&any_key(attempt)])?)
}

/// Writes a failure, unless its rank has one already. For one rank it is called by one thread at a time; the launcher does it
/// only for a rank that has ended.
///
/// # Errors
/// A [`FailureError`] where the store is gone.
pub fn publish(store: &Store, attempt: u32, failure: &Failure) -> Result<(), FailureError> {
    let key = key(attempt, failure.rank);
    if store.check(&[&key])? {
        return Ok(());
    }
    let order = store.add(&format!("failure/{attempt}/order"), 1)?;
    let record = Record { order, failure: failure.clone() };
    let value = serde_json::to_vec(&record).map_err(|source| FailureError::Malformed { key: key.clone(), source })?;
    store.set(&key, &value)?;
    // Comes last: whoever sees it finds the failure.
    store.set(&any_key(attempt), b"1")?;
    Ok(())
}

/// All failures of the attempt so far, in the order in which they were written.
///
/// # Errors
/// A [`FailureError`] where the store is gone or holds something else.
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

/// The failure that the others follow from: the first that came by itself.
pub fn first_cause(failures: &[Failure]) -> Option<&Failure> {
    failures.iter().find(|failure| failure.because_of.is_none()).or(failures.first())
}

/// Name of this machine.
pub fn host_name() -> String {
    // POSIX' longest, and a zero.
    let mut name = [0_u8; 256];
    // SAFETY: `name` has as many bytes as said, and nobody else has them.
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

    fn failure(rank: usize, reason: &str, because_of: Option<usize>) -> Failure {
        Failure { rank, host: "box".into(), pid: 4711, reason: reason.into(), because_of }
    }

    #[test]
    fn a_failure_is_a_sentence() {
        assert_eq!(failure(2, "cannot read x", None).to_string(), "rank 2 (host box, pid 4711): cannot read x");
    }

    #[test]
    fn failures_come_in_the_order_in_which_they_were_written() {
        let store = store();
        let other = store.try_clone().expect("a connection");
        assert!(!any(&store, 0).expect("any") && all(&store, 0, 4).expect("all").is_empty());
        let (second, first) = (failure(2, "no data", None), failure(3, "lost rank 2", Some(2)));
        publish(&store, 0, &first).expect("publish");
        publish(&other, 0, &second).expect("publish");
        other.wait(&[&any_key(0)], Duration::from_secs(60)).expect("a failure");
        assert!(any(&other, 0).expect("any"));
        assert_eq!(all(&other, 0, 4).expect("all"), [first, second.clone()]);
        assert_eq!(first_cause(&all(&other, 0, 4).expect("all")), Some(&second));
    }

    #[test]
    fn the_first_reason_of_a_rank_stands() {
        let store = store();
        publish(&store, 0, &failure(1, "its own reason", None)).expect("publish");
        publish(&store, 0, &failure(1, "exit code 1", None)).expect("publish");
        assert_eq!(all(&store, 0, 2).expect("all"), [failure(1, "its own reason", None)]);
    }

    #[test]
    fn attempts_know_nothing_of_each_other() {
        let store = store();
        publish(&store, 0, &failure(0, "x", None)).expect("publish");
        assert!(!any(&store, 1).expect("any") && all(&store, 1, 1).expect("all").is_empty());
    }

    #[test]
    fn a_consequence_is_a_cause_only_where_there_is_no_other() {
        assert_eq!(first_cause(&[]), None);
        let alone = [failure(1, "lost rank 0", Some(0))];
        assert_eq!(first_cause(&alone), Some(&alone[0]));
    }

    #[test]
    fn a_value_that_is_no_failure_is_an_error_that_names_the_key() {
        let store = store();
        store.set(&key(0, 1), b"{}").expect("set");
        let error = all(&store, 0, 2).expect_err("no failure").to_string();
        assert!(error.contains("failure/0/rank/1"), "{error}");
    }

    #[test]
    fn this_machine_has_a_name() {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname");
        if let Ok(name) = name {
            assert_eq!(host_name(), name.trim());
        }
    }
}
