//! The gradient's norm.

use glm_kernels::accumulate::squares;
use libtorch_ext::parallel::for_each;
use tch::{Device, Kind, TchError, Tensor};

use crate::model::parameters::Parameters;

/// Numbers that one task squares.
const NUMBERS_A_TASK: usize = 1 << 16;

/// The norm of all gradients taken as one vector: one 64-bit number on their device.
///
/// # Errors
/// A [`TchError`].
pub fn global_norm(parameters: &Parameters) -> Result<Tensor, TchError> {
    let gradients = parameters.gradients();
    if gradients.device() != Device::Cpu || gradients.f_kind()? != Kind::Float {
        return gradients.f_norm()?.f_totype(Kind::Double);
    }
    // libtorch adds up in 32 bits, which at 335 million numbers shows in the fourth digit.
    // SAFETY: the buffer is contiguous numbers of 32 bits on the CPU, and no backward pass writes to it meanwhile.
    let values = unsafe { std::slice::from_raw_parts(gradients.data_ptr().cast::<f32>(), gradients.numel()) };
    let mut sums = vec![0.0; values.len().div_ceil(NUMBERS_A_TASK)];
    for_each(values.chunks(NUMBERS_A_TASK).zip(&mut sums), |(values, sum)| *sum = squares(values))?;
    Tensor::from(sums.iter().sum::<f64>()).f_sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::parameters::Init;

    #[test]
    fn all_parameters_count() {
        for kind in [Kind::Float, Kind::Double] {
            let mut parameters = Parameters::new(kind, Device::Cpu);
            let weight = parameters.add("weight".into(), &[300, 300], Init::Ones).expect("weight");
            let bias = parameters.add("bias".into(), &[2], Init::Ones).expect("bias");
            parameters.gather().expect("gather");
            parameters.draw().expect("draw");
            parameters.alloc_grads().expect("gradients");
            let loss = weight.sum(kind) + bias.sum(kind) * 150.0;
            loss.backward();
            let norm = global_norm(&parameters).expect("norm").double_value(&[]);
            assert!((norm - 135_000_f64.sqrt()).abs() < 1e-9, "{norm}");
        }
    }
}
