//! Speed of a matrix product alone, with which the speed of training is compared.

use std::time::Instant;

use libtorch_ext::operators::matmul_nt;
use tch::{Device, Kind, TchError, Tensor};

use crate::model::ModelConfig;

/// Products to measure on one kind of device.
#[derive(Debug, Clone, Copy)]
struct Series {
    /// Rows of the left factor.
    tokens: i64,
    /// Products that are timed together.
    together: usize,
    /// Measurements, of which the fastest counts.
    measurements: usize,
}

impl Series {
    fn on(device: Device) -> Self {
        if device.is_cuda() {
            // A product takes less time than its launch and the wait for it, so one alone would measure these.
            return Self { tokens: 16_384, together: 20, measurements: 3 };
        }
        Self { tokens: 2048, together: 1, measurements: 5 }
    }
}

/// Operations per second of the matrix product of the feed-forward layer: over 16,384 tokens on a GPU, 2,048 on a CPU.
///
/// # Errors
/// A [`TchError`], for example out of memory.
pub(super) fn speed(config: &ModelConfig, kind: Kind, device: Device) -> Result<f64, TchError> {
    let (Series { tokens, together, measurements }, hidden) = (Series::on(device), config.hidden as i64);
    let random = |rows: i64| Tensor::f_randn([rows, hidden], (Kind::Float, device))?.f_totype(kind);
    let (x, weight) = (random(tokens)?, random(4 * hidden)?);
    let wait = || {
        if let Device::Cuda(index) = device {
            tch::Cuda::synchronize(index as i64);
        }
    };
    let mut fastest = f64::INFINITY;
    for _ in 0..measurements {
        wait();
        let start = Instant::now();
        for _ in 0..together {
            let _product = matmul_nt(&x, &weight)?;
        }
        wait();
        fastest = fastest.min(start.elapsed().as_secs_f64());
    }
    Ok(together as f64 * (8 * tokens * hidden * hidden) as f64 / fastest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Preset;

    #[test]
    fn a_product_has_a_speed() {
        let flops = speed(&Preset::TINY.config(), Kind::Float, Device::Cpu).expect("product");
        assert!(flops.is_finite() && flops > 1e6, "{flops}");
    }
}
