//! Decoding of stored elements and conversion to another format.

use std::borrow::Cow;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::stored::{StoredKind, StoredTensor};

/// Elements per chunk, few enough to stay in the cache of a core.
const CHUNK: usize = 4096;

/// Calls `each` with the elements of a tensor, chunk by chunk in order.
pub fn for_each_chunk(tensor: &StoredTensor<'_>, mut each: impl FnMut(&[f64])) {
    let (mut narrow, mut wide) = (Narrow::default(), Vec::with_capacity(CHUNK));
    for bytes in tensor.data.chunks(CHUNK * tensor.kind.size()) {
        decode(tensor.kind, bytes, &mut narrow, &mut wide);
        each(&wide);
    }
}

/// Like [`for_each_chunk`], for two tensors with the same number of elements.
pub fn for_each_chunk_of_both(first: &StoredTensor<'_>, second: &StoredTensor<'_>, mut each: impl FnMut(&[f64], &[f64])) {
    let (mut narrow, mut wide) = (Narrow::default(), [Vec::with_capacity(CHUNK), Vec::with_capacity(CHUNK)]);
    let chunks = |tensor: &'_ StoredTensor<'_>| CHUNK * tensor.kind.size();
    for (a, b) in first.data.chunks(chunks(first)).zip(second.data.chunks(chunks(second))) {
        decode(first.kind, a, &mut narrow, &mut wide[0]);
        decode(second.kind, b, &mut narrow, &mut wide[1]);
        each(&wide[0], &wide[1]);
    }
}

/// Buffers for conversions between bytes and numbers.
#[derive(Debug, Default)]
struct Narrow {
    half: Vec<f16>,
    brain: Vec<bf16>,
    single: Vec<f32>,
}

fn decode(kind: StoredKind, bytes: &[u8], narrow: &mut Narrow, wide: &mut Vec<f64>) {
    wide.clear();
    match kind {
        StoredKind::F16 | StoredKind::BF16 | StoredKind::F32 => {
            to_single(kind, bytes, narrow);
            wide.extend(narrow.single.iter().map(|x| f64::from(*x)));
        }
        StoredKind::F64 => wide.extend(arrays(bytes).map(f64::from_le_bytes)),
        // Rounded above 2^53; weights are not that large.
        StoredKind::I64 => wide.extend(arrays(bytes).map(|x| i64::from_le_bytes(x) as f64)),
        StoredKind::I32 => wide.extend(arrays(bytes).map(|x| f64::from(i32::from_le_bytes(x)))),
        StoredKind::I16 => wide.extend(arrays(bytes).map(|x| f64::from(i16::from_le_bytes(x)))),
        StoredKind::I8 => wide.extend(arrays(bytes).map(|x| f64::from(i8::from_le_bytes(x)))),
        StoredKind::U8 | StoredKind::Bool => wide.extend(bytes.iter().map(|x| f64::from(*x))),
    }
}

/// Fills `narrow.single` from elements of at most 32 bits.
fn to_single(kind: StoredKind, bytes: &[u8], narrow: &mut Narrow) {
    let Narrow { half, brain, single } = narrow;
    match kind {
        StoredKind::F16 => {
            half.clear();
            half.extend(arrays(bytes).map(f16::from_le_bytes));
            single.resize(half.len(), 0.0);
            half.convert_to_f32_slice(single);
        }
        StoredKind::BF16 => {
            brain.clear();
            brain.extend(arrays(bytes).map(bf16::from_le_bytes));
            single.resize(brain.len(), 0.0);
            brain.convert_to_f32_slice(single);
        }
        _ => {
            single.clear();
            single.extend(arrays(bytes).map(f32::from_le_bytes));
        }
    }
}

fn arrays<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> {
    bytes.as_chunks::<N>().0.iter().copied()
}

/// A number format of converted weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// 16 bits, as in the published weights
    Fp16,
    /// 32 bits, as in training
    Fp32,
}

impl Format {
    /// Returns the element type.
    pub fn kind(self) -> StoredKind {
        match self {
            Self::Fp16 => StoredKind::F16,
            Self::Fp32 => StoredKind::F32,
        }
    }
}

/// Converts the elements of a tensor, rounded to nearest even. Borrows them if they already have this format.
///
/// # Errors
/// The first finite number that becomes infinite; the largest fp16 number is 65,504.
pub fn converted<'s>(tensor: StoredTensor<'s>, format: Format) -> Result<Cow<'s, [u8]>, f64> {
    if tensor.kind == format.kind() {
        return Ok(tensor.data);
    }
    let mut bytes = Vec::with_capacity(tensor.data.len() / tensor.kind.size() * format.kind().size());
    let (mut half, mut single) = (Vec::new(), Vec::new());
    let mut too_large = None;
    for_each_chunk(&tensor, |numbers| {
        single.clear();
        // Doubles are rounded to single precision first; no known weights use them.
        single.extend(numbers.iter().map(|x| *x as f32));
        let infinite = |at: usize| Some(numbers[at]).filter(|x| x.is_finite());
        match format {
            Format::Fp16 => {
                half.resize(single.len(), f16::ZERO);
                half.convert_from_f32_slice(&single);
                bytes.extend(half.iter().flat_map(|x: &f16| x.to_le_bytes()));
                too_large = too_large.or_else(|| half.iter().position(|x| x.is_infinite()).and_then(infinite));
            }
            Format::Fp32 => {
                bytes.extend(single.iter().flat_map(|x| x.to_le_bytes()));
                too_large = too_large.or_else(|| single.iter().position(|x| x.is_infinite()).and_then(infinite));
            }
        }
    });
    match too_large {
        Some(number) => Err(number),
        None => Ok(Cow::Owned(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(kind: StoredKind, bytes: Vec<u8>) -> StoredTensor<'static> {
        StoredTensor { kind, shape: vec![bytes.len() / kind.size()], data: Cow::Owned(bytes) }
    }

    fn singles(numbers: &[f32]) -> StoredTensor<'static> {
        stored(StoredKind::F32, numbers.iter().flat_map(|x| x.to_le_bytes()).collect())
    }

    fn numbers(tensor: &StoredTensor<'_>) -> Vec<f64> {
        let mut all = Vec::new();
        for_each_chunk(tensor, |chunk| all.extend_from_slice(chunk));
        all
    }

    #[test]
    fn every_element_type_is_decoded() {
        let bytes = |numbers: [i8; 2]| numbers.map(|x| x.to_le_bytes()).concat();
        assert_eq!(numbers(&stored(StoredKind::I8, bytes([-1, 5]))), [-1.0, 5.0]);
        assert_eq!(numbers(&stored(StoredKind::U8, vec![255, 1])), [255.0, 1.0]);
        assert_eq!(numbers(&stored(StoredKind::I16, (-300_i16).to_le_bytes().to_vec())), [-300.0]);
        assert_eq!(numbers(&stored(StoredKind::I32, 70_000_i32.to_le_bytes().to_vec())), [70_000.0]);
        assert_eq!(numbers(&stored(StoredKind::I64, (-1_i64 << 40).to_le_bytes().to_vec())), [-(2_f64.powi(40))]);
        assert_eq!(numbers(&stored(StoredKind::F64, 0.1_f64.to_le_bytes().to_vec())), [0.1]);
        assert_eq!(numbers(&stored(StoredKind::F16, f16::from_f32(1.5).to_le_bytes().to_vec())), [1.5]);
        assert_eq!(numbers(&stored(StoredKind::BF16, bf16::from_f32(-2.5).to_le_bytes().to_vec())), [-2.5]);
        let many: Vec<f32> = (0..3 * CHUNK as i32 + 5).map(|i| i as f32).collect();
        assert!(numbers(&singles(&many)).iter().zip(&many).all(|(wide, x)| *wide == f64::from(*x)));
    }

    #[test]
    fn conversion_rounds_like_half_and_reports_overflow() {
        let values: Vec<f32> = (0..CHUNK as i32 + 9).map(|i| (i - 2000) as f32 * 0.37 + 1e-5).collect();
        let half = converted(singles(&values), Format::Fp16).expect("in range");
        let expected: Vec<u8> = values.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect();
        assert!(*half == *expected);
        let back = converted(stored(StoredKind::F16, expected), Format::Fp32).expect("in range");
        let rounded: Vec<u8> = values.iter().flat_map(|x| f16::from_f32(*x).to_f32().to_le_bytes()).collect();
        assert!(*back == *rounded);

        assert!(converted(singles(&[1.0, 65_504.0, f32::INFINITY]), Format::Fp16).is_ok());
        assert_eq!(converted(singles(&[1.0, -70_000.0]), Format::Fp16).err(), Some(-70_000.0));
        assert!(matches!(converted(singles(&[1.0]), Format::Fp32), Ok(Cow::Owned(bytes)) if bytes == 1_f32.to_le_bytes()));
    }
}
