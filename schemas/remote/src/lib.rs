//! Files in object stores, behind a blocking interface.
//!
//! - A [`Location`] is parsed from `s3://`, `gs://`, `az://`, `https://` or `hf://`.
//! - A [`Store`] lists, reads, writes and deletes the files at and below a location. Reads continue where a broken connection ended;
//!   large files are written in parts and appear only when they are complete.
//! - The [`cache`] keeps files on disk, up to a limit, for programs that map them into memory.
//! - [`RemoteDataSet`] and [`local_weights`] bring a data set or weights into the cache and return their folder.
//!
//! Credentials come from the environment variables and files that the tools of each cloud read.
//!
//! ```
//! use glm_remote::Location;
//!
//! let shards: Location = "s3://bucket/record/shards".parse()?;
//! assert_eq!(shards.join("manifest.json").to_string(), "s3://bucket/record/shards/manifest.json");
//! # Ok::<_, glm_remote::RemoteError>(())
//! ```

pub mod cache;
#[cfg(all(test, feature = "network"))]
mod cache_tests;
mod data_set;
mod download;
mod environment;
mod error;
#[cfg(feature = "network")]
mod http;
mod location;
#[cfg(not(feature = "network"))]
mod no_store;
mod object;
#[cfg(feature = "network")]
mod store;
mod sums;
mod weights;

pub use data_set::{RemoteDataSet, find_manifest, local_data_set};
pub use download::Expected;
pub use error::RemoteError;
pub use glm_support::files::output::is_url;
pub use location::Location;
#[cfg(not(feature = "network"))]
pub use no_store::{Reader, Store};
pub use object::Object;
#[cfg(feature = "network")]
pub use store::{Reader, Store};
pub use sums::{SUMS_FILE, sums_of};
pub use weights::{Step, checksums, local_file, local_weights};
