//! Speed of a matrix product alone, with which the speed of training is compared.

use std::time::{Duration, Instant};

use libtorch_ext::operators::matmul_nt;
use tch::{Device, Kind, TchError, Tensor};

use super::config::ModelConfig;

/// Products to measure on one kind of device.
#[derive(Debug, Clone, Copy)]
struct Series {
    /// Rows of the left factor.
    tokens: i64,
    /// Products that are timed together.
    together: usize,
    /// Maximum number of measurements, of which the fastest counts.
    measurements: usize,
}

/// No measurement starts after this time, which large models on a CPU exceed with the first one.
const TIME_LIMIT: Duration = Duration::from_millis(250);

/// Minimum width of the product: narrower ones take longer to start and to write their result than to compute, so a device does not
/// reach its speed with them, and a tiny model could be faster than the product that it is compared with.
const MIN_WIDTH: i64 = 512;

impl Series {
    fn on(device: Device) -> Self {
        if device.is_cuda() {
            // A product takes less time than its launch and the wait for it, so one alone would measure these.
            return Self { tokens: 16_384, together: 20, measurements: 3 };
        }
        Self { tokens: 2048, together: 1, measurements: 5 }
    }
}

/// Returns the operations per second of the matrix product of the feed-forward layer, of a width of at least 512: over 16,384 tokens on a
/// GPU, 2,048 on a CPU.
///
/// Draws no random numbers, so that a measurement changes no result of the program.
///
/// # Errors
/// A [`TchError`], for example out of memory.
pub fn matmul_flops(config: &ModelConfig, kind: Kind, device: Device) -> Result<f64, TchError> {
    let (Series { tokens, together, measurements }, hidden) = (Series::on(device), MIN_WIDTH.max(config.hidden as i64));
    // A GPU's clock depends on the bits that change, so constant factors would be too fast.
    let factor =
        |rows: i64| Tensor::f_arange(rows * hidden, (Kind::Float, device))?.f_sin()?.f_view([rows, hidden])?.f_totype(kind);
    let (x, weight) = (factor(tokens)?, factor(4 * hidden)?);
    let wait = || {
        if let Device::Cuda(index) = device {
            tch::Cuda::synchronize(index as i64);
        }
    };
    let (begin, mut fastest) = (Instant::now(), f64::INFINITY);
    for i in 0..measurements {
        if i > 0 && begin.elapsed() > TIME_LIMIT {
            break;
        }
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
        let flops = matmul_flops(&Preset::TINY.config(), Kind::Float, Device::Cpu).expect("product");
        assert!(flops.is_finite() && flops > 1e6, "{flops}");
    }
}
