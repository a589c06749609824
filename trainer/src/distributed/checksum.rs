//! Checksum of a model's weights, computed on their device.

use tch::{Device, Kind, TchError, Tensor, no_grad};

use crate::batch::key::mix;
use crate::model::parameters::Parameters;

/// Words per sum, which limits the memory for products.
const CHUNK: usize = 1 << 22;
/// Odd number without a pattern in its bits.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
const SHIFT: u32 = 29;

/// Returns a checksum of all weights that every rank has, in which every changed bit shows. It is the same on every device. If ranks divide
/// the weights, it is of what each of them holds: tables and vectors, and whole copies in half precision.
///
/// # Errors
/// A [`TchError`], for example out of memory.
pub fn of_parameters(parameters: &Parameters) -> Result<u64, TchError> {
    let vectors: Vec<&Tensor> = match parameters.divided() {
        Some(divided) => divided.replicated().collect(),
        None => parameters.groups().iter().map(|group| &group.values).collect(),
    };
    no_grad(|| of_vectors(&vectors, parameters.device(), CHUNK))
}

/// Each chunk of 32-bit words x becomes the sum of `factor(i) · x(i)` modulo 2⁶⁴, in integers, so that the order of additions does
/// not matter. A factor is odd and a word has 32 bits, so a change of one bit is a change of the sum. [`mix`] is a bijection,
/// so the change of one sum is a change of the result.
fn of_vectors(vectors: &[&Tensor], device: Device, chunk: usize) -> Result<u64, TchError> {
    let words = vectors.iter().map(|vector| vector.f_detach()?.f_view_dtype(Kind::Int)).collect::<Result<Vec<_>, _>>()?;
    let longest = words.iter().map(Tensor::numel).max().unwrap_or(0);
    let chunk = chunk.min(longest.max(1)) as i64;
    let factors = factors(chunk, device)?;
    let mut sums = vec![Tensor::f_zeros([1; 0], (Kind::Int64, device))?];
    for words in &words {
        let count = words.numel() as i64;
        for first in (0..count).step_by(chunk as usize) {
            let part = chunk.min(count - first);
            let products = words.f_narrow(0, first, part)?.f_mul(&factors.f_narrow(0, 0, part)?)?;
            sums.push(products.f_sum(Kind::Int64)?);
        }
    }
    // One copy to the host for all sums.
    let sums = Vec::<i64>::try_from(Tensor::f_stack(&sums, 0)?.f_to_device(Device::Cpu)?)?;
    Ok(sums.iter().fold(0, |checksum, sum| mix(checksum ^ *sum as u64)))
}

/// Odd factors of the words of a chunk; 64 bits, so that products have as many.
fn factors(count: i64, device: Device) -> Result<Tensor, TchError> {
    let scaled = Tensor::f_arange_start(1, count + 1, (Kind::Int64, device))?.f_mul_scalar(FACTOR as i64)?;
    scaled.f_bitwise_xor_tensor(&scaled.f_bitwise_right_shift_tensor_scalar(i64::from(SHIFT))?)?.f_bitwise_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK: usize = 16;

    fn checksum(words: &[u32], first_vector: usize) -> u64 {
        let words = Tensor::from_slice(&words.iter().map(|word| *word as i32).collect::<Vec<_>>()).view_dtype(Kind::Float);
        let (first, second) = (
            words.narrow(0, 0, first_vector as i64),
            words.narrow(0, first_vector as i64, words.size()[0] - first_vector as i64),
        );
        of_vectors(&[&first, &second], Device::Cpu, CHUNK).expect("checksum")
    }

    /// Bits without a pattern; NaN and infinity are among them.
    fn words(count: u64) -> Vec<u32> {
        (0..count).map(|i| mix(i + 1) as u32).chain([f32::NAN.to_bits(), f32::INFINITY.to_bits(), 0, u32::MAX]).collect()
    }

    #[test]
    fn checksum_is_what_the_formula_says() {
        let words = words(70);
        let (first, second) = words.split_at(41);
        let factor = |index: usize| {
            let scaled = (index as u64 + 1).wrapping_mul(FACTOR) as i64;
            scaled ^ (scaled >> SHIFT) | 1
        };
        let sum = |chunk: &[u32]| {
            let products = chunk.iter().enumerate().map(|(i, &word)| i64::from(word as i32).wrapping_mul(factor(i)));
            products.fold(0, i64::wrapping_add)
        };
        let sums = first.chunks(CHUNK).chain(second.chunks(CHUNK)).map(sum);
        let expected = sums.fold(mix(0), |checksum, sum| mix(checksum ^ sum as u64));
        assert_eq!(checksum(&words, 41), expected);
    }

    #[test]
    fn every_changed_bit_shows() {
        let words = words(70);
        let whole = checksum(&words, 41);
        for index in 0..words.len() {
            for bit in 0..32 {
                let mut changed = words.clone();
                changed[index] ^= 1 << bit;
                assert_ne!(checksum(&changed, 41), whole, "bit {bit} of word {index}");
            }
        }
        let mut swapped = words.clone();
        for (a, b) in [(0, 1), (0, CHUNK), (3, 60)] {
            swapped.swap(a, b);
            assert_ne!(checksum(&swapped, 41), whole, "words {a} and {b} in each other's place");
        }
    }

    #[test]
    fn no_weights_have_a_checksum() {
        assert_eq!(checksum(&[], 0), 0);
    }
}
