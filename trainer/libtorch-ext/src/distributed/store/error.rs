//! Errors of the store.

use std::time::Duration;

use thiserror::Error;

/// Error of a [`Store`](super::Store).
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StoreError {
    /// The server cannot be started.
    #[error("cannot serve a store at {address}: {reason}")]
    Listen {
        /// Address of the server.
        address: String,
        /// Error of the system.
        reason: String,
    },
    /// No connection to the server within the timeout.
    #[error("cannot connect to the store at {address} within {} s: {reason}", timeout.as_secs_f64())]
    Unreachable {
        /// Address of the server.
        address: String,
        /// Timeout for connecting.
        timeout: Duration,
        /// Reason of the latest attempt.
        reason: String,
    },
    /// The program that listens at this address is not a store.
    #[error("the program that listens at {address} is not a store of this program; use another port")]
    NotAStore {
        /// Address of the program.
        address: String,
    },
    /// Server and client have different secrets.
    #[error("the store at {address} has another secret than this process")]
    WrongSecret {
        /// Address of the server.
        address: String,
    },
    /// The server does not respond: its process is stopped, or its machine cannot be reached.
    #[error("the store at {address} has not responded for {:.1} s", timeout.as_secs_f64())]
    Silent {
        /// Address of the server.
        address: String,
        /// Timeout of the call.
        timeout: Duration,
    },
    /// The connection was closed.
    #[error("lost the connection to the store at {address}: {reason}")]
    Lost {
        /// Address of the server.
        address: String,
        /// Error of the system.
        reason: String,
    },
    /// Keys are not set within the timeout.
    #[error("{} not set in the store at {address} within {} s", keys.join(", "), timeout.as_secs_f64())]
    NotSet {
        /// Keys that were waited for, of which at least one is not set.
        keys: Vec<String>,
        /// Address of the server.
        address: String,
        /// Timeout of the call.
        timeout: Duration,
    },
    /// The server cannot do what was requested, for example because a value is too large.
    #[error("the store at {address} rejects a request: {reason}")]
    Rejected {
        /// Address of the server.
        address: String,
        /// Reason given by the server.
        reason: String,
    },
    /// The system provides no random numbers for a secret.
    #[error("cannot create a secret: the system provides no random numbers: {reason}")]
    Random {
        /// Error of the system.
        reason: String,
    },
}
