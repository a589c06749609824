//! Attention of new tokens to the keys and values of a cache.

use glm_kernels::cached::{Stored as Seen, attend};
use tch::{Device, TchError, Tensor};

use super::{Stored, by_kind, for_each_if_large, values, values_mut};

/// Keys and values of one block, keys first, and what is used of their memory.
#[derive(Debug, Clone, Copy)]
pub struct Cached<'a> {
    /// Tokens that all beams of a sequence see: `[2, sequences, heads, capacity, head size]`.
    pub shared: &'a Tensor,
    /// Tokens of each beam: `[2, sequences, heads, beams, capacity, head size]`.
    pub own: &'a Tensor,
    /// Number of shared tokens of each sequence; the memory may have room for more sequences.
    pub shared_lengths: &'a [usize],
    /// Number of own tokens of each beam of a sequence, without the new one.
    pub own_lengths: &'a [usize],
}

/// Appends keys and values of one new token per beam to the cache, and returns its attention to all tokens that it sees, with itself:
/// `[sequences · beams, hidden]`. `projected` `[sequences · beams, 3 hidden]` is query, key and value without their `bias` `[3 hidden]`.
///
/// # Errors
/// A [`TchError`]: shapes or kinds that do not match.
pub fn attention_of_beams(projected: &Tensor, bias: &Tensor, cached: Cached<'_>) -> Result<Tensor, TchError> {
    let kind = projected.f_kind()?;
    by_kind!(kind, attention_of(projected, bias, cached))
}

/// One head of the new token of one beam.
struct Task<'a, T> {
    /// Index of the token, and of its head.
    token: usize,
    head: usize,
    sequence: usize,
    /// The beam's own keys and values, with room for the new ones.
    own: [&'a mut [T]; 2],
    out: &'a mut [T],
}

fn attention_of<T: Stored>(projected: &Tensor, bias: &Tensor, cached: Cached<'_>) -> Result<Tensor, TchError> {
    let (&[_, _, heads, capacity, size], &[_, _, _, beams, own_capacity, _]) =
        (&cached.shared.size()[..], &cached.own.size()[..])
    else {
        return Err(TchError::Shape("a cache without memory".to_owned()));
    };
    let [heads, capacity, size, beams, own_capacity] = [heads, capacity, size, beams, own_capacity].map(|size| size as usize);
    let (sequences, hidden) = (cached.shared_lengths.len(), heads * size);
    let fits = cached.shared_lengths.iter().all(|length| *length <= capacity)
        && cached.own_lengths.iter().all(|length| *length < own_capacity)
        && projected.size2()? == ((sequences * beams) as i64, 3 * hidden as i64)
        && bias.numel() == 3 * hidden;
    if !fits || cached.own_lengths.len() != sequences {
        return Err(TchError::Shape("tokens that do not fit the cache".to_owned()));
    }
    let mut out = Tensor::f_empty([(sequences * beams) as i64, hidden as i64], (T::KIND, Device::Cpu))?;
    let mut own = cached.own.shallow_clone();
    // SAFETY: nothing writes to these tensors during a forward pass.
    let (projected, bias) = unsafe { (values::<T>(projected, T::KIND)?, values::<T::Real>(bias, T::REAL)?) };
    // SAFETY: as above; the shared part of a cache is written to by other calls only.
    let shared = unsafe { values::<T>(cached.shared, T::KIND) }?;
    // SAFETY: the cache is borrowed by one forward pass at a time, which reads and writes its own tokens here only; `out` was just made.
    let (own, to) = unsafe { (values_mut::<T>(&mut own, T::KIND)?, values_mut::<T>(&mut out, T::KIND)?) };

    // By sequence, head and beam.
    let (keys, values) = own.split_at_mut(own.len() / 2);
    let chunk = own_capacity * size;
    let mut places: Vec<_> = keys.chunks_mut(chunk).zip(values.chunks_mut(chunk)).map(|(k, v)| Some([k, v])).collect();
    // By sequence, beam and head.
    let tasks = to.chunks_mut(size).enumerate().filter_map(|(index, out)| {
        let (token, head) = (index / heads, index % heads);
        let (sequence, beam) = (token / beams, token % beams);
        let own = places[(sequence * heads + head) * beams + beam].take()?;
        Some(Task { token, head, sequence, own, out })
    });
    let tasks: Vec<_> = tasks.collect();
    let (shared_keys, shared_values) = shared.split_at(shared.len() / 2);
    let seen = cached.shared_lengths.iter().zip(cached.own_lengths).map(|(shared, own)| shared + own + 1).sum::<usize>();
    for_each_if_large(2 * seen * beams * hidden, tasks, |Task { token, head, sequence, own: [keys, values], out }| {
        let part = |which: usize| {
            let columns = which * hidden + head * size..which * hidden + (head + 1) * size;
            let numbers = &projected[token * 3 * hidden..][columns.clone()];
            numbers.iter().zip(&bias[columns]).map(|(number, bias)| number.load() + *bias)
        };
        let own_length = cached.own_lengths[sequence];
        let place = own_length * size..(own_length + 1) * size;
        for (stored, which) in [(&mut *keys, 1), (&mut *values, 2)] {
            for (stored, number) in stored[place.clone()].iter_mut().zip(part(which)) {
                *stored = T::store(number);
            }
        }
        let query: Vec<T::Real> = part(0).collect();
        let first = (sequence * heads + head) * capacity * size;
        let of_sequence = first..first + cached.shared_lengths[sequence] * size;
        let shared = Seen { keys: &shared_keys[of_sequence.clone()], values: &shared_values[of_sequence] };
        let own = Seen { keys: &keys[..place.end], values: &values[..place.end] };
        attend(&query, [shared, own], &mut Vec::new(), out);
    })?;
    Ok(out)
}
