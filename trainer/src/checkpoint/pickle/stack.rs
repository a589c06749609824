//! Stack, marks and memo of the pickle machine.

use std::collections::HashMap;

use super::error::Fault;
use super::value::Id;

/// Maximum number of values on the stack.
const MAX_STACK: usize = 1 << 20;
/// Maximum number of open marks, that is, levels of nesting. CPython's own limit is about 1000.
const MAX_MARKS: usize = 4096;
/// Maximum number of values in the memo.
const MAX_MEMO: usize = 1 << 20;

/// Stack, marks and memo. Values below the last mark cannot be accessed until the mark is removed.
#[derive(Debug, Default)]
pub(super) struct Stack {
    values: Vec<Id>,
    /// Heights of the stack at the open marks, in ascending order, never above the height of the stack.
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
}

impl Stack {
    /// Pushes a value.
    pub(super) fn push(&mut self, id: Id) -> Result<(), Fault> {
        if self.values.len() >= MAX_STACK {
            return Err(Fault::Limit { what: "values on the stack", limit: MAX_STACK });
        }
        self.values.push(id);
        Ok(())
    }

    /// Pops the top value.
    pub(super) fn pop(&mut self) -> Result<Id, Fault> {
        self.top()?;
        self.values.pop().ok_or(Fault::StackUnderflow)
    }

    /// Returns the top value without popping it.
    pub(super) fn top(&self) -> Result<Id, Fault> {
        let reachable = self.values.get(self.floor()..).unwrap_or_default();
        reachable.last().copied().ok_or(Fault::StackUnderflow)
    }

    /// Pops the last `count` values, in the order in which they were pushed.
    pub(super) fn last(&mut self, count: usize) -> Result<Vec<Id>, Fault> {
        let start = self.values.len().checked_sub(count).filter(|start| *start >= self.floor());
        Ok(self.values.split_off(start.ok_or(Fault::StackUnderflow)?))
    }

    /// Sets a mark.
    pub(super) fn mark(&mut self) -> Result<(), Fault> {
        if self.marks.len() >= MAX_MARKS {
            return Err(Fault::Limit { what: "levels of nesting", limit: MAX_MARKS });
        }
        self.marks.push(self.values.len());
        Ok(())
    }

    /// Removes the last mark and pops the values above it.
    pub(super) fn since_mark(&mut self) -> Result<Vec<Id>, Fault> {
        let mark = self.marks.pop().ok_or(Fault::NoMark)?;
        Ok(self.values.split_off(mark.min(self.values.len())))
    }

    /// Drops the top value, or the top mark if no value is above it.
    pub(super) fn discard(&mut self) -> Result<(), Fault> {
        if self.values.len() == self.floor() {
            return self.marks.pop().map(drop).ok_or(Fault::StackUnderflow);
        }
        self.pop().map(drop)
    }

    /// Number of values in the memo.
    pub(super) fn stored(&self) -> u64 {
        self.memo.len() as u64
    }

    /// Copies the top value into the memo.
    pub(super) fn store(&mut self, key: u64) -> Result<(), Fault> {
        let id = self.top()?;
        if self.memo.len() >= MAX_MEMO {
            return Err(Fault::Limit { what: "memo entries", limit: MAX_MEMO });
        }
        self.memo.insert(key, id);
        Ok(())
    }

    /// Pushes a value from the memo.
    pub(super) fn recall(&mut self, key: u64) -> Result<(), Fault> {
        let id = self.memo.get(&key).copied().ok_or(Fault::NoMemo(key))?;
        self.push(id)
    }

    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::value::{Value, Values};
    use super::*;

    #[test]
    fn limits_are_enforced() {
        let (mut stack, id) = (Stack::default(), Values::default().add(Value::None));
        (0..MAX_MARKS).for_each(|_| stack.mark().expect("below the limit"));
        assert_eq!(stack.mark(), Err(Fault::Limit { what: "levels of nesting", limit: MAX_MARKS }));
        (0..MAX_STACK).for_each(|_| stack.push(id).expect("below the limit"));
        assert_eq!(stack.push(id), Err(Fault::Limit { what: "values on the stack", limit: MAX_STACK }));
        (0..MAX_MEMO as u64).for_each(|key| stack.store(key).expect("below the limit"));
        assert_eq!(stack.store(MAX_MEMO as u64), Err(Fault::Limit { what: "memo entries", limit: MAX_MEMO }));
    }
}
