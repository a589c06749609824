//! The stack of the pickle machine with its marks, and the memo of values that are used again.

use std::collections::HashMap;

use super::error::Fault;
use super::value::Id;

/// Most values on the stack at a time.
const MAX_STACK: usize = 1 << 20;
/// Most open marks, that is, the deepest nesting. CPython itself gives up at about 1000.
const MAX_MARKS: usize = 4096;
/// Most values stored for later use.
const MAX_MEMO: usize = 1 << 20;

/// Stack, marks and memo. Values below the last mark are out of reach until the mark is gone.
#[derive(Debug, Default)]
pub(super) struct Stack {
    values: Vec<Id>,
    /// Heights of the stack at the open marks, ascending and never above the stack.
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
}

impl Stack {
    /// Puts a value on top.
    pub(super) fn push(&mut self, id: Id) -> Result<(), Fault> {
        if self.values.len() >= MAX_STACK {
            return Err(Fault::Limit { what: "values on the stack", limit: MAX_STACK });
        }
        self.values.push(id);
        Ok(())
    }

    /// Takes the top value.
    pub(super) fn pop(&mut self) -> Result<Id, Fault> {
        self.top()?;
        self.values.pop().ok_or(Fault::StackUnderflow)
    }

    /// The top value, left where it is.
    pub(super) fn top(&self) -> Result<Id, Fault> {
        let reachable = self.values.get(self.floor()..).unwrap_or_default();
        reachable.last().copied().ok_or(Fault::StackUnderflow)
    }

    /// Takes the last `count` values, in the order they were pushed.
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

    /// Removes the last mark and takes the values since.
    pub(super) fn since_mark(&mut self) -> Result<Vec<Id>, Fault> {
        let mark = self.marks.pop().ok_or(Fault::NoMark)?;
        Ok(self.values.split_off(mark.min(self.values.len())))
    }

    /// Drops the top value, or the mark where a mark is on top.
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

    /// Puts the top value into the memo too.
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
    use super::super::machine::run;
    use super::*;

    fn limit_of(stream: &[u8]) -> &'static str {
        match run(stream, 0).expect_err("too much").fault {
            Fault::Limit { what, .. } => what,
            fault => panic!("{fault}"),
        }
    }

    #[test]
    fn limits_hold() {
        assert_eq!(limit_of(&[b'('; MAX_MARKS + 1]), "levels of nesting");
        assert_eq!(limit_of(&vec![b'N'; MAX_STACK + 1]), "values on the stack");
        assert_eq!(limit_of(&b"N0".repeat(3_000_000)), "opcodes");
        // MEMOIZE numbers entries by their count, so each makes a new one.
        assert_eq!(limit_of(&[&b"N"[..], &[0x94; MAX_MEMO + 1]].concat()), "memo entries");
    }
}
