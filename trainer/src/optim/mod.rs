//! What turns gradients into new weights: [`adamw`], its learning rate [`schedule`], gradient [`clip`]ping and the
//! [`loss_scale`] that half precision needs.

pub mod adamw;
pub mod clip;
pub mod loss_scale;
pub mod schedule;
