//! Global gradient norm.

use glm_kernels::accumulate::squares;
use libtorch_ext::parallel::for_each;
use tch::{Device, Kind, TchError, Tensor};

use super::shard::{Piece, Shard};
use crate::model::parameters::Parameters;

/// Elements summed per task.
const ELEMENTS_PER_TASK: usize = 1 << 16;

/// Returns the L2 norm of all gradients as one vector: a 64-bit scalar on their device.
///
/// # Errors
/// A [`TchError`].
pub fn global_norm(parameters: &Parameters) -> Result<Tensor, TchError> {
    squared_norm(parameters.gradients())?.f_sqrt()
}

/// Returns the sum of the squares of the gradients in a rank's pieces: a 64-bit scalar on their device. The sum over all ranks is the
/// square of the norm.
///
/// # Errors
/// A [`TchError`].
pub fn squared_norm_of(shard: &Shard, parameters: &Parameters) -> Result<Tensor, TchError> {
    if shard.ranks() == 1 && parameters.totals().is_none() {
        return squared_norm(parameters.gradients());
    }
    // The same sums whether ranks divide gradients or not.
    let of_piece = |piece: &Piece| {
        let count = piece.place.end - piece.place.start;
        squared_norm(&match parameters.totals() {
            Some(totals) => totals.f_narrow(0, piece.start, count)?,
            None => parameters.gradients().f_narrow(0, piece.place.start, count)?,
        })
    };
    let sums = shard.pieces().iter().map(of_piece).collect::<Result<Vec<_>, _>>()?;
    Tensor::f_stack(&sums, 0)?.f_sum(Kind::Double)
}

fn squared_norm(gradients: &Tensor) -> Result<Tensor, TchError> {
    if gradients.device() != Device::Cpu || gradients.f_kind()? != Kind::Float {
        return gradients.f_norm()?.f_totype(Kind::Double)?.f_square();
    }
    // libtorch accumulates in fp32, which for 335 million elements is off in the fourth digit.
    // SAFETY: the gradients are a contiguous fp32 tensor on the CPU, and no backward pass writes to it during this call.
    let values = unsafe { std::slice::from_raw_parts(gradients.data_ptr().cast::<f32>(), gradients.numel()) };
    let mut sums = vec![0.0; values.len().div_ceil(ELEMENTS_PER_TASK)];
    for_each(values.chunks(ELEMENTS_PER_TASK).zip(&mut sums), |(values, sum)| *sum = squares(values))?;
    Ok(Tensor::from(sums.iter().sum::<f64>()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::parameters::Init;

    #[test]
    fn the_norm_covers_all_parameters() {
        for kind in [Kind::Float, Kind::Double] {
            let mut parameters = Parameters::new(kind, Device::Cpu);
            let weight = parameters.add("weight".into(), &[300, 300], Init::Ones).expect("weight");
            let bias = parameters.add("bias".into(), &[2], Init::Ones).expect("bias");
            parameters.flatten().expect("flatten");
            parameters.draw().expect("draw");
            parameters.alloc_grads().expect("gradients");
            let loss = weight.sum(kind) + bias.sum(kind) * 150.0;
            loss.backward();
            let norm = global_norm(&parameters).expect("norm").double_value(&[]);
            assert!((norm - 135_000_f64.sqrt()).abs() < 1e-9, "{norm}");
            let whole = squared_norm_of(&Shard::whole(&parameters), &parameters).expect("squares").double_value(&[]);
            assert!((whole - 135_000_f64).abs() < 1e-6, "{whole}");
        }
    }
}
