//! Keys and values of generated sequences.
//!
//! A sequence is a context with the pieces before the current one, whose keys and values are stored once, and the tokens of the
//! current piece, which are stored per beam: reordering beams copies generated tokens only.

use tch::{Device, Kind, TchError, Tensor, no_grad};

use super::config::ModelConfig;
use super::ops::cpu::cached::{Cached, attention_of_beams};

/// Memory grows in multiples of this many shared tokens.
const SHARED_CHUNK: usize = 64;
/// Memory grows in multiples of this many tokens of a piece.
const OWN_CHUNK: usize = 32;

/// Keys and values of one block, keys first.
#[derive(Debug)]
struct Layer {
    /// Tokens that all beams of a sequence see: `[2, sequences, heads, shared capacity, head size]`.
    shared: Tensor,
    /// Tokens of the current piece: `[2, sequences, heads, beams, own capacity, head size]`.
    own: Tensor,
}

/// Keys and values of all blocks for some sequences with the same number of beams.
///
/// Sequences are numbered without gaps; [`Self::remove`] gives the last one the number of the removed one. Memory grows with the number
/// and the length of sequences and is bounded by the caller's limits of both.
#[derive(Debug)]
pub struct KeyValueCache {
    layers: Vec<Layer>,
    beams: usize,
    heads: usize,
    head_size: usize,
    kind: Kind,
    device: Device,
    /// Number of sequences, of shared tokens per sequence and of own tokens per beam that there is memory for.
    capacity: [usize; 3],
    shared_lengths: Vec<usize>,
    own_lengths: Vec<usize>,
}

/// Keys and values of a block that the new tokens of a step see.
pub(super) struct Seen {
    /// `[sequences · heads, tokens, head size]`.
    pub(super) shared_key: Tensor,
    pub(super) shared_value: Tensor,
    /// `[sequences · heads · beams, tokens, head size]`.
    pub(super) own_key: Tensor,
    pub(super) own_value: Tensor,
}

impl KeyValueCache {
    /// Returns an empty cache for keys and values in one kind.
    pub fn new(config: &ModelConfig, kind: Kind, device: Device, beams: usize) -> Self {
        let options = (kind, device);
        let empty = || Layer { shared: Tensor::empty([0], options), own: Tensor::empty([0], options) };
        Self {
            layers: (0..config.layers).map(|_| empty()).collect(),
            beams,
            heads: config.heads,
            head_size: config.hidden / config.heads,
            kind,
            device,
            capacity: [0; 3],
            shared_lengths: Vec::new(),
            own_lengths: Vec::new(),
        }
    }

    /// Number of sequences.
    pub fn sequences(&self) -> usize {
        self.shared_lengths.len()
    }

    /// Number of beams per sequence.
    pub fn beams(&self) -> usize {
        self.beams
    }

    /// Number of attention heads.
    pub(super) fn heads(&self) -> usize {
        self.heads
    }

    /// Device of the keys and values.
    pub(super) fn device(&self) -> Device {
        self.device
    }

    /// Number of tokens of each sequence that all its beams see.
    pub fn shared_lengths(&self) -> &[usize] {
        &self.shared_lengths
    }

    /// Number of tokens of the current piece of each sequence.
    pub fn own_lengths(&self) -> &[usize] {
        &self.own_lengths
    }

    /// Bytes of the allocated memory.
    pub fn bytes(&self) -> usize {
        let [sequences, shared, own] = self.capacity;
        let per_token = 2 * self.layers.len() * self.heads * self.head_size * self.kind.elt_size_in_bytes();
        sequences * (shared + self.beams * own) * per_token
    }

    /// Makes room for a number of sequences, of shared tokens per sequence, and of own tokens per beam.
    ///
    /// # Errors
    /// A [`TchError`], for example out of memory.
    pub(super) fn reserve(&mut self, sequences: usize, shared: usize, own: usize) -> Result<(), TchError> {
        let needed = [sequences, shared.next_multiple_of(SHARED_CHUNK), own.next_multiple_of(OWN_CHUNK)];
        let capacity: [usize; 3] = std::array::from_fn(|i| needed[i].max(self.capacity[i]));
        if capacity == self.capacity {
            return Ok(());
        }
        let [sequences, shared, own] = capacity.map(|size| size as i64);
        let (heads, beams, head_size) = (self.heads as i64, self.beams as i64, self.head_size as i64);
        let grown = |old: &Tensor, shape: &[i64]| {
            let new = Tensor::f_zeros(shape, (self.kind, self.device))?;
            if old.dim() == shape.len() {
                let mut part = new.shallow_clone();
                for (dimension, &size) in old.size().iter().enumerate() {
                    part = part.f_narrow(dimension as i64, 0, size)?;
                }
                part.f_copy_(old)?;
            }
            Ok::<_, TchError>(new)
        };
        no_grad(|| {
            for layer in &mut self.layers {
                // One after the other, so that only one old buffer exists beside its copy.
                if capacity[..2] != self.capacity[..2] {
                    layer.shared = grown(&layer.shared, &[2, sequences, heads, shared, head_size])?;
                }
                if (capacity[0], capacity[2]) != (self.capacity[0], self.capacity[2]) {
                    layer.own = grown(&layer.own, &[2, sequences, heads, beams, own, head_size])?;
                }
            }
            Ok::<_, TchError>(())
        })?;
        self.capacity = capacity;
        Ok(())
    }

    /// Adds sequences with numbers of shared tokens, whose keys and values have been written.
    pub(super) fn add(&mut self, lengths: impl IntoIterator<Item = usize>) {
        self.shared_lengths.extend(lengths);
        self.own_lengths.resize(self.shared_lengths.len(), 0);
    }

    /// Starts another piece of a sequence after `more` further shared tokens, whose keys and values have been written.
    pub(super) fn start_piece(&mut self, sequence: usize, more: usize) {
        self.shared_lengths[sequence] += more;
        self.own_lengths[sequence] = 0;
    }

    /// Counts a token for each beam of each sequence.
    pub(super) fn count_step(&mut self) {
        self.own_lengths.iter_mut().for_each(|length| *length += 1);
    }

    /// Writes keys and values `[tokens, 2 hidden]` of a block as the shared tokens of a sequence from token `first` on.
    pub(super) fn write_shared(&self, layer: usize, sequence: usize, first: usize, values: &Tensor) -> Result<(), TchError> {
        let tokens = values.size2()?.0;
        // [tokens, 2 hidden] -> [2, heads, tokens, head size]
        let values = values.f_view([tokens, 2, self.heads as i64, self.head_size as i64])?.f_permute([1, 2, 0, 3])?;
        let mut place = self.layers[layer].shared.f_select(1, sequence as i64)?.f_narrow(2, first as i64, tokens)?;
        place.f_copy_(&values)
    }

    /// Keys and values of the first `tokens` shared tokens of a sequence: `[1, heads, tokens, head size]` each.
    pub(super) fn shared_of(&self, layer: usize, sequence: usize, tokens: usize) -> Result<[Tensor; 2], TchError> {
        let own = self.layers[layer].shared.f_narrow(1, sequence as i64, 1)?.f_narrow(3, 0, tokens as i64)?;
        Ok([own.f_select(0, 0)?, own.f_select(0, 1)?])
    }

    /// Rows of a block's own keys and values, seen as `[rows, head size]`, that the next token of each beam takes: keys, then values,
    /// each by sequence, head and beam.
    pub(super) fn next_rows(&self) -> Vec<i64> {
        let [sequences, _, own] = self.capacity;
        let mut rows = Vec::with_capacity(2 * self.sequences() * self.heads * self.beams);
        for part in 0..2 {
            for (sequence, length) in self.own_lengths.iter().enumerate() {
                let first = (part * sequences + sequence) * self.heads * self.beams;
                rows.extend((first..first + self.heads * self.beams).map(|beam| (beam * own + length) as i64));
            }
        }
        rows
    }

    /// Writes keys and values `[2 · sequences · heads · beams, head size]` to rows of a block's own keys and values.
    pub(super) fn write_own(&self, layer: usize, rows: &Tensor, values: &Tensor) -> Result<(), TchError> {
        self.layers[layer].own.f_view([-1, self.head_size as i64])?.f_index_copy_(0, rows, values).map(drop)
    }

    /// Appends keys and values of a new token per beam to a block's own tokens, and returns its attention, see [`attention_of_beams`].
    pub(super) fn attend(&self, layer: usize, projected: &Tensor, bias: &Tensor) -> Result<Tensor, TchError> {
        let Layer { shared, own } = &self.layers[layer];
        let (shared_lengths, own_lengths) = (&self.shared_lengths[..], &self.own_lengths[..]);
        attention_of_beams(projected, bias, Cached { shared, own, shared_lengths, own_lengths })
    }

    /// The first `shared` and `own` tokens of all sequences of a block.
    pub(super) fn seen(&self, layer: usize, shared: usize, own: usize) -> Result<Seen, TchError> {
        let part = |stored: &Tensor, index: i64, per_sequence: usize, tokens: usize| {
            let stored = stored.f_select(0, index)?;
            let capacity = stored.size()[stored.dim() - 2];
            let rows = (self.sequences() * per_sequence) as i64;
            let stored = stored.f_view([-1, capacity, self.head_size as i64])?;
            stored.f_narrow(0, 0, rows)?.f_narrow(1, 0, tokens as i64)
        };
        let Layer { shared: of_all, own: of_beams } = &self.layers[layer];
        Ok(Seen {
            shared_key: part(of_all, 0, self.heads, shared)?,
            shared_value: part(of_all, 1, self.heads, shared)?,
            own_key: part(of_beams, 0, self.heads * self.beams, own)?,
            own_value: part(of_beams, 1, self.heads * self.beams, own)?,
        })
    }

    /// Gives each beam of each sequence the own tokens of another beam of its sequence: `parents` has `beams` numbers of beams per
    /// sequence.
    ///
    /// # Errors
    /// A [`TchError`].
    pub fn reorder(&mut self, parents: &[usize]) -> Result<(), TchError> {
        let tokens = self.own_lengths.iter().copied().max().unwrap_or(0);
        let is_identity = parents.iter().enumerate().all(|(beam, &parent)| beam % self.beams == parent);
        if is_identity || tokens == 0 {
            return Ok(());
        }
        let mut rows = Vec::with_capacity(parents.len() * self.heads);
        for (sequence, parents) in parents.chunks(self.beams).enumerate() {
            for head in 0..self.heads {
                rows.extend(parents.iter().map(|parent| ((sequence * self.heads + head) * self.beams + parent) as i64));
            }
        }
        let rows = Tensor::f_from_slice(&rows)?.f_to_device(self.device)?;
        let own = self.capacity[2] as i64;
        no_grad(|| {
            for layer in &self.layers {
                let stored = layer.own.f_view([2, -1, own, self.head_size as i64])?.f_narrow(2, 0, tokens as i64)?;
                let picked = stored.f_index_select(1, &rows)?;
                stored.f_narrow(1, 0, rows.numel() as i64)?.f_copy_(&picked)?;
            }
            Ok(())
        })
    }

    /// Removes a sequence; the last one takes its number.
    ///
    /// # Errors
    /// A [`TchError`].
    pub fn remove(&mut self, sequence: usize) -> Result<(), TchError> {
        let last = self.sequences() - 1;
        if sequence != last {
            let (shared, own) = (self.shared_lengths[last] as i64, self.own_lengths[last] as i64);
            no_grad(|| {
                for layer in &self.layers {
                    for (stored, dimension, tokens) in [(&layer.shared, 2, shared), (&layer.own, 3, own)] {
                        let part = |number: usize| stored.f_select(1, number as i64)?.f_narrow(dimension, 0, tokens);
                        part(sequence)?.f_copy_(&part(last)?)?;
                    }
                }
                Ok::<_, TchError>(())
            })?;
        }
        self.shared_lengths.swap_remove(sequence);
        self.own_lengths.swap_remove(sequence);
        Ok(())
    }
}
