//! A sample of text before spans are taken from it.

use glm_schemas::vocab::{SpecialIds, TokenId};

/// Tokens of a sample, by their indices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span {
    /// First token.
    pub(super) start: usize,
    /// Token after the last one.
    pub(super) end: usize,
}

impl Span {
    pub(super) fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }

    pub(super) fn len(&self) -> usize {
        self.end - self.start
    }
}

/// Exclusive ends of sentences in a sample, ascending.
pub(super) type Marks = [usize];

/// Tokens of a sample: `[CLS]`, a prompt, text, and the end of text unless the text was cut.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text<'a> {
    /// All tokens.
    pub(super) ids: &'a [TokenId],
    /// Number of tokens before the text, `[CLS]` and those of the prompt; they are context only.
    pub(super) before: usize,
    /// Special tokens.
    pub(super) special: SpecialIds,
}

impl Text<'_> {
    fn is_end(&self, index: usize) -> bool {
        self.ids[index] == self.special.pad
    }

    /// Returns true if a document ends before the last token.
    pub(super) fn has_inner_end(&self) -> bool {
        let inner = self.ids.len().saturating_sub(1);
        (0..inner).any(|index| self.is_end(index))
    }

    /// Tokens of the documents that may be masked, without `[CLS]` and end. The last token of a cut document is not among them, as
    /// published.
    pub(super) fn documents(&self) -> Vec<Span> {
        let mut found = Vec::new();
        let mut start = self.before;
        for index in self.before..self.ids.len() {
            if self.is_end(index) {
                found.push(Span::new(start, index));
                start = index + 1;
                if self.ids.get(start) == Some(&self.special.cls) {
                    start += 1;
                }
            }
        }
        let last = self.ids.len().saturating_sub(1).max(start);
        found.push(Span::new(start, last));
        found
    }

    /// Sentences: each ends at a mark or at the end of the sample. What is left at the end of a document is not one.
    pub(super) fn sentences(&self, marks: &Marks) -> Vec<Span> {
        let mut found = Vec::new();
        let mut start = self.before;
        let mut marks = marks.iter().peekable();
        for index in self.before..self.ids.len() {
            while marks.next_if(|mark| **mark <= index).is_some() {}
            if self.is_end(index) {
                start = index + 1;
            } else if index == start && self.ids[index] == self.special.cls {
                // The head of another document is not text.
                start = index + 1;
            } else if marks.peek() == Some(&&(index + 1)) {
                found.push(Span::new(start, index + 1));
                start = index + 1;
            }
        }
        if start < self.ids.len() {
            found.push(Span::new(start, self.ids.len()));
        }
        found
    }
}
