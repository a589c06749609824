//! SentencePiece models: unigram and BPE, with the normalization in the model's file.
//!
//! The crate `tokenizers` reads no SentencePiece files, normalizes by grapheme, which differs for some scripts, and rounds in another way
//! than the library. So this module reads the file, normalizes, and finds the most probable pieces; BPE is the crate's.

mod normalizer;
mod proto;
mod unigram;

use std::collections::HashMap;
use std::ops::Range;

use glm_schemas::vocab::{SpecialIds, TokenId};
use tokenizers::Model as _;
use tokenizers::models::bpe::{BPE, Vocab};

use normalizer::Normalizer;
use proto::{Kind, Piece, Proto};
use unigram::Unigram;

/// Replacement of a space: U+2581.
pub(super) const SPACE: &str = "\u{2581}";
/// Name of the unknown piece in the crate's model, which no text contains.
const UNKNOWN: &str = "";

/// A SentencePiece model.
pub(super) struct SentencePiece {
    algorithm: Algorithm,
    normalizer: Normalizer,
    pieces: Vec<Piece>,
    /// Ids of the pieces that match text.
    ids: HashMap<String, TokenId>,
    unknown: TokenId,
    unknown_surface: String,
    /// Ids of the bytes, if the model has them.
    bytes: Option<Vec<TokenId>>,
    /// Pieces that BPE does not divide, longest first.
    user_defined: Vec<String>,
    divides: bool,
    strips_prefix: bool,
}

enum Algorithm {
    Unigram(Unigram),
    Bpe(Box<BPE>),
}

/// Role of a piece in a decoded text.
pub(super) enum Decoded<'a> {
    /// Text, with [`SPACE`] for a space.
    Text(&'a str),
    /// A byte of a character.
    Byte(u8),
    /// Text of the unknown piece.
    Unknown(&'a str),
    /// Nothing.
    Nothing,
}

impl SentencePiece {
    /// Reads the file of a model.
    ///
    /// # Errors
    /// A message.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let model =
            Proto::parse(bytes).ok_or("it is not a SentencePiece model, or it is damaged; copy or download it again")?;
        if model.space_is_suffix {
            return Err("its spaces are suffixes (treat_whitespace_as_suffix), which is not supported".to_owned());
        }
        let of_kind = |kind: Kind| {
            let pieces = model.pieces.iter().zip(0..).filter(move |(piece, _)| piece.kind == kind);
            pieces.map(|(piece, id): (&Piece, TokenId)| (piece.text.clone(), id))
        };
        let (_, unknown) = of_kind(Kind::Unknown).next().ok_or("it has no unknown piece")?;
        let mut user_defined: Vec<String> =
            of_kind(Kind::UserDefined).map(|(text, _)| text).filter(|text| !text.is_empty()).collect();
        user_defined.sort_by_key(|text| std::cmp::Reverse(text.len()));
        let normalizer = Normalizer::new(&model, user_defined.clone()).ok_or("its table of characters is damaged")?;
        let ids: HashMap<String, TokenId> = of_kind(Kind::Normal).chain(of_kind(Kind::UserDefined)).collect();
        let algorithm = match model.model_type {
            1 => Algorithm::Unigram(Unigram::new(&model.pieces)),
            2 => Algorithm::Bpe(Box::new(bpe(&model.pieces, &ids)?)),
            other => return Err(format!("it is of type {other}; unigram (1) and BPE (2) are supported")),
        };
        let bytes = match model.byte_fallback {
            false => None,
            true => {
                let ids: HashMap<String, TokenId> = of_kind(Kind::Byte).collect();
                let all = (0..=u8::MAX).map(|byte| ids.get(&byte_name(byte)).copied()).collect::<Option<Vec<_>>>();
                Some(all.ok_or("it lacks pieces of bytes")?)
            }
        };
        let crosses = |piece: &str| piece.char_indices().any(|(at, c)| at > 0 && SPACE.starts_with(c));
        let divides = normalizer.divides() && ids.contains_key(SPACE) && !ids.keys().any(|piece| crosses(piece));
        Ok(Self {
            algorithm,
            normalizer,
            ids,
            unknown,
            unknown_surface: model.unknown_surface,
            bytes,
            user_defined,
            divides,
            strips_prefix: model.add_dummy_prefix,
            pieces: model.pieces,
        })
    }

    /// Ids of GLM's special tokens, which follow the pieces in the published order; one id in between is not used.
    pub(super) fn special_ids(&self) -> SpecialIds {
        SpecialIds::after_pieces(self.pieces.len() as TokenId)
    }

    /// Piece with an id, as in the vocabulary.
    pub(super) fn piece(&self, id: TokenId) -> Option<&str> {
        self.pieces.get(usize::try_from(id).ok()?).map(|piece| piece.text.as_str())
    }

    /// Returns true if words that spaces separate can be encoded apart.
    pub(super) fn divides(&self) -> bool {
        self.divides
    }

    /// Returns true if a character separates words.
    pub(super) fn is_space(&self, c: char) -> bool {
        self.normalizer.is_space(c)
    }

    /// Returns true if the space before the first word of a decoded text is left out.
    pub(super) fn strips_prefix(&self) -> bool {
        self.strips_prefix
    }

    /// Returns what a piece is in a decoded text.
    pub(super) fn decoded(&self, id: TokenId) -> Decoded<'_> {
        let Some(piece) = usize::try_from(id).ok().and_then(|id| self.pieces.get(id)) else { return Decoded::Nothing };
        match piece.kind {
            Kind::Normal | Kind::UserDefined | Kind::Unused => Decoded::Text(&piece.text),
            Kind::Unknown => Decoded::Unknown(&self.unknown_surface),
            Kind::Control => Decoded::Nothing,
            Kind::Byte => byte_of(&piece.text).map_or(Decoded::Nothing, Decoded::Byte),
        }
    }

    /// Returns the tokens of a text with their byte ranges. `score` is that of the text before, see [`Unigram::divide`].
    ///
    /// # Errors
    /// Message of the crate.
    pub(super) fn encode(&self, text: &str, score: &mut f32) -> Result<Vec<(TokenId, Range<usize>)>, String> {
        let normalized = self.normalizer.normalize(text);
        let mut tokens: Vec<(TokenId, Range<usize>)> = Vec::new();
        let mut fused = false;
        for range in self.divide(&normalized.text, score)? {
            let surface = &normalized.text[range.clone()];
            let span = |range: Range<usize>| normalized.from[range.start]..normalized.to[range.end - 1];
            match (self.ids.get(surface), &self.bytes) {
                (Some(&id), _) => tokens.push((id, span(start_of(surface, range.start)..range.end))),
                (None, Some(ids)) => {
                    tokens.extend(surface.bytes().zip(range).map(|(byte, at)| (ids[usize::from(byte)], span(at..at + 1))));
                }
                (None, None) => match tokens.last_mut() {
                    Some((_, known)) if fused => known.end = span(range).end,
                    _ => tokens.push((self.unknown, span(range))),
                },
            }
            fused = tokens.last().is_some_and(|(id, _)| *id == self.unknown);
        }
        Ok(tokens)
    }

    /// Divides a normalized text into pieces.
    fn divide(&self, text: &str, score: &mut f32) -> Result<Vec<Range<usize>>, String> {
        let model = match &self.algorithm {
            Algorithm::Unigram(model) => return Ok(model.divide(text, score)),
            Algorithm::Bpe(model) => model,
        };
        let mut pieces = Vec::new();
        let mut start = 0;
        for Range { start: at, end } in self.kept_in(text).chain(std::iter::once(text.len()..text.len())) {
            let tokens = model.tokenize(&text[start..at]).map_err(|error| error.to_string())?;
            pieces.extend(tokens.into_iter().map(|token| start + token.offsets.0..start + token.offsets.1));
            if at < end {
                pieces.push(at..end);
            }
            start = end;
        }
        Ok(pieces)
    }

    /// Returns the places of the user-defined pieces in a text.
    fn kept_in(&self, text: &str) -> impl Iterator<Item = Range<usize>> {
        let mut at = if self.user_defined.is_empty() { text.len() } else { 0 };
        std::iter::from_fn(move || {
            while at < text.len() {
                let (start, rest) = (at, &text[at..]);
                if let Some(piece) = self.user_defined.iter().find(|piece| rest.starts_with(piece.as_str())) {
                    at += piece.len();
                    return Some(start..at);
                }
                at += rest.chars().next().map_or(1, char::len_utf8);
            }
            None
        })
    }
}

/// Returns where a piece starts without the space at its start, unless it is all spaces.
fn start_of(surface: &str, start: usize) -> usize {
    let word = surface.trim_start_matches(SPACE);
    if word.is_empty() { start } else { start + surface.len() - word.len() }
}

/// Builds the crate's BPE model: every way to join two pieces into a third is a merge, in descending order of the score of the third.
fn bpe(pieces: &[Piece], ids: &HashMap<String, TokenId>) -> Result<BPE, String> {
    let mut normal: Vec<&Piece> = pieces.iter().filter(|piece| piece.kind == Kind::Normal).collect();
    normal.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut merges = Vec::new();
    for Piece { text, .. } in normal {
        for (at, _) in text.char_indices().skip(1) {
            let (left, right) = text.split_at(at);
            if ids.contains_key(left) && ids.contains_key(right) {
                merges.push((left.to_owned(), right.to_owned()));
            }
        }
    }
    let mut vocabulary = Vocab::default();
    vocabulary.extend(ids.iter().map(|(text, id)| (text.clone(), *id as u32)));
    vocabulary.insert(UNKNOWN.to_owned(), pieces.len() as u32);
    let builder = BPE::builder().vocab_and_merges(vocabulary, merges).unk_token(UNKNOWN.to_owned());
    builder.build().map_err(|error| error.to_string())
}

/// Name of the piece of a byte.
fn byte_name(byte: u8) -> String {
    format!("<0x{byte:02X}>")
}

/// Byte of the piece with a name.
fn byte_of(name: &str) -> Option<u8> {
    u8::from_str_radix(name.strip_prefix("<0x")?.strip_suffix('>')?, 16).ok()
}
