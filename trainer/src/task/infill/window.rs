//! Parts of documents: of those that are longer than a sequence, and short pieces.

use std::ops::Range;

use glm_schemas::vocab::TokenId;

use super::spans::Below;
use super::text::Marks;

/// Document as the list of its tokens: prompt, text, end of text. Indices are into that list.
#[derive(Debug, Clone, Copy)]
pub(super) struct Document<'a> {
    /// Tokens of the prompt.
    pub(super) prompt: &'a [TokenId],
    /// Tokens of the text.
    pub(super) text: &'a [TokenId],
    /// Exclusive ends of sentences in the text, ascending.
    pub(super) ends: &'a [i32],
}

/// Number of samples per epoch of a document of `tokens` tokens, with `[CLS]` and end of text, in sequences of `max_seq_len` tokens: as
/// many as windows cover it.
pub(super) fn samples(tokens: usize, max_seq_len: usize) -> usize {
    (tokens + 2).div_ceil(max_seq_len.max(1)).max(1)
}

impl Document<'_> {
    /// Number of tokens with the end of text.
    fn len(&self) -> usize {
        self.prompt.len() + self.text.len() + 1
    }

    /// The last end of a sentence that is at most `index`.
    fn end_before(&self, index: usize) -> Option<usize> {
        let after = self.ends.partition_point(|end| self.prompt.len() + *end as usize <= index);
        Some(self.prompt.len() + self.ends[..after].last().copied()? as usize)
    }

    /// The first end of a sentence that is at least `index`.
    fn end_after(&self, index: usize) -> Option<usize> {
        let before = self.ends.partition_point(|end| self.prompt.len() + (*end as usize) < index);
        Some(self.prompt.len() + self.ends.get(before).copied()? as usize)
    }

    /// The tokens of a sample of at most `max_seq_len` tokens with `[CLS]`: all of a document that fits; else a window that starts at a
    /// random place, moved to the start of a sentence to the left or to the right, and ends at the end of a sentence if half
    /// of it is before that.
    ///
    /// Unlike the published code, a window can contain the end of text, one that starts at the start of the document stays there, and one
    /// has always a part of the text, not only of the prompt.
    pub(super) fn window(&self, max_seq_len: usize, below: Below<'_>) -> Range<usize> {
        let (len, room) = (self.len(), max_seq_len.saturating_sub(1).max(1));
        if len <= room {
            return 0..len;
        }
        // Half of a window of text, or all of it, follows the first start.
        let first = (self.prompt.len() + self.text.len().min(room.div_ceil(2))).saturating_sub(room);
        let drawn = first + below(len - room - first + 1);
        let to_the_left = below(2) == 0;
        let start = self.aligned(drawn, to_the_left, max_seq_len / 2).max(first).min(len - 1);
        start..self.cut(start, max_seq_len)
    }

    /// Moves a start to the start of a sentence, by `most` tokens at most.
    pub(super) fn aligned(&self, start: usize, to_the_left: bool, most: usize) -> usize {
        match (start, to_the_left) {
            (0, _) => 0,
            (_, true) => self.end_before(start).unwrap_or(0).max(start.saturating_sub(most)),
            (_, false) => self.end_after(start).unwrap_or(usize::MAX).min(start + most),
        }
    }

    /// End of a window from `start` on of at most `max_seq_len` tokens with `[CLS]`: after the last sentence that ends in it, unless that
    /// is less than half of it.
    pub(super) fn cut(&self, start: usize, max_seq_len: usize) -> usize {
        let end = start + max_seq_len.saturating_sub(1);
        if end >= self.len() {
            return self.len();
        }
        match self.end_before(end) {
            Some(last) if last > start && last - start + 1 >= max_seq_len / 2 => last,
            _ => end,
        }
    }
}

/// Cuts a sample into the places of short pieces of about `length` tokens without `[CLS]`: `count` pieces, which may overlap, each from the
/// start of a sentence to the end of one where these are near. `ids` are the tokens of the sample without its first one, and `ends` the
/// exclusive ends of sentences and documents there; indices are into `ids`.
pub(super) fn pieces(
    ids: &[TokenId],
    end_of_text: TokenId,
    ends: &Marks,
    length: usize,
    count: usize,
    below: Below<'_>,
) -> Vec<Range<usize>> {
    let upto = |index: usize| &ends[..ends.partition_point(|end| *end <= index)];
    let mut piece = || {
        if length >= ids.len() {
            return 0..ids.len();
        }
        let drawn = below(ids.len() - length);
        let starts = upto(drawn).iter().rev().find(|start| ids[**start] != end_of_text);
        let start = starts.copied().unwrap_or(0);
        let end = upto(start + length).last().copied().unwrap_or(0);
        if end.saturating_sub(start) < length / 2 { start..start + length } else { start..end }
    };
    (0..count).map(|_| piece()).collect()
}
