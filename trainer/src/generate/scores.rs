//! Log probabilities of the next tokens, from the logits of a model.

use tch::{Device, Kind, TchError, Tensor};

use super::candidates::{Candidate, Wanted, best_first, candidates};

/// Candidates that are copied from a GPU beyond those that are wanted, in case of ties.
const SPARE: usize = 24;
/// From this number on, all of a GPU's log probabilities are copied.
const MANY: usize = 2048;

/// Log probabilities of some rows, `log softmax(logits)` in 32 bits at least.
#[derive(Debug)]
pub(super) struct LogProbs {
    rows: Tensor,
    vocabulary: usize,
    copy: Copied,
}

/// What was copied from the device.
#[derive(Debug)]
enum Copied {
    Single(Vec<f32>),
    Double(Vec<f64>),
    /// The best of each row, best first, in no order among equals.
    Best(Vec<Vec<Candidate>>),
}

impl LogProbs {
    /// Computes log probabilities of logits `[rows, vocabulary]` and copies what is wanted to the host.
    ///
    /// # Errors
    /// A [`TchError`].
    pub(super) fn new(logits: &Tensor, wanted: Wanted) -> Result<Self, TchError> {
        let copies_all = logits.device() == Device::Cpu;
        tch::no_grad(|| Self::with(logits, wanted, copies_all))
    }

    fn with(logits: &Tensor, wanted: Wanted, copies_all: bool) -> Result<Self, TchError> {
        let kind = if logits.f_kind()? == Kind::Double { Kind::Double } else { Kind::Float };
        let rows = logits.f_log_softmax(-1, kind)?;
        let vocabulary = rows.size2()?.1 as usize;
        let count = match wanted {
            Wanted::Best(count) => count + SPARE,
            Wanted::All => vocabulary,
        };
        let copy = if copies_all || count > MANY.min(vocabulary) { copy_all(&rows)? } else { copy_best(&rows, count)? };
        Ok(Self { rows, vocabulary, copy })
    }

    /// The wanted candidates of a row, best first; no more than was asked for.
    ///
    /// # Errors
    /// A [`TchError`].
    pub(super) fn row(&self, row: usize, wanted: Wanted) -> Result<Vec<Candidate>, TchError> {
        let numbers = row * self.vocabulary..(row + 1) * self.vocabulary;
        Ok(match (&self.copy, wanted) {
            (Copied::Single(all), _) => candidates(&all[numbers], wanted),
            (Copied::Double(all), _) => candidates(&all[numbers], wanted),
            (Copied::Best(best), Wanted::Best(count)) => {
                let best = &best[row];
                // If all that was copied ties with the last one wanted, there may be more of them.
                let is_cut = count.checked_sub(1).is_some_and(|last| match (best.get(last), best.last()) {
                    (Some(wanted), Some(last)) => wanted.log_prob == last.log_prob,
                    _ => best.len() < count,
                });
                if is_cut {
                    return self.whole_row(row, wanted);
                }
                let mut best = best.clone();
                super::candidates::keep_best(&mut best, count);
                best
            }
            (Copied::Best(_), Wanted::All) => self.whole_row(row, wanted)?,
        })
    }

    fn whole_row(&self, row: usize, wanted: Wanted) -> Result<Vec<Candidate>, TchError> {
        let row = self.rows.f_narrow(0, row as i64, 1)?.f_to_device(Device::Cpu)?;
        Ok(match copy_all(&row)? {
            Copied::Double(all) => candidates(&all, wanted),
            Copied::Single(all) => candidates(&all, wanted),
            Copied::Best(_) => Vec::new(),
        })
    }
}

fn copy_all(rows: &Tensor) -> Result<Copied, TchError> {
    let (rows, numbers) = (rows.f_to_device(Device::Cpu)?.f_contiguous()?, rows.numel());
    if rows.f_kind()? == Kind::Double {
        let mut all = vec![0.0; numbers];
        rows.f_copy_data(&mut all, numbers)?;
        return Ok(Copied::Double(all));
    }
    let mut all = vec![0.0; numbers];
    rows.f_copy_data(&mut all, numbers)?;
    Ok(Copied::Single(all))
}

fn copy_best(rows: &Tensor, count: usize) -> Result<Copied, TchError> {
    let (values, tokens) = rows.f_topk(count as i64, -1, true, true)?;
    let values = Vec::<f64>::try_from(values.f_to_device(Device::Cpu)?.f_totype(Kind::Double)?.f_reshape([-1])?)?;
    let tokens = Vec::<i64>::try_from(tokens.f_to_device(Device::Cpu)?.f_reshape([-1])?)?;
    let pairs: Vec<_> = values.into_iter().zip(tokens).collect();
    let rows = pairs.chunks(count).map(|row| {
        let possible = row.iter().filter(|(log_prob, _)| *log_prob > f64::NEG_INFINITY);
        let mut row: Vec<_> = possible.map(|&(log_prob, token)| Candidate { token: token as i32, log_prob }).collect();
        row.sort_unstable_by(best_first);
        row
    });
    Ok(Copied::Best(rows.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_of_a_gpu_are_those_of_the_whole_row() {
        tch::manual_seed(3);
        let logits = Tensor::randn([4, 300], (Kind::Float, Device::Cpu)).totype(Kind::BFloat16);
        // A row in which all tie, and one with a single possible token.
        let _filled = logits.select(0, 1).fill_(0.5);
        let _filled = logits.select(0, 2).narrow(0, 1, 299).fill_(f64::NEG_INFINITY);
        for wanted in [Wanted::Best(0), Wanted::Best(1), Wanted::Best(5), Wanted::Best(60), Wanted::All] {
            let all = LogProbs::with(&logits, wanted, true).expect("log probabilities");
            let best = LogProbs::with(&logits, wanted, false).expect("log probabilities");
            for row in 0..4 {
                assert_eq!(best.row(row, wanted).expect("row"), all.row(row, wanted).expect("row"), "{wanted:?} {row}");
            }
        }
        assert_eq!(LogProbs::with(&logits, Wanted::Best(5), true).expect("rows").row(2, Wanted::All).expect("row").len(), 1);
    }
}
