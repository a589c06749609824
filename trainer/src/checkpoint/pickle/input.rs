//! Bounds-checked reading of opcodes and operands, and decoding of the text operands of old protocols.

use std::borrow::Cow;

use super::error::Fault;
use super::value::Value;

/// Cursor over a byte slice. Every read is checked against the remaining bytes.
#[derive(Debug)]
pub(super) struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    /// Creates a cursor over `bytes` at offset `at`.
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at: at.min(bytes.len()) }
    }

    /// Offset of the next byte.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    fn left(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// Takes the next `count` bytes.
    pub(super) fn take(&mut self, count: u64) -> Result<&'a [u8], Fault> {
        let left = self.left();
        let truncated = Fault::Truncated { needed: count, left: left.len() };
        let Ok(count) = usize::try_from(count) else { return Err(truncated) };
        let taken = left.get(..count).ok_or(truncated)?;
        self.at += count;
        Ok(taken)
    }

    /// Takes the next `N` bytes.
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let taken = self.take(N as u64)?;
        <[u8; N]>::try_from(taken).map_err(|_| Fault::Truncated { needed: N as u64, left: taken.len() })
    }

    /// Takes one byte.
    pub(super) fn byte(&mut self) -> Result<u8, Fault> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Takes a little-endian u16.
    pub(super) fn u16(&mut self) -> Result<u16, Fault> {
        self.array().map(u16::from_le_bytes)
    }

    /// Takes a little-endian u32.
    pub(super) fn u32(&mut self) -> Result<u32, Fault> {
        self.array().map(u32::from_le_bytes)
    }

    /// Takes a little-endian i32.
    pub(super) fn i32(&mut self) -> Result<i32, Fault> {
        self.array().map(i32::from_le_bytes)
    }

    /// Takes a little-endian u64.
    pub(super) fn u64(&mut self) -> Result<u64, Fault> {
        self.array().map(u64::from_le_bytes)
    }

    /// Fails if fewer than `count` bytes remain.
    pub(super) fn expect_left(&self, count: u64) -> Result<(), Fault> {
        let left = self.left().len();
        if count > left as u64 {
            return Err(Fault::Truncated { needed: count, left });
        }
        Ok(())
    }

    /// Takes the bytes up to the next line feed, and consumes the line feed.
    pub(super) fn line(&mut self) -> Result<&'a [u8], Fault> {
        let left = self.left();
        let end = left.iter().position(|byte| *byte == b'\n').ok_or(Fault::NoLineEnd)?;
        self.at += end + 1;
        left.get(..end).ok_or(Fault::NoLineEnd)
    }

    /// Takes a line with the name of a module, class or memo entry.
    pub(super) fn name(&mut self) -> Result<&'a str, Fault> {
        std::str::from_utf8(self.line()?).map_err(|_| Fault::BadText)
    }
}

/// Decodes a string operand. Python also writes lone surrogates, which become U+FFFD here.
pub(super) fn text(bytes: &[u8]) -> Value<'_> {
    Value::Text(String::from_utf8_lossy(bytes))
}

/// Decodes a Python 2 string: text if it is UTF-8, bytes otherwise.
pub(super) fn text_or_bytes(bytes: &[u8]) -> Value<'_> {
    std::str::from_utf8(bytes).map_or(Value::Bytes, |text| Value::Text(Cow::Borrowed(text)))
}

/// Decodes a little-endian two's complement integer of any length; zero bytes encode 0.
pub(super) fn long(bytes: &[u8]) -> Value<'static> {
    let Some(last) = bytes.last() else { return Value::Int(0) };
    if bytes.len() > 16 {
        return Value::HugeInt;
    }
    let mut extended = [if last & 0x80 == 0 { 0 } else { 0xff }; 16];
    for (to, from) in extended.iter_mut().zip(bytes) {
        *to = *from;
    }
    Value::Int(i128::from_le_bytes(extended))
}

/// Decodes a decimal integer, the operand of opcodes `I` (where `00` and `01` are booleans) and `L` (with a trailing `L`).
pub(super) fn decimal(line: &[u8]) -> Result<Value<'static>, Fault> {
    if let b"00" | b"01" = line {
        return Ok(Value::Bool(line == b"01"));
    }
    let digits = line.strip_suffix(b"L").unwrap_or(line);
    let digits = std::str::from_utf8(digits).map_err(|_| Fault::BadNumber)?.trim();
    if let Ok(int) = digits.parse() {
        return Ok(Value::Int(int));
    }
    let unsigned = digits.strip_prefix('-').unwrap_or(digits);
    if unsigned.is_empty() || !unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Fault::BadNumber);
    }
    Ok(Value::HugeInt)
}

/// Decodes a string in Python source form, `'it\'s'`, the operand of opcode `S`.
pub(super) fn quoted(line: &[u8]) -> Result<Value<'_>, Fault> {
    let inner = match line {
        [b'\'', inner @ .., b'\''] | [b'"', inner @ .., b'"'] => inner,
        _ => return Err(Fault::BadText),
    };
    if !inner.contains(&b'\\') {
        return Ok(text_or_bytes(inner));
    }
    let mut decoded = Vec::with_capacity(inner.len());
    let mut rest = inner.iter().copied();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            decoded.push(byte);
            continue;
        }
        decoded.push(match rest.next().ok_or(Fault::BadText)? {
            b'n' => b'\n',
            b't' => b'\t',
            b'r' => b'\r',
            b'x' => {
                let digits = [rest.next().unwrap_or(b'?'), rest.next().unwrap_or(b'?')];
                u8::try_from(hex(&digits)?).map_err(|_| Fault::BadText)?
            }
            same @ (b'\\' | b'\'' | b'"') => same,
            _ => return Err(Fault::BadText),
        });
    }
    Ok(String::from_utf8(decoded).map_or(Value::Bytes, |text| Value::Text(Cow::Owned(text))))
}

/// Decodes Latin-1 with `\uXXXX` and `\UXXXXXXXX` escapes, the operand of opcode `V`.
pub(super) fn raw_unicode(line: &[u8]) -> Result<Value<'_>, Fault> {
    let mut decoded = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((byte, after)) = rest.split_first() {
        let width = match (byte, after.first()) {
            (b'\\', Some(b'u')) => 4,
            (b'\\', Some(b'U')) => 8,
            _ => {
                decoded.push(char::from(*byte));
                rest = after;
                continue;
            }
        };
        let digits = after.get(1..=width).ok_or(Fault::BadText)?;
        decoded.push(char::from_u32(hex(digits)?).unwrap_or(char::REPLACEMENT_CHARACTER));
        rest = after.get(width + 1..).unwrap_or_default();
    }
    Ok(Value::Text(Cow::Owned(decoded)))
}

fn hex(digits: &[u8]) -> Result<u32, Fault> {
    digits.iter().try_fold(0u32, |sum, digit| {
        let value = char::from(*digit).to_digit(16).ok_or(Fault::BadText)?;
        sum.checked_mul(16).and_then(|sum| sum.checked_add(value)).ok_or(Fault::BadText)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(value: &Value<'_>) -> String {
        format!("{value:?}")
    }

    #[test]
    fn integers_of_any_length() {
        assert_eq!(shown(&long(&[])), "Int(0)");
        assert_eq!(shown(&long(&[0xff])), "Int(-1)");
        assert_eq!(shown(&long(&[0, 0x80])), "Int(-32768)");
        assert_eq!(shown(&long(&[0, 0, 0, 0x80, 0])), "Int(2147483648)");
        assert_eq!(shown(&long(&[1; 17])), "HugeInt");
        assert_eq!(shown(&decimal(b"-12L").expect("number")), "Int(-12)");
        assert_eq!(shown(&decimal(b"01").expect("bool")), "Bool(true)");
        assert_eq!(shown(&decimal(&[b'9'; 60]).expect("huge")), "HugeInt");
        assert_eq!(decimal(b"1x").err(), Some(Fault::BadNumber));
        assert_eq!(decimal(b"-").err(), Some(Fault::BadNumber));
    }

    #[test]
    fn text_operands_of_old_protocols() {
        assert_eq!(shown(&quoted(br"'it\'s\x41\n'").expect("string")), r#"Text("it'sA\n")"#);
        assert_eq!(shown(&quoted(b"\"plain\"").expect("string")), r#"Text("plain")"#);
        assert_eq!(shown(&quoted(br"'\xff'").expect("bytes")), "Bytes");
        for bad in [&b"'"[..], b"'open", br"'\q'", br"'\x4'", br"'\'", b""] {
            assert_eq!(quoted(bad).err(), Some(Fault::BadText), "{bad:?}");
        }
        assert_eq!(shown(&raw_unicode(b"a\\u00e9\xe9\\U0001f600").expect("text")), "Text(\"aéé😀\")");
        assert_eq!(raw_unicode(b"\\u12").err(), Some(Fault::BadText));
    }

    #[test]
    fn reads_stop_at_the_end() {
        let mut input = Input::new(b"\x01\x02\x03", 1);
        assert_eq!(input.take(u64::MAX).err(), Some(Fault::Truncated { needed: u64::MAX, left: 2 }));
        assert_eq!(input.u16(), Ok(0x0302));
        assert_eq!(input.byte().err(), Some(Fault::Truncated { needed: 1, left: 0 }));
        assert_eq!(input.line().err(), Some(Fault::NoLineEnd));
    }
}
