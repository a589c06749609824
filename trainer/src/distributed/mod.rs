//! Distributed training with several processes, based on the store and process groups of [`libtorch_ext::distributed`].
//!
//! - [`launcher`] starts the processes of a run on this machine and supervises them.
//! - [`Environment`] has the rank of this process and the address of the store, set by a launcher.
//! - [`World`] has the collectives and values shared by all ranks.
//! - [`Exchange`] has the values that ranks exchange on a background thread, while training continues.
//! - [`Identity`] describes what must be equal on all ranks: program, settings and data set.
//! - [`checksum`] compares the weights of all ranks.
//! - [`failure`] publishes the failure of a rank in the store. Heartbeats detect ranks that are gone or hang.
//!
//! [`crate::data::balance`] distributes the questions of a step, and [`crate::train::step`] reduces their gradients.

pub mod checksum;
mod context;
mod diagnosis;
mod environment;
mod error;
mod exchange;
pub mod failure;
mod heartbeat;
mod identity;
pub mod launcher;
mod monitor;
mod rendezvous;
mod values;
mod world;

pub use environment::{Environment, EnvironmentError, StoreServer};
pub use error::DistributedError;
pub use exchange::Exchange;
pub use heartbeat::Phase;
pub use identity::Identity;
pub use monitor::OnHang;
pub use world::World;
