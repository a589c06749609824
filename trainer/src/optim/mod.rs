//! What turns gradients into new weights: [`adamw`], its learning rate [`schedule`], the gradient's norm ([`clip`]) and the
//! [`loss_scale`] that half precision needs. [`control`] puts the last three together, without a host that waits.

pub mod adamw;
pub mod clip;
pub mod control;
pub mod loss_scale;
pub mod schedule;
