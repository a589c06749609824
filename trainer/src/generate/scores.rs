//! Log probabilities of the next tokens, from the logits of a model.

use glm_kernels::number::{Element, Real};
use glm_kernels::scores::log_sum_exp;
use libtorch_ext::parallel::for_each;
use tch::{Device, Kind, TchError, Tensor};

use super::candidates::{Candidate, Wanted, best_first, candidates};

/// Candidates that are copied from a GPU beyond those that are wanted, in case of ties.
const SPARE: usize = 24;
/// From this number on, all of a GPU's log probabilities are copied.
const MANY: usize = 2048;

/// Log probabilities of some rows, `log softmax(logits)` in 32 bits at least.
#[derive(Debug)]
pub(super) struct LogProbs {
    vocabulary: usize,
    copy: Copied,
}

/// Log probabilities on the host.
#[derive(Debug)]
enum Copied {
    Single(Vec<f32>),
    Double(Vec<f64>),
    Best {
        /// The best of each row, best first, in no order among equals.
        best: Vec<Vec<Candidate>>,
        /// Log probabilities on the device, `[rows, vocabulary]`.
        rows: Tensor,
    },
}

impl LogProbs {
    /// Computes log probabilities of logits `[rows, vocabulary]` and copies what is wanted to the host.
    ///
    /// # Errors
    /// A [`TchError`].
    pub(super) fn new(logits: &Tensor, wanted: Wanted) -> Result<Self, TchError> {
        let is_on_host = logits.device() == Device::Cpu;
        tch::no_grad(|| Self::with(logits, wanted, is_on_host))
    }

    fn with(logits: &Tensor, wanted: Wanted, is_on_host: bool) -> Result<Self, TchError> {
        let vocabulary = logits.size2()?.1 as usize;
        let kind = if logits.f_kind()? == Kind::Double { Kind::Double } else { Kind::Float };
        if is_on_host {
            let copy = match copy_all(&logits.f_totype(kind)?)? {
                Copied::Double(mut rows) => normalize(&mut rows, vocabulary).map(|()| Copied::Double(rows)),
                Copied::Single(mut rows) => normalize(&mut rows, vocabulary).map(|()| Copied::Single(rows)),
                best => Ok(best),
            };
            return Ok(Self { vocabulary, copy: copy? });
        }
        let rows = logits.f_log_softmax(-1, kind)?;
        let count = match wanted {
            Wanted::Best(count) => count + SPARE,
            Wanted::All => vocabulary,
        };
        let copy = match count > MANY.min(vocabulary) {
            true => copy_all(&rows)?,
            false => Copied::Best { best: copy_best(&rows, count)?, rows },
        };
        Ok(Self { vocabulary, copy })
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
            (Copied::Best { best, rows }, Wanted::Best(count)) => {
                let best = &best[row];
                // If all that was copied ties with the last one wanted, there may be more of them.
                let is_cut = count.checked_sub(1).is_some_and(|last| match (best.get(last), best.last()) {
                    (Some(wanted), Some(last)) => wanted.log_prob == last.log_prob,
                    _ => best.len() < count,
                });
                if is_cut {
                    return whole_row(rows, row, wanted);
                }
                let mut best = best.clone();
                super::candidates::keep_best(&mut best, count);
                best
            }
            (Copied::Best { rows, .. }, Wanted::All) => whole_row(rows, row, wanted)?,
        })
    }
}

fn whole_row(rows: &Tensor, row: usize, wanted: Wanted) -> Result<Vec<Candidate>, TchError> {
    Ok(match copy_all(&rows.f_narrow(0, row as i64, 1)?)? {
        Copied::Double(all) => candidates(&all, wanted),
        Copied::Single(all) => candidates(&all, wanted),
        Copied::Best { .. } => Vec::new(),
    })
}

/// Replaces rows of logits by log probabilities.
fn normalize<R: Real + Element<Real = R>>(rows: &mut [R], vocabulary: usize) -> Result<(), TchError> {
    for_each(rows.chunks_mut(vocabulary), |row| {
        let mut sum = [R::ZERO];
        log_sum_exp(row, vocabulary, &mut sum);
        for number in row {
            *number -= sum[0];
        }
    })
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

fn copy_best(rows: &Tensor, count: usize) -> Result<Vec<Vec<Candidate>>, TchError> {
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
    Ok(rows.collect())
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
                let (best, all) = (best.row(row, wanted).expect("row"), all.row(row, wanted).expect("row"));
                assert_eq!(best.len(), all.len(), "{wanted:?} {row}");
                for (best, all) in best.iter().zip(&all) {
                    assert!(best.token == all.token && (best.log_prob - all.log_prob).abs() < 1e-5, "{wanted:?} {row}");
                }
            }
        }
        assert_eq!(LogProbs::with(&logits, Wanted::Best(5), true).expect("rows").row(2, Wanted::All).expect("row").len(), 1);
    }
}
