//! Selection of the implementation of the model's operations.

use std::sync::Once;

use tch::{Device, Kind, TchError};

use super::config::ModelConfig;
use super::ops::Ops;
use super::ops::cpu::{self, CpuOps};
use super::ops::cuda::{self, CudaOps, launch};
use super::ops::torch::TorchOps;
use super::parameters::Parameters;
use super::pass::{Kernels, Pass};
use crate::batch::device::DeviceBatch;
use crate::batch::layout::LayoutKind;

/// A run selects an implementation for every batch, but warns about a slow one once.
static WARNED: Once = Once::new();

/// Implementation of [`Ops`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// [`TorchOps`].
    Torch,
    /// [`CpuOps`].
    Cpu,
    /// [`CudaOps`].
    Cuda,
}

impl Backend {
    /// Selects the implementation for activations of one kind and parameters of another on a device.
    pub fn select(kernels: Kernels, device: Device, activations: Kind, parameters: Kind, config: &ModelConfig) -> Self {
        if kernels == Kernels::Torch {
            return Self::Torch;
        }
        if cpu::is_supported(device, activations, parameters) {
            return Self::Cpu;
        }
        match cuda::unsupported(device, activations, parameters, config) {
            None => Self::Cuda,
            Some(reason) => {
                if device.is_cuda() && activations != Kind::Float {
                    WARNED.call_once(|| {
                        tracing::warn!(
                            "the CUDA kernels are not used: {reason}; libtorch's operators are several times slower"
                        );
                    });
                }
                Self::Torch
            }
        }
    }

    /// Layout that the implementation needs.
    pub fn layout(self) -> LayoutKind {
        match self {
            Self::Torch => LayoutKind::Padded,
            Self::Cpu => LayoutKind::Packed,
            Self::Cuda => LayoutKind::Blocks,
        }
    }

    /// Kind of the copies of weights with which passes with activations in one kind compute, if it is not that of the parameters. A CPU
    /// casts weights in each pass unless there are copies.
    pub fn copies(self, activations: Kind, parameters: Kind) -> Option<Kind> {
        (self != Self::Torch && activations != parameters).then_some(activations)
    }

    /// Operations on one batch.
    ///
    /// # Errors
    /// A [`TchError`] where the batch has another layout.
    pub(super) fn ops<'a>(
        self,
        batch: &'a DeviceBatch,
        pass: &Pass,
        parameters: &'a Parameters,
    ) -> Result<Box<dyn Ops + 'a>, TchError> {
        Ok(match self {
            Self::Torch => Box::new(TorchOps::new(batch, pass)?),
            Self::Cpu => Box::new(CpuOps::new(batch, pass, parameters)),
            Self::Cuda => {
                let runner = launch::runner(parameters.device()).map_err(TchError::Torch)?;
                Box::new(CudaOps::new(batch, pass, parameters, runner)?)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::preset::Preset;

    #[test]
    fn fused_kernels_are_selected_on_cpus_only() {
        let config = Preset::TINY.config();
        let select = |kernels, device, kind| Backend::select(kernels, device, kind, Kind::Float, &config);
        assert_eq!(select(Kernels::Auto, Device::Cpu, Kind::Float), Backend::Cpu);
        assert_eq!(select(Kernels::Auto, Device::Cpu, Kind::BFloat16), Backend::Cpu);
        assert_eq!(select(Kernels::Auto, Device::Cuda(0), Kind::Float), Backend::Torch);
        assert_eq!(select(Kernels::Auto, Device::Cpu, Kind::Half), Backend::Torch);
        assert_eq!(select(Kernels::Torch, Device::Cpu, Kind::Float), Backend::Torch);
        assert_eq!(Backend::select(Kernels::Auto, Device::Cpu, Kind::Double, Kind::Double, &config), Backend::Cpu);
        assert_eq!(Backend::Cpu.copies(Kind::BFloat16, Kind::Float), Some(Kind::BFloat16));
        assert_eq!(Backend::Cpu.copies(Kind::Float, Kind::Float), None);
        assert_eq!(Backend::Torch.copies(Kind::Half, Kind::Float), None);
    }
}
