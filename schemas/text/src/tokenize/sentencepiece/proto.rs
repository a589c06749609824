//! Reader for the file of a SentencePiece model, a protocol buffer. Fields that encoding does not need are skipped.

/// Kind of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Matches text.
    Normal,
    /// Stands for text without a piece.
    Unknown,
    /// Matches no text.
    Control,
    /// Matches text, which is not normalized.
    UserDefined,
    /// Matches no text.
    Unused,
    /// Stands for a byte of text without a piece.
    Byte,
}

/// A piece of the vocabulary; its id is its position.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Piece {
    pub(super) text: String,
    pub(super) score: f32,
    pub(super) kind: Kind,
}

/// Content of a model's file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Proto {
    pub(super) pieces: Vec<Piece>,
    /// Algorithm: 1 unigram, 2 BPE; others are not supported.
    pub(super) model_type: u64,
    pub(super) byte_fallback: bool,
    /// Text of the unknown piece.
    pub(super) unknown_surface: String,
    pub(super) space_is_suffix: bool,
    pub(super) charsmap: Vec<u8>,
    pub(super) add_dummy_prefix: bool,
    pub(super) remove_extra_spaces: bool,
    pub(super) escape_spaces: bool,
}

/// Value of a field.
enum Value<'b> {
    Int(u64),
    Float(f32),
    Bytes(&'b [u8]),
}

/// Fields of a message.
struct Fields<'b>(&'b [u8]);

impl<'b> Fields<'b> {
    fn take(&mut self, count: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    /// Number and value of the next field; `None` if the bytes are not a field.
    fn field(&mut self) -> Option<(u64, Value<'b>)> {
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Int(self.varint()?),
            1 => Value::Int(u64::from_le_bytes(self.take(8)?.try_into().ok()?)),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Float(f32::from_le_bytes(self.take(4)?.try_into().ok()?)),
            _ => return None,
        };
        Some((tag >> 3, value))
    }
}

impl<'b> Iterator for Fields<'b> {
    type Item = Option<(u64, Value<'b>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl Proto {
    /// Parses a file; `None` if it is not the file of a SentencePiece model.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut model = Self {
            pieces: Vec::new(),
            model_type: 1,
            byte_fallback: false,
            unknown_surface: " \u{2047} ".to_owned(),
            space_is_suffix: false,
            charsmap: Vec::new(),
            add_dummy_prefix: true,
            remove_extra_spaces: true,
            escape_spaces: true,
        };
        for field in Fields(bytes) {
            match field? {
                (1, Value::Bytes(piece)) => model.pieces.push(Piece::parse(piece)?),
                (2, Value::Bytes(trainer)) => model.read_trainer(trainer)?,
                (3, Value::Bytes(normalizer)) => model.read_normalizer(normalizer)?,
                _ => {}
            }
        }
        (!model.pieces.is_empty()).then_some(model)
    }

    fn read_trainer(&mut self, bytes: &[u8]) -> Option<()> {
        for field in Fields(bytes) {
            match field? {
                (3, Value::Int(kind)) => self.model_type = kind,
                (24, Value::Int(flag)) => self.space_is_suffix = flag != 0,
                (35, Value::Int(flag)) => self.byte_fallback = flag != 0,
                (44, Value::Bytes(text)) => self.unknown_surface = text_of(text)?,
                _ => {}
            }
        }
        Some(())
    }

    fn read_normalizer(&mut self, bytes: &[u8]) -> Option<()> {
        for field in Fields(bytes) {
            match field? {
                (2, Value::Bytes(charsmap)) => self.charsmap = charsmap.to_vec(),
                (3, Value::Int(flag)) => self.add_dummy_prefix = flag != 0,
                (4, Value::Int(flag)) => self.remove_extra_spaces = flag != 0,
                (5, Value::Int(flag)) => self.escape_spaces = flag != 0,
                _ => {}
            }
        }
        Some(())
    }
}

impl Piece {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut piece = Self { text: String::new(), score: 0.0, kind: Kind::Normal };
        for field in Fields(bytes) {
            match field? {
                (1, Value::Bytes(text)) => piece.text = text_of(text)?,
                (2, Value::Float(score)) => piece.score = score,
                (3, Value::Int(kind)) => {
                    piece.kind = match kind {
                        1 => Kind::Normal,
                        2 => Kind::Unknown,
                        3 => Kind::Control,
                        4 => Kind::UserDefined,
                        5 => Kind::Unused,
                        6 => Kind::Byte,
                        _ => return None,
                    }
                }
                _ => {}
            }
        }
        Some(piece)
    }
}

fn text_of(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).ok().map(str::to_owned)
}
