//! The packed batch, on the host and on a device: what data loading hands to the model.

pub mod blocks;
pub mod copy_stream;
pub mod device;
pub mod key;
pub mod layout;
pub mod out_of_memory;
pub mod packed;
pub mod transfer;
pub mod work;
