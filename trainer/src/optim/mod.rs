//! What turns gradients into new weights: [`adamw`], its learning rate [`schedule`], the gradient's norm ([`clip`]) and the
//! [`loss_scale`] that half precision needs; [`spikes`] tells steps that are out of the ordinary. [`control`] puts the last
//! four together, without a host that waits.

pub mod adamw;
pub mod clip;
pub mod control;
pub mod loss_scale;
pub mod schedule;
pub mod spikes;
