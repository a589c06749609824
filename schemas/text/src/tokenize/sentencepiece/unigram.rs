//! The most probable division of a text into pieces, as the SentencePiece library finds it.
//!
//! The crate `tokenizers` has the same algorithm in double precision, which divides some texts in another way where two ways are equally
//! probable: sums of the same scores in another order differ by rounding. So this module adds as the library does, in single precision.

use std::ops::Range;

use super::proto::{Kind, Piece};

/// Penalty of unknown text: its log probability is below that of the least likely piece by this number.
const UNKNOWN_PENALTY: f32 = 10.0;
/// Penalty of a user-defined piece: its log probability is below that of its bytes as pieces with the best score by this number.
const USER_DEFINED_PENALTY: f32 = 0.1;

/// Pieces with their scores, as a trie.
pub(super) struct Unigram {
    /// The first is the root.
    nodes: Vec<Node>,
    unknown_score: f32,
}

#[derive(Default)]
struct Node {
    /// Nodes by the next byte, ascending.
    children: Vec<(u8, u32)>,
    /// Score of the piece that ends here.
    score: Option<f32>,
}

/// Best division of the text before a place.
#[derive(Clone, Copy, Default)]
struct Best {
    score: f32,
    /// Start of its last piece; `None` if no division ends here.
    start: Option<usize>,
}

impl Unigram {
    /// Creates the model of some pieces; only those that match text are used.
    pub(super) fn new(pieces: &[Piece]) -> Self {
        let scores = || pieces.iter().filter(|piece| piece.kind == Kind::Normal).map(|piece| piece.score);
        let (least, best) = (scores().fold(f32::INFINITY, f32::min), scores().fold(f32::NEG_INFINITY, f32::max));
        let mut model = Self { nodes: vec![Node::default()], unknown_score: least - UNKNOWN_PENALTY };
        for Piece { text, score, kind } in pieces {
            match kind {
                Kind::Normal => model.insert(text, *score),
                Kind::UserDefined => model.insert(text, text.len() as f32 * best - USER_DEFINED_PENALTY),
                _ => {}
            }
        }
        model
    }

    fn insert(&mut self, text: &str, score: f32) {
        let mut at = 0;
        for byte in text.bytes() {
            let new = self.nodes.len() as u32;
            let children = &mut self.nodes[at].children;
            at = match children.binary_search_by_key(&byte, |child| child.0) {
                Ok(index) => children[index].1 as usize,
                Err(index) => {
                    children.insert(index, (byte, new));
                    self.nodes.push(Node::default());
                    new as usize
                }
            };
        }
        self.nodes[at].score = Some(score);
    }

    /// Divides a text; `total` is the score of the text before, to which that of this text is added.
    pub(super) fn divide(&self, text: &str, total: &mut f32) -> Vec<Range<usize>> {
        let mut ends = vec![Best::default(); text.len() + 1];
        ends[0].score = *total;
        for (start, c) in text.char_indices() {
            let before = ends[start].score;
            let single = start + c.len_utf8();
            let mut has_single = false;
            let mut node = &self.nodes[0];
            for (byte, end) in text.as_bytes()[start..].iter().zip(start + 1..) {
                let Ok(child) = node.children.binary_search_by_key(byte, |child| child.0) else { break };
                node = &self.nodes[node.children[child].1 as usize];
                if let Some(score) = node.score {
                    let new = score + before;
                    let best = &mut ends[end];
                    if best.start.is_none() || new > best.score {
                        *best = Best { score: new, start: Some(start) };
                    }
                    has_single |= end == single;
                }
            }
            let new = self.unknown_score + before;
            let best = &mut ends[single];
            if !has_single && (best.start.is_none() || new > best.score) {
                *best = Best { score: new, start: Some(start) };
            }
        }
        *total = ends[text.len()].score;
        let mut pieces = Vec::new();
        let mut end = text.len();
        while let Some(start) = ends[end].start {
            pieces.push(start..end);
            end = start;
        }
        pieces.reverse();
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_probable_pieces_are_found() {
        let piece = |text: &str, score: f32| Piece { text: text.to_owned(), score, kind: Kind::Normal };
        let model =
            Unigram::new(&[piece("a", -1.0), piece("b", -1.5), piece("ab", -2.0), piece("bc", -2.2), piece("渡", -3.0)]);
        let mut total = 0.0;
        let mut divide =
            |text: &'static str| model.divide(text, &mut total).into_iter().map(|range| &text[range]).collect::<Vec<_>>();
        assert_eq!(divide("abbc"), ["ab", "bc"]);
        assert_eq!(divide("abc"), ["a", "bc"]);
        assert_eq!(divide("a渡é"), ["a", "渡", "é"]);
        assert_eq!(divide(""), [""; 0]);
        assert!((total - (-4.2 - 3.2 - 17.0)).abs() < 1e-4, "{total}");
    }
}
