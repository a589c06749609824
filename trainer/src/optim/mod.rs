//! Optimizer step: from gradients to new weights.
//!
//! [`adamw`] updates the weights, [`schedule`] gives the learning rate, [`clip`] computes the gradient norm, [`loss_scale`] keeps
//! half-precision gradients in range, [`spikes`] detects outliers, and [`shard`] divides the state among ranks. [`control`] combines them without waiting for the host.

pub mod adamw;
pub mod clip;
pub mod control;
pub mod loss_scale;
pub mod schedule;
pub mod shard;
pub mod spikes;

/// Devices that tests run on: the CPU, and the first GPU if this build and machine have one.
#[cfg(test)]
fn devices() -> Vec<tch::Device> {
    let has_gpu = libtorch_ext::cuda::load().is_ok() && tch::Cuda::device_count() > 0;
    std::iter::once(tch::Device::Cpu).chain(has_gpu.then_some(tch::Device::Cuda(0))).collect()
}
