//! Keys and values of a store's server.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::protocol::{Reply, Request};

/// Maximum memory of all keys and values, in bytes. A run of 1,000 ranks needs a small part of it.
const MAX_BYTES: usize = 256 << 20;

/// Memory counted for an entry in addition to its key and value, so that empty ones are limited too.
const ENTRY_BYTES: usize = 128;

/// Keys and values.
#[derive(Debug)]
pub(super) struct Table {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    values: HashMap<Vec<u8>, Vec<u8>>,
    bytes: usize,
    max_bytes: usize,
    closed: bool,
}

impl Table {
    pub(super) fn new() -> Self {
        Self::with_limit(MAX_BYTES)
    }

    fn with_limit(max_bytes: usize) -> Self {
        let state = State { values: HashMap::new(), bytes: 0, max_bytes, closed: false };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Ends all waits, also future ones.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Replies to a request, after waiting for its keys if it asks for that.
    pub(super) fn reply(&self, request: &Request<'_>) -> Reply {
        match request {
            Request::Set { key, value } => self.change(|state| state.insert(key, value.to_vec()).map(|()| Reply::Done)),
            Request::Get { key, wait } => match self.wait(&[key], *wait) {
                Some(state) => state.values.get(*key).map_or(Reply::NotSet, |value| Reply::Value(value.clone())),
                None => Reply::NotSet,
            },
            Request::Add { key, amount } => self.change(|state| {
                let before = state.values.get(*key).map_or(Some(0), |value| integer(value));
                let sum = before.ok_or("the value is not an integer")?.checked_add(*amount).ok_or("the sum is too large")?;
                state.insert(key, sum.to_string().into_bytes())?;
                Ok(Reply::Number(sum))
            }),
            Request::Check { keys } => Reply::Number(self.lock().has(keys).into()),
            Request::Wait { keys, wait } => self.wait(keys, *wait).map_or(Reply::NotSet, |_| Reply::Done),
            Request::CompareSet { key, expected, desired } => self.change(|state| {
                let replaced = match state.values.get(*key) {
                    Some(value) if value != expected => return Ok(Reply::Value(value.clone())),
                    None if !expected.is_empty() => return Ok(Reply::Value(expected.to_vec())),
                    _ => desired.to_vec(),
                };
                state.insert(key, replaced.clone())?;
                Ok(Reply::Value(replaced))
            }),
            Request::Delete { key } => Reply::Number(self.lock().remove(key).into()),
            Request::Count => Reply::Number(self.lock().values.len() as i64),
        }
    }

    /// Locks the state, also after a panic: its fields are changed together without a call that can panic between.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State) -> Result<Reply, &'static str>) -> Reply {
        let reply = change(&mut self.lock());
        self.changed.notify_all();
        reply.unwrap_or_else(|reason| Reply::Rejected(reason.to_owned()))
    }

    /// Waits for keys. Returns `None` if one is missing after `limit`.
    fn wait(&self, keys: &[&[u8]], limit: Duration) -> Option<MutexGuard<'_, State>> {
        let start = Instant::now();
        let mut state = self.lock();
        while !state.has(keys) {
            let remaining = limit.saturating_sub(start.elapsed());
            if state.closed || remaining.is_zero() {
                return None;
            }
            (state, _) = self.changed.wait_timeout(state, remaining).unwrap_or_else(PoisonError::into_inner);
        }
        Some(state)
    }
}

impl State {
    fn has(&self, keys: &[&[u8]]) -> bool {
        keys.iter().all(|key| self.values.contains_key(*key))
    }

    fn insert(&mut self, key: &[u8], value: Vec<u8>) -> Result<(), &'static str> {
        let before = self.values.get(key).map_or(0, |before| size(key, before));
        let bytes = self.bytes - before + size(key, &value);
        if bytes > self.max_bytes {
            return Err("the store is full");
        }
        self.bytes = bytes;
        self.values.insert(key.to_vec(), value);
        Ok(())
    }

    fn remove(&mut self, key: &[u8]) -> bool {
        let removed = self.values.remove(key);
        self.bytes -= removed.as_ref().map_or(0, |value| size(key, value));
        removed.is_some()
    }
}

fn size(key: &[u8], value: &[u8]) -> usize {
    ENTRY_BYTES + key.len() + value.len()
}

fn integer(value: &[u8]) -> Option<i64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set<'a>(key: &'a [u8], value: &'a [u8]) -> Request<'a> {
        Request::Set { key, value }
    }

    fn value(bytes: &[u8]) -> Reply {
        Reply::Value(bytes.to_vec())
    }

    #[test]
    fn values_are_compared_and_replaced_as_by_c10d() {
        let table = Table::new();
        let replace = |expected, desired| table.reply(&Request::CompareSet { key: b"k", expected, desired });
        assert_eq!(replace(b"x", b"y"), value(b"x"));
        assert_eq!(replace(b"", b"first"), value(b"first"));
        assert_eq!(replace(b"", b"second"), value(b"first"));
        assert_eq!(replace(b"first", b"second"), value(b"second"));
        assert_eq!(table.reply(&Request::Get { key: b"k", wait: Duration::ZERO }), value(b"second"));
    }

    #[test]
    fn keys_are_counted_added_and_deleted() {
        let table = Table::new();
        let add = |amount| table.reply(&Request::Add { key: b"n", amount });
        assert_eq!((add(3), add(-5)), (Reply::Number(3), Reply::Number(-2)));
        assert_eq!(add(i64::MIN), Reply::Rejected("the sum is too large".into()));
        assert_eq!(table.reply(&set(b"n", b"three")), Reply::Done);
        assert_eq!(add(1), Reply::Rejected("the value is not an integer".into()));
        assert_eq!(table.reply(&Request::Count), Reply::Number(1));
        let delete = || table.reply(&Request::Delete { key: b"n" });
        assert_eq!((delete(), delete()), (Reply::Number(1), Reply::Number(0)));
        assert_eq!(table.reply(&Request::Check { keys: vec![b"n"] }), Reply::Number(0));
        assert_eq!(table.lock().bytes, 0);
    }

    #[test]
    fn the_memory_is_limited() {
        let table = Table::with_limit(2 * ENTRY_BYTES + 10);
        assert_eq!(table.reply(&set(b"a", b"12345678")), Reply::Done);
        assert_eq!(table.reply(&set(b"b", b"1")), Reply::Rejected("the store is full".into()));
        // Replacing and deleting a value makes place.
        assert_eq!(table.reply(&set(b"a", b"1234567")), Reply::Done);
        assert_eq!(table.reply(&set(b"b", b"1")), Reply::Done);
        assert_eq!(table.reply(&set(b"c", b"")), Reply::Rejected("the store is full".into()));
    }

    #[test]
    fn a_wait_ends_with_the_key_the_limit_or_the_store() {
        let table = Table::new();
        let wait = |wait| table.reply(&Request::Wait { keys: vec![b"a", b"b"], wait });
        assert_eq!(table.reply(&set(b"a", b"")), Reply::Done);
        assert_eq!(wait(Duration::from_millis(10)), Reply::NotSet);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| wait(Duration::from_secs(600)));
            assert_eq!(table.reply(&set(b"b", b"")), Reply::Done);
            assert_eq!(waiting.join().expect("a reply"), Reply::Done);
            assert_eq!(table.reply(&Request::Delete { key: b"b" }), Reply::Number(1));
            let waiting = scope.spawn(|| wait(Duration::MAX));
            table.close();
            assert_eq!(waiting.join().expect("a reply"), Reply::NotSet);
        });
    }
}
