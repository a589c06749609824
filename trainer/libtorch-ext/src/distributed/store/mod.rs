//! Key-value store for rendezvous.
//!
//! c10d's own `TCPStore` is not used: its clients wait for the server without a limit, its server waits for each client in turn,
//! and everyone who can connect may read and write it.

mod c10d;
mod client;
mod error;
mod protocol;
mod secret;
mod server;
mod table;

use std::net::{IpAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use client::Client;
use protocol::{Reply, Request};
use server::Server;

pub(super) use c10d::CALLS;
pub use error::StoreError;
pub use secret::Secret;

/// Address, secret and timeout of a [`Store`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreOptions {
    /// Host name or address of the server. The server listens on this address only.
    pub host: String,
    /// Port of the server. If the server is started with port 0, it uses a free port; see [`Store::port`].
    pub port: u16,
    /// Secret that server and clients must share. With [`Secret::none`], everyone who can connect to the server can read and
    /// write the store. Messages are not encrypted in either case.
    pub secret: Secret,
    /// Timeout for connecting to the server, for each of its replies, and for waiting for a key.
    pub timeout: Duration,
}

impl Default for StoreOptions {
    /// This machine without a secret, with PyTorch's default port and timeout.
    fn default() -> Self {
        Self { host: "127.0.0.1".into(), port: 29500, secret: Secret::none(), timeout: Duration::from_secs(300) }
    }
}

/// Key-value store shared by all ranks.
///
/// Every call ends within [`StoreOptions::timeout`], also if the server is stopped. After the first call without a reply, the
/// connection is broken, and later calls fail at once with the same error.
///
/// The server runs until the store that started it, its clones and the groups created with them are dropped; later calls of
/// other processes fail. Calls on one store block each other, so a thread that uses the store while another thread waits for a
/// key needs its own connection; see [`Store::try_clone`].
///
/// Keys and values of a message are limited to 16 MiB, and those of the store to 256 MiB.
#[derive(Debug)]
pub struct Store {
    client: Client,
    options: StoreOptions,
    /// Keeps the server alive in the process that serves the store.
    server: Option<Arc<Server>>,
}

impl Store {
    /// Calls [`Self::serve`] on rank 0 and [`Self::connect`] on other ranks.
    ///
    /// # Errors
    /// The errors of these functions.
    pub fn open(rank: usize, options: &StoreOptions) -> Result<Self, StoreError> {
        if rank == 0 { Self::serve(options) } else { Self::connect(options) }
    }

    /// Starts the server, without waiting for clients.
    ///
    /// # Errors
    /// A [`StoreError`] if the address is not an address of this machine, or if the port is in use.
    pub fn serve(options: &StoreOptions) -> Result<Self, StoreError> {
        let (host, port) = (options.host.as_str(), options.port);
        let server = TcpListener::bind((host, port))
            .and_then(|listener| Server::start(listener, options.secret.clone()))
            .map_err(|error| StoreError::Listen { address: format!("{host}:{port}"), reason: error.to_string() })?;
        let options = StoreOptions { port: server.address().port(), ..options.clone() };
        Ok(Self { client: Client::connect(&options)?, options, server: Some(Arc::new(server)) })
    }

    /// Connects to the server, waiting for it to start.
    ///
    /// # Errors
    /// A [`StoreError`] if it does not start within [`StoreOptions::timeout`], or if it has another secret.
    pub fn connect(options: &StoreOptions) -> Result<Self, StoreError> {
        Ok(Self { client: Client::connect(options)?, options: options.clone(), server: None })
    }

    /// Opens another connection to the same server.
    ///
    /// # Errors
    /// A [`StoreError`] if the server cannot be reached.
    pub fn try_clone(&self) -> Result<Self, StoreError> {
        let options = StoreOptions { timeout: self.client.timeout(), ..self.options.clone() };
        Ok(Self { client: Client::connect(&options)?, options, server: self.server.clone() })
    }

    /// Address of the server: host and port.
    pub fn address(&self) -> &str {
        self.client.address()
    }

    /// Port of the server.
    pub fn port(&self) -> u16 {
        self.options.port
    }

    /// Returns the timeout of calls.
    pub fn timeout(&self) -> Duration {
        self.client.timeout()
    }

    /// Changes the timeout of later calls on this connection.
    pub fn set_timeout(&self, timeout: Duration) {
        self.client.set_timeout(timeout);
    }

    /// Closes this connection. Calls in progress on other threads fail, and so do later calls.
    pub fn close(&self) {
        self.client.close();
    }

    /// Sets the value of `key`.
    ///
    /// # Errors
    /// A [`StoreError`] if the server does not respond, or if the store is full.
    pub fn set(&self, key: &str, value: &[u8]) -> Result<(), StoreError> {
        self.set_bytes(key.as_bytes(), value)
    }

    /// Returns the value of `key`, waiting until it is set.
    ///
    /// # Errors
    /// A [`StoreError`] if it is not set within the timeout, or if the server does not respond.
    pub fn get(&self, key: &str) -> Result<Vec<u8>, StoreError> {
        self.get_bytes(key.as_bytes(), self.timeout())
    }

    /// Adds `amount` to the integer at `key`, which is initially 0, and returns the sum. [`Self::get`] returns its decimal
    /// digits.
    ///
    /// # Errors
    /// A [`StoreError`] if the value is not an integer, or if the server does not respond.
    pub fn add(&self, key: &str, amount: i64) -> Result<i64, StoreError> {
        self.number(&Request::Add { key: key.as_bytes(), amount })
    }

    /// Returns true if all of `keys` have a value, without waiting.
    ///
    /// # Errors
    /// A [`StoreError`] if the server does not respond.
    pub fn check(&self, keys: &[&str]) -> Result<bool, StoreError> {
        let keys = keys.iter().map(|key| key.as_bytes()).collect();
        Ok(self.number(&Request::Check { keys })? != 0)
    }

    /// Waits until all of `keys` have a value.
    ///
    /// # Errors
    /// A [`StoreError`] if they have none after `timeout`, or if the server does not respond.
    pub fn wait(&self, keys: &[&str], timeout: Duration) -> Result<(), StoreError> {
        self.wait_bytes(keys.iter().map(|key| key.as_bytes()).collect(), timeout)
    }

    fn set_bytes(&self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        match self.client.call(&Request::Set { key, value })? {
            Reply::Done => Ok(()),
            reply => Err(self.unexpected(&reply)),
        }
    }

    fn get_bytes(&self, key: &[u8], wait: Duration) -> Result<Vec<u8>, StoreError> {
        match self.client.call_and_wait(&Request::Get { key, wait }, wait)? {
            Reply::Value(value) => Ok(value),
            Reply::NotSet => Err(self.not_set(&[key], wait)),
            reply => Err(self.unexpected(&reply)),
        }
    }

    fn wait_bytes(&self, keys: Vec<&[u8]>, wait: Duration) -> Result<(), StoreError> {
        match self.client.call_and_wait(&Request::Wait { keys: keys.clone(), wait }, wait)? {
            Reply::Done => Ok(()),
            Reply::NotSet => Err(self.not_set(&keys, wait)),
            reply => Err(self.unexpected(&reply)),
        }
    }

    /// Sets the value of `key` to `desired` if it is `expected`, or if it has none and `expected` is empty. Returns the value.
    fn compare_set(&self, key: &[u8], expected: &[u8], desired: &[u8]) -> Result<Vec<u8>, StoreError> {
        match self.client.call(&Request::CompareSet { key, expected, desired })? {
            Reply::Value(value) => Ok(value),
            reply => Err(self.unexpected(&reply)),
        }
    }

    fn number(&self, request: &Request<'_>) -> Result<i64, StoreError> {
        match self.client.call(request)? {
            Reply::Number(number) => Ok(number),
            reply => Err(self.unexpected(&reply)),
        }
    }

    fn not_set(&self, keys: &[&[u8]], timeout: Duration) -> StoreError {
        let keys = keys.iter().map(|key| String::from_utf8_lossy(key).into_owned()).collect();
        StoreError::NotSet { keys, address: self.address().to_owned(), timeout }
    }

    fn unexpected(&self, reply: &Reply) -> StoreError {
        StoreError::Lost { address: self.address().to_owned(), reason: format!("unexpected reply {reply:?}") }
    }

    /// Returns this machine's address on the route to the server. Other ranks, which also reach the server, can connect to it.
    pub(super) fn local_address(&self) -> Result<IpAddr, StoreError> {
        self.client.local_address()
    }
}

#[cfg(test)]
mod tests;
