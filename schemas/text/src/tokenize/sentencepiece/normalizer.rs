//! Normalization as the SentencePiece library does it: replacement of characters by a table in the model's file, and white space.

use super::SPACE;
use super::proto::Proto;

/// Normalizer of a model.
pub(super) struct Normalizer {
    table: Option<Table>,
    /// Texts that are not changed, longest first.
    kept: Vec<String>,
    add_dummy_prefix: bool,
    remove_extra_spaces: bool,
    /// Replacement of a space.
    space: &'static str,
}

/// A normalized text, with the bytes of the original that each of its bytes stands for.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Normalized {
    pub(super) text: String,
    /// Start in the original, for every byte.
    pub(super) from: Vec<usize>,
    /// End in the original, for every byte.
    pub(super) to: Vec<usize>,
}

impl Normalized {
    fn push(&mut self, text: &str, from: usize, to: usize) {
        self.text.push_str(text);
        self.from.resize(self.text.len(), from);
        self.to.resize(self.text.len(), to);
    }

    fn truncate(&mut self, length: usize) {
        self.text.truncate(length);
        self.from.truncate(length);
        self.to.truncate(length);
    }
}

impl Normalizer {
    /// Creates the normalizer of a model; `kept` are its user-defined pieces. `None` if its table is damaged.
    pub(super) fn new(model: &Proto, mut kept: Vec<String>) -> Option<Self> {
        kept.sort_by_key(|text| std::cmp::Reverse(text.len()));
        let table = if model.charsmap.is_empty() { None } else { Some(Table::parse(&model.charsmap)?) };
        Some(Self {
            table,
            kept,
            add_dummy_prefix: model.add_dummy_prefix,
            remove_extra_spaces: model.remove_extra_spaces,
            space: if model.escape_spaces { SPACE } else { " " },
        })
    }

    /// Returns true if words can be normalized apart: they begin with a space, and spaces between them are one.
    pub(super) fn divides(&self) -> bool {
        self.add_dummy_prefix && self.remove_extra_spaces && self.kept.is_empty() && self.space == SPACE
    }

    /// Returns true if a character becomes a space.
    pub(super) fn is_space(&self, c: char) -> bool {
        self.prefix(c.encode_utf8(&mut [0; 4])).0 == " "
    }

    /// Normalizes a text.
    pub(super) fn normalize(&self, text: &str) -> Normalized {
        let mut result = Normalized::default();
        let mut at = 0;
        if self.remove_extra_spaces {
            while let (" ", length) = self.prefix(&text[at..]) {
                at += length;
            }
        }
        if at == text.len() {
            return result;
        }
        if self.add_dummy_prefix {
            let (_, length) = self.prefix(&text[at..]);
            result.push(self.space, at, at + length);
        }
        let mut after_space = self.remove_extra_spaces;
        while at < text.len() {
            let (mut new, length) = self.prefix(&text[at..]);
            if after_space {
                new = new.trim_start_matches(' ');
            }
            for part in new.split_inclusive(' ') {
                match part.strip_suffix(' ') {
                    None => result.push(part, at, at + length),
                    Some(word) => {
                        result.push(word, at, at + length);
                        result.push(self.space, at, at + length);
                    }
                }
            }
            if !new.is_empty() {
                after_space = self.remove_extra_spaces && new.ends_with(' ');
            }
            at += length;
        }
        if self.remove_extra_spaces {
            let end = result.text.trim_end_matches(self.space).len();
            result.truncate(end);
        }
        result
    }

    /// Returns what the start of a text becomes, and its length in bytes; both empty at the end.
    fn prefix<'t>(&'t self, text: &'t str) -> (&'t str, usize) {
        if let Some(kept) = self.kept.iter().find(|kept| text.starts_with(kept.as_str())) {
            return (kept.as_str(), kept.len());
        }
        if let Some(found) = self.table.as_ref().and_then(|table| table.longest(text)) {
            return found;
        }
        let length = text.chars().next().map_or(0, char::len_utf8);
        (&text[..length], length)
    }
}

/// Replacements of texts: a double-array trie of the texts (as the library Darts stores it) whose values are the places of the
/// replacements, each ended by a zero byte.
struct Table {
    units: Vec<u32>,
    replacements: String,
}

impl Table {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (size, rest) = bytes.split_at_checked(4)?;
        let size = u32::from_le_bytes(size.try_into().ok()?) as usize;
        let (trie, replacements) = rest.split_at_checked(size)?;
        let units = trie.chunks_exact(4).map(|unit| u32::from_le_bytes([unit[0], unit[1], unit[2], unit[3]])).collect();
        Some(Self { units, replacements: std::str::from_utf8(replacements).ok()?.to_owned() })
    }

    /// Returns the replacement of the longest text in the table that `text` begins with, and its length.
    fn longest(&self, text: &str) -> Option<(&str, usize)> {
        let offset = |unit: u32| ((unit >> 10) << ((unit & (1 << 9)) >> 6)) as usize;
        let mut node = offset(*self.units.first()?);
        let mut found = None;
        for (at, &byte) in text.as_bytes().iter().enumerate() {
            node ^= usize::from(byte);
            let Some(&unit) = self.units.get(node) else { break };
            if unit & ((1 << 31) | 0xff) != u32::from(byte) {
                break;
            }
            node ^= offset(unit);
            if unit & (1 << 8) != 0 {
                let value = self.units.get(node)? & !(1 << 31);
                found = Some((value as usize, at + 1));
            }
        }
        let (start, length) = found.filter(|&(_, length)| text.is_char_boundary(length))?;
        let replacement = self.replacements.get(start..)?;
        Some((&replacement[..replacement.find('\0')?], length))
    }
}
