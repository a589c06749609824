//! A rank's share of the optimizer state.
//!
//! "ZeRO: Memory Optimizations Toward Training Trillion Parameter Models" (Rajbhandari et al. 2020), stage 1: every rank holds the whole
//! weights with which it computes, receives the sums of its part of the gradients, and updates its part of the weights with its part of the
//! averages. Then the ranks exchange the updated parts.

use std::ops::Range;

use crate::model::parameters::Parameters;

/// Part of the flat buffers that one call of the optimizer updates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Place in the flat buffers.
    pub place: Range<i64>,
    /// Place of its first element in the vectors of the optimizer.
    pub start: i64,
    /// True if weight decay applies.
    pub decay: bool,
    /// The slice of the flat buffers of which each rank has an equal part.
    pub slice: Range<i64>,
}

/// Pieces of the flat buffers that a rank updates, in ascending order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    pieces: Vec<Piece>,
    rank: usize,
    ranks: usize,
}

/// Part of a parameter in the vectors of an optimizer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Index of the parameter.
    pub parameter: usize,
    /// Elements of the parameter, as a vector.
    pub elements: Range<i64>,
    /// Place of the first of them in the vectors of the optimizer.
    pub start: i64,
}

impl Shard {
    /// All of the flat buffers, for a rank that shares nothing.
    pub fn whole(parameters: &Parameters) -> Self {
        let mut start = 0;
        let pieces = parameters.groups().iter().map(|group| {
            let place = start..start + group.values.numel() as i64;
            start = place.end;
            Piece { start: place.start, decay: group.decay, slice: place.clone(), place }
        });
        Self { pieces: pieces.collect(), rank: 0, ranks: 1 }
    }

    /// The part of a rank in each of these slices of the flat buffers, whose lengths are multiples of the number of ranks. No slice has
    /// parameters with and without weight decay.
    pub fn of_rank(parameters: &Parameters, mut slices: Vec<Range<usize>>, rank: usize, ranks: usize) -> Self {
        slices.sort_by_key(|slice| slice.start);
        let decayed = parameters.decayed();
        let mut start = 0;
        let pieces = slices.into_iter().map(|slice| {
            let part = (slice.len() / ranks) as i64;
            let first = slice.start as i64 + part * rank as i64;
            let piece = Piece {
                place: first..first + part,
                start,
                decay: slice.end <= decayed,
                slice: slice.start as i64..slice.end as i64,
            };
            start += part;
            piece
        });
        Self { pieces: pieces.collect(), rank, ranks }
    }

    /// The pieces, in ascending order.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// Rank that updates the pieces.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Number of ranks among which the state is divided; 1 if it is whole.
    pub fn ranks(&self) -> usize {
        self.ranks
    }

    /// Number of elements of all pieces.
    pub fn count(&self) -> i64 {
        self.pieces.iter().map(|piece| piece.place.end - piece.place.start).sum()
    }

    /// Parts of the parameters in the pieces, in the order of the parameters.
    pub fn parts(&self, parameters: &Parameters) -> Vec<Part> {
        let mut parts = Vec::new();
        for (parameter, place) in parameters.places().into_iter().enumerate() {
            let first = self.pieces.partition_point(|piece| piece.place.end <= place.start);
            for piece in self.pieces[first..].iter().take_while(|piece| piece.place.start < place.end) {
                let (from, to) = (place.start.max(piece.place.start), place.end.min(piece.place.end));
                let start = piece.start + from - piece.place.start;
                parts.push(Part { parameter, elements: from - place.start..to - place.start, start });
            }
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;
    use crate::model::parameters::Init;

    fn parameters(ranks: usize) -> Parameters {
        let mut parameters = Parameters::new(Kind::Float, Device::Cpu);
        for (name, shape) in [("bias", &[3][..]), ("weight", &[2, 5]), ("norm", &[7]), ("table", &[4, 3])] {
            let _handle = parameters.add(name.into(), shape, Init::Zeros).expect("parameter");
        }
        parameters.make_divisible(ranks);
        parameters.flatten().expect("flatten");
        parameters
    }

    #[test]
    fn the_parts_of_all_ranks_are_all_elements_once() {
        for ranks in [1, 2, 3, 4] {
            let parameters = parameters(ranks);
            let [decayed, rest] = parameters.groups() else { panic!("two groups") };
            let [decayed, all] = [decayed.values.numel(), decayed.values.numel() + rest.values.numel()];
            let mut seen: Vec<Vec<i64>> =
                parameters.iter().map(|p| vec![0; p.shape().iter().product::<i64>() as usize]).collect();
            for rank in 0..ranks {
                let shard = Shard::of_rank(&parameters, vec![decayed..all, 0..decayed], rank, ranks);
                assert_eq!(shard.count() as usize * ranks, all);
                assert_eq!(shard.pieces().iter().map(|piece| piece.decay).collect::<Vec<_>>(), [true, false]);
                for Part { parameter, elements, start } in shard.parts(&parameters) {
                    assert!(start + elements.end - elements.start <= shard.count());
                    elements.for_each(|element| seen[parameter][element as usize] += 1);
                }
            }
            assert!(seen.iter().flatten().all(|&times| times == 1), "{ranks} ranks: {seen:?}");
        }
    }

    #[test]
    fn a_rank_alone_has_everything() {
        let parameters = parameters(1);
        let shard = Shard::whole(&parameters);
        assert_eq!((shard.count(), shard.ranks()), (32, 1));
        let starts: Vec<_> = shard.parts(&parameters).into_iter().map(|part| (part.parameter, part.start)).collect();
        assert_eq!(starts, [(0, 22), (1, 0), (2, 25), (3, 10)]);
    }
}
