//! Selection of the implementation of the model's operations.

use tch::{Device, Kind, TchError};

use super::ops::Ops;
use super::ops::cpu::{self, CpuOps};
use super::ops::torch::TorchOps;
use super::pass::{Kernels, Pass};
use crate::batch::device::DeviceBatch;
use crate::batch::layout::LayoutKind;

/// Implementation of [`Ops`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// [`TorchOps`].
    Torch,
    /// [`CpuOps`].
    Cpu,
}

impl Backend {
    /// Selects the implementation for activations of one kind and parameters of another on a device.
    pub fn select(kernels: Kernels, device: Device, activations: Kind, parameters: Kind) -> Self {
        match kernels {
            Kernels::Auto if cpu::is_supported(device, activations, parameters) => Self::Cpu,
            Kernels::Auto | Kernels::Torch => Self::Torch,
        }
    }

    /// Layout that the implementation needs.
    pub fn layout(self) -> LayoutKind {
        match self {
            Self::Torch => LayoutKind::Padded,
            Self::Cpu => LayoutKind::Packed,
        }
    }

    /// Operations on one batch.
    ///
    /// # Errors
    /// A [`TchError`] where the batch has another layout.
    pub(super) fn ops<'a>(self, batch: &'a DeviceBatch, pass: &Pass) -> Result<Box<dyn Ops + 'a>, TchError> {
        Ok(match self {
            Self::Torch => Box::new(TorchOps::new(batch, pass)?),
            Self::Cpu => Box::new(CpuOps::new(batch, pass)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fused_kernels_are_selected_on_cpus_only() {
        let select = |kernels, device, kind| Backend::select(kernels, device, kind, Kind::Float);
        assert_eq!(select(Kernels::Auto, Device::Cpu, Kind::Float), Backend::Cpu);
        assert_eq!(select(Kernels::Auto, Device::Cpu, Kind::BFloat16), Backend::Cpu);
        assert_eq!(select(Kernels::Auto, Device::Cuda(0), Kind::Float), Backend::Torch);
        assert_eq!(select(Kernels::Auto, Device::Cpu, Kind::Half), Backend::Torch);
        assert_eq!(select(Kernels::Torch, Device::Cpu, Kind::Float), Backend::Torch);
        assert_eq!(Backend::select(Kernels::Auto, Device::Cpu, Kind::Double, Kind::Double), Backend::Cpu);
    }
}
