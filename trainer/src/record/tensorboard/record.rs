//! Format of event files: protobuf messages in TFRecord framing.
//!
//! ```text
//! record = length u64 | masked crc of it u32 | data | masked crc of it u32        little-endian, CRC-32C
//! data   = Event   { 1: wall_time double, 2: step int64, 3: file_version string, 5: Summary }
//!          Summary { 1: repeated Value { 1: tag string, 2: simple_value float } }
//! ```

/// Version that TensorBoard expects in the first event of a file.
const VERSION: &str = "brain.Event:2";
/// Added to a rotated checksum: a plain CRC of data that itself contains CRCs is a weak checksum.
const MASK: u32 = 0xa282_ead8;

/// Wire types of protobuf.
const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;
const FIXED32: u64 = 5;

/// Named number.
#[derive(Debug, Clone, PartialEq)]
pub struct Scalar {
    /// Name, for example `train/loss`.
    pub tag: String,
    /// Value.
    pub value: f32,
}

/// Appends a record.
pub fn write_record(file: &mut Vec<u8>, data: &[u8]) {
    let length = (data.len() as u64).to_le_bytes();
    file.extend_from_slice(&length);
    file.extend_from_slice(&masked_checksum(&length).to_le_bytes());
    file.extend_from_slice(data);
    file.extend_from_slice(&masked_checksum(data).to_le_bytes());
}

fn masked_checksum(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(MASK)
}

/// Encodes the first event of a file; `wall_time` in seconds since 1970.
pub fn file_version(wall_time: f64) -> Vec<u8> {
    let mut event = Vec::new();
    put_double(&mut event, 1, wall_time);
    put_bytes(&mut event, 3, VERSION.as_bytes());
    event
}

/// Encodes the scalars of a step; `wall_time` in seconds since 1970.
pub fn scalars(wall_time: f64, step: i64, scalars: &[Scalar]) -> Vec<u8> {
    let mut summary = Vec::new();
    for Scalar { tag, value } in scalars {
        let mut entry = Vec::new();
        put_bytes(&mut entry, 1, tag.as_bytes());
        put_key(&mut entry, 2, FIXED32);
        entry.extend_from_slice(&value.to_le_bytes());
        put_bytes(&mut summary, 1, &entry);
    }
    let mut event = Vec::new();
    put_double(&mut event, 1, wall_time);
    put_key(&mut event, 2, VARINT);
    put_varint(&mut event, step as u64);
    put_bytes(&mut event, 5, &summary);
    event
}

fn put_double(message: &mut Vec<u8>, field: u64, value: f64) {
    put_key(message, field, FIXED64);
    message.extend_from_slice(&value.to_le_bytes());
}

fn put_bytes(message: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_key(message, field, BYTES);
    put_varint(message, bytes.len() as u64);
    message.extend_from_slice(bytes);
}

fn put_key(message: &mut Vec<u8>, field: u64, wire_type: u64) {
    put_varint(message, field << 3 | wire_type);
}

/// Writes seven bits per byte, least significant first; all bytes except the last have the highest bit set.
fn put_varint(message: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        message.push(value as u8 | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Decoded event.
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) struct Event {
        pub(crate) time: f64,
        pub(crate) step: i64,
        pub(crate) version: Option<String>,
        pub(crate) scalars: Vec<(String, f32)>,
    }

    /// Computes CRC-32C bit by bit from its polynomial.
    fn checksum(data: &[u8]) -> u32 {
        let mut crc = !0_u32;
        for &byte in data {
            crc ^= u32::from(byte);
            for _ in 0..8 {
                crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
            }
        }
        !crc
    }

    fn take<const N: usize>(bytes: &mut &[u8]) -> [u8; N] {
        let (taken, rest) = bytes.split_first_chunk().expect("enough bytes");
        *bytes = rest;
        *taken
    }

    fn assert_checked(data: &[u8], stored: u32) {
        let crc = checksum(data);
        assert_eq!(stored, crc.rotate_right(15).wrapping_add(0xa282_ead8));
    }

    /// Returns the fields of a message: field number, and the content as bytes.
    fn fields(mut message: &[u8]) -> Vec<(u64, Vec<u8>)> {
        let varint = |message: &mut &[u8]| {
            let (mut value, mut shift) = (0, 0);
            loop {
                let [byte] = take::<1>(message);
                value |= u64::from(byte & 0x7f) << shift;
                shift += 7;
                if byte < 0x80 {
                    return value;
                }
            }
        };
        let mut fields = Vec::new();
        while !message.is_empty() {
            let key = varint(&mut message);
            let content = match key & 7 {
                0 => varint(&mut message).to_le_bytes().to_vec(),
                1 => take::<8>(&mut message).to_vec(),
                2 => {
                    let length = varint(&mut message) as usize;
                    let (content, rest) = message.split_at(length);
                    message = rest;
                    content.to_vec()
                }
                5 => take::<4>(&mut message).to_vec(),
                other => panic!("wire type {other}"),
            };
            fields.push((key >> 3, content));
        }
        fields
    }

    /// Reads a file independently of the writer, according to the specification of the formats.
    pub(crate) fn read(mut file: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        while !file.is_empty() {
            let length = take::<8>(&mut file);
            assert_checked(&length, u32::from_le_bytes(take(&mut file)));
            let (data, rest) = file.split_at(u64::from_le_bytes(length) as usize);
            file = rest;
            assert_checked(data, u32::from_le_bytes(take(&mut file)));
            let mut event = Event { time: 0.0, step: 0, version: None, scalars: Vec::new() };
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
            for (field, content) in fields(data) {
                match field {
                    1 => event.time = f64::from_le_bytes(content.try_into().expect("double")),
                    2 => event.step = i64::from_le_bytes(content.try_into().expect("int64")),
                    3 => event.version = Some(text(&content)),
                    5 => {
                        for (_, value) in fields(&content) {
                            let parts = fields(&value);
                            assert_eq!(parts.iter().map(|(field, _)| *field).collect::<Vec<_>>(), [1, 2]);
                            let number = <[u8; 4]>::try_from(parts[1].1.as_slice()).expect("float");
                            event.scalars.push((text(&parts[0].1), f32::from_le_bytes(number)));
                        }
                    }
                    other => panic!("field {other}"),
                }
            }
            events.push(event);
        }
        events
    }

    #[test]
    fn checksum_matches_the_standard_test_vector() {
        assert_eq!(checksum(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
    }

    proptest! {
        #[test]
        fn records_survive_a_round_trip(
            events in prop::collection::vec((0.0..4e9_f64, any::<i64>(), prop::collection::vec(("\\PC{0,200}", any::<f32>()), 0..5)), 0..5),
        ) {
            let mut file = Vec::new();
            write_record(&mut file, &file_version(1.5));
            let mut expected = vec![Event { time: 1.5, step: 0, version: Some("brain.Event:2".into()), scalars: Vec::new() }];
            for (time, step, pairs) in events {
                let pairs: Vec<_> = pairs.into_iter().filter(|(_, value)| !value.is_nan()).collect();
                let list: Vec<_> = pairs.iter().map(|(tag, value)| Scalar { tag: tag.clone(), value: *value }).collect();
                write_record(&mut file, &scalars(time, step, &list));
                expected.push(Event { time, step, version: None, scalars: pairs });
            }
            prop_assert_eq!(read(&file), expected);
        }
    }
}
