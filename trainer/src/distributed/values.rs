//! Values in the store, for which a rank waits until another one sets them.

use std::time::{Duration, Instant};

use libtorch_ext::distributed::Store;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::context::RankContext;
use super::diagnosis::published_failure;
use super::error::DistributedError;
use super::failure;

/// Time between two checks for a key or a failure in the store. [`Store::wait`] does not end when another rank fails.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Minimum time for a response of the store while polling.
const MIN_LIMIT: Duration = Duration::from_secs(1);

/// Sets the value of a key.
pub(super) fn put(context: &RankContext, store: &Store, key: &str, value: &impl Serialize) -> Result<(), DistributedError> {
    let json = serde_json::to_vec(value).map_err(|source| invalid_value(key, context.rank, source))?;
    store.set(key, &json).map_err(|error| context.store_error(error))
}

/// Waits for the value of a key that `rank` sets, see [`wait_for`].
pub(super) fn take<T: DeserializeOwned>(
    context: &RankContext,
    store: &Store,
    key: &str,
    rank: usize,
    start: Instant,
    timed_out: impl FnOnce() -> DistributedError,
) -> Result<T, DistributedError> {
    wait_for(context, store, key, start, timed_out)?;
    let bytes = store.get(key).map_err(|error| context.store_error(error))?;
    serde_json::from_slice(&bytes).map_err(|source| invalid_value(key, rank, source))
}

fn invalid_value(key: &str, rank: usize, source: serde_json::Error) -> DistributedError {
    DistributedError::InvalidValue { rank, key: key.to_owned(), source }
}

/// Error of ranks that have not come within the timeout.
pub(super) fn missing(context: &RankContext, missing: Vec<usize>) -> DistributedError {
    let RankContext { world_size, ref address, timeout, .. } = *context;
    DistributedError::Missing { missing, world_size, address: address.clone(), seconds: timeout.as_secs() }
}

/// Waits for a key. Fails if another rank fails meanwhile, or with the error of `timed_out` if the timeout since `start`
/// expires.
pub(super) fn wait_for(
    context: &RankContext,
    store: &Store,
    key: &str,
    start: Instant,
    timed_out: impl FnOnce() -> DistributedError,
) -> Result<(), DistributedError> {
    let found = poll(context, store, key, start, timed_out);
    store.set_timeout(context.timeout);
    found
}

/// Polls on behalf of [`wait_for`]. It changes the timeout of the store's calls.
fn poll(
    context: &RankContext,
    store: &Store,
    key: &str,
    start: Instant,
    timed_out: impl FnOnce() -> DistributedError,
) -> Result<(), DistributedError> {
    // So that a store which stops to respond does not double the timeout.
    let limit_calls = || store.set_timeout(context.timeout.saturating_sub(start.elapsed()).max(MIN_LIMIT));
    limit_calls();
    while !store.check(&[key]).map_err(|error| context.store_error(error))? {
        if failure::any(store, context.attempt).map_err(|error| context.failure_error(error))?
            && let Some(error) = published_failure(context, store)?
        {
            return Err(error);
        }
        if start.elapsed() >= context.timeout {
            return Err(timed_out());
        }
        std::thread::sleep(POLL_INTERVAL);
        limit_calls();
    }
    Ok(())
}
