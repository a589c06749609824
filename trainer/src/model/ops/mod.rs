//! Implementations of the model's operations.

pub mod cpu;
