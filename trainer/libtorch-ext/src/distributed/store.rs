//! Key-value store for rendezvous.

use std::ffi::{c_char, c_int, c_void};
use std::net::{IpAddr, SocketAddr, TcpListener, ToSocketAddrs, UdpSocket};
use std::os::fd::IntoRawFd;
use std::ptr::null_mut;
use std::time::Duration;

use tch::TchError;

use super::error::{error_message, with_context};
use super::ffi::{self, Bytes, milliseconds};
use crate::ffi::check;

/// Address and timeout of a [`Store`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreOptions {
    /// Host name or address of the server. The server listens on this address only. Everyone who can connect to it can read
    /// and write the store: there is no encryption and no authentication.
    pub host: String,
    /// Port of the server. If the server is started with port 0, it uses a free port; see [`Store::port`].
    pub port: u16,
    /// Timeout for connecting to the server and for waiting for a key.
    pub timeout: Duration,
}

impl Default for StoreOptions {
    /// This machine, with PyTorch's default port and timeout.
    fn default() -> Self {
        Self { host: "127.0.0.1".into(), port: 29500, timeout: Duration::from_secs(300) }
    }
}

/// Key-value store shared by all ranks: c10d's `TCPStore`.
///
/// The server runs until the store that started it is dropped; later calls of other processes fail. Calls on one store block
/// each other, so a thread that uses the store while another thread waits for a key needs its own connection; see
/// [`Store::try_clone`].
#[derive(Debug)]
pub struct Store {
    raw: *mut c_void,
    host: String,
    port: u16,
}

// SAFETY: a `TCPStore` is not bound to a thread.
unsafe impl Send for Store {}
// SAFETY: the functions of `TCPStore` that are called here take its lock or read constant fields.
unsafe impl Sync for Store {}

impl Store {
    /// Calls [`Self::serve`] on rank 0 and [`Self::connect`] on other ranks.
    ///
    /// # Errors
    /// The errors of these functions.
    pub fn open(rank: usize, options: &StoreOptions) -> Result<Self, TchError> {
        if rank == 0 { Self::serve(options) } else { Self::connect(options) }
    }

    /// Starts the server, without waiting for clients.
    ///
    /// # Errors
    /// A [`TchError`] if the address is not an address of this machine, or if the port is in use.
    pub fn serve(options: &StoreOptions) -> Result<Self, TchError> {
        let (host, port) = (options.host.as_str(), options.port);
        let bound = TcpListener::bind((host, port)).and_then(|listener| Ok((listener.local_addr()?.port(), listener)));
        let (port, listener) = bound.map_err(|error| error_message(format!("serving a store on {host}:{port}: {error}")))?;
        Self::new(options, port, listener.into_raw_fd())
    }

    /// Connects to the server, waiting for it to start.
    ///
    /// # Errors
    /// A [`TchError`] if it does not start within [`StoreOptions::timeout`].
    pub fn connect(options: &StoreOptions) -> Result<Self, TchError> {
        Self::new(options, options.port, -1)
    }

    fn new(options: &StoreOptions, port: u16, listener: c_int) -> Result<Self, TchError> {
        let mut raw = null_mut();
        // SAFETY: the host outlives the call, `raw` is valid for writes, and the socket has no other owner.
        let opened = check(unsafe {
            ffi::glm_ext_store_new(options.host.as_str().into(), port, listener, milliseconds(options.timeout), &mut raw)
        });
        with_context(opened, || format!("opening the store at {}:{port}", options.host))?;
        Ok(Self { raw, host: options.host.clone(), port })
    }

    /// Opens another connection to the same server.
    ///
    /// # Errors
    /// A [`TchError`] if the server cannot be reached.
    pub fn try_clone(&self) -> Result<Self, TchError> {
        let mut raw = null_mut();
        // SAFETY: the store is alive, and `raw` is valid for writes.
        self.named(check(unsafe { ffi::glm_ext_store_clone(self.raw, &mut raw) }), || "opening another connection".into())?;
        Ok(Self { raw, host: self.host.clone(), port: self.port })
    }

    /// Port of the server.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Sets the value of `key`.
    ///
    /// # Errors
    /// A [`TchError`] if the server cannot be reached.
    pub fn set(&self, key: &str, value: &[u8]) -> Result<(), TchError> {
        // SAFETY: the store is alive, and key and value outlive the call.
        let done = check(unsafe { ffi::glm_ext_store_set(self.raw, key.into(), value.into()) });
        self.named(done, || format!("setting {key:?}"))
    }

    /// Returns the value of `key`, waiting until it is set.
    ///
    /// # Errors
    /// A [`TchError`] if it is not set within [`StoreOptions::timeout`], or if the server cannot be reached.
    pub fn get(&self, key: &str) -> Result<Vec<u8>, TchError> {
        let (mut value, mut size): (*mut c_char, usize) = (null_mut(), 0);
        // SAFETY: the store is alive, the key outlives the call, and `value` and `size` are valid for writes.
        let done = check(unsafe { ffi::glm_ext_store_get(self.raw, key.into(), &mut value, &mut size) });
        self.named(done, || format!("getting {key:?}"))?;
        // SAFETY: the call succeeded, so `value` points to `size` bytes owned by the caller.
        let bytes = unsafe { std::slice::from_raw_parts(value.cast::<u8>(), size) }.to_vec();
        // SAFETY: as above; the memory is not used afterwards.
        unsafe { libc::free(value.cast()) };
        Ok(bytes)
    }

    /// Adds `amount` to the integer at `key`, which is initially 0, and returns the sum. [`Self::get`] returns its decimal
    /// digits.
    ///
    /// # Errors
    /// A [`TchError`] if the value is not an integer, or if the server cannot be reached.
    pub fn add(&self, key: &str, amount: i64) -> Result<i64, TchError> {
        let mut sum = 0;
        // SAFETY: the store is alive, the key outlives the call, and `sum` is valid for writes.
        let done = check(unsafe { ffi::glm_ext_store_add(self.raw, key.into(), amount, &mut sum) });
        self.named(done, || format!("adding to {key:?}"))?;
        Ok(sum)
    }

    /// Returns true if all of `keys` have a value, without waiting.
    ///
    /// # Errors
    /// A [`TchError`] if the server cannot be reached.
    pub fn check(&self, keys: &[&str]) -> Result<bool, TchError> {
        let (list, mut all) = (as_bytes(keys), 0);
        // SAFETY: the store is alive, the length matches the list, the keys outlive the call, and `all` is valid for writes.
        let done = check(unsafe { ffi::glm_ext_store_check(self.raw, list.as_ptr(), list.len(), &mut all) });
        self.named(done, || format!("looking up {keys:?}"))?;
        Ok(all != 0)
    }

    /// Waits until all of `keys` have a value.
    ///
    /// # Errors
    /// A [`TchError`] if they have none after `timeout`, or if the server cannot be reached.
    pub fn wait(&self, keys: &[&str], timeout: Duration) -> Result<(), TchError> {
        let list = as_bytes(keys);
        // SAFETY: the store is alive, the length matches the list, and the keys outlive the call.
        let done = check(unsafe { ffi::glm_ext_store_wait(self.raw, list.as_ptr(), list.len(), milliseconds(timeout)) });
        self.named(done, || format!("waiting for {keys:?}"))
    }

    /// Returns this machine's address on the route to the server. Other ranks, which also reach the server, can connect to it.
    pub(super) fn local_address(&self) -> Result<IpAddr, TchError> {
        // Connecting a datagram socket selects an interface without sending anything.
        let find = |server: SocketAddr| {
            let socket = UdpSocket::bind(if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
            socket.connect(server)?;
            Ok(socket.local_addr()?.ip())
        };
        let servers = (self.host.as_str(), self.port).to_socket_addrs();
        let address = servers.and_then(|servers| {
            let none = Err(std::io::Error::other("no address"));
            servers.fold(none, |found, server| found.or_else(|_| find(server)))
        });
        address.map_err(|error| error_message(format!("finding the local address on the route to {}: {error}", self.host)))
    }

    /// Returns the pointer, to be borrowed by C++ for the duration of a call.
    pub(super) fn raw(&self) -> *const c_void {
        self.raw
    }

    fn named<T>(&self, result: Result<T, TchError>, action: impl FnOnce() -> String) -> Result<T, TchError> {
        with_context(result, || format!("{} in the store at {}:{}", action(), self.host, self.port))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // SAFETY: `raw` was returned by `new` or `try_clone` and is not used again. Groups hold their own reference.
        unsafe { ffi::glm_ext_store_free(self.raw) };
    }
}

fn as_bytes<'a>(keys: &[&'a str]) -> Vec<Bytes<'a>> {
    keys.iter().map(|&key| key.into()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(port: u16) -> StoreOptions {
        StoreOptions { port, timeout: Duration::from_secs(10), ..StoreOptions::default() }
    }

    /// Options for operations that are expected to time out.
    fn short_timeout(port: u16) -> StoreOptions {
        StoreOptions { timeout: Duration::from_secs(1), ..options(port) }
    }

    #[test]
    fn keys_and_values() {
        let server = Store::serve(&options(0)).expect("a server");
        assert_ne!(server.port(), 0);
        let client = Store::connect(&options(server.port())).expect("a client");
        server.set("a key", b"with\0zero").expect("set");
        assert_eq!(client.get("a key").expect("get"), b"with\0zero");
        server.set("nothing", b"").expect("set");
        assert_eq!(client.get("nothing").expect("get"), b"");
        assert_eq!((client.add("n", 3).expect("add"), server.add("n", -1).expect("add")), (3, 2));
        assert_eq!(client.get("n").expect("get"), b"2");
        assert!(client.check(&["a key", "n"]).expect("check") && !client.check(&["a key", "b"]).expect("check"));
        client.wait(&["a key", "n"], Duration::from_secs(5)).expect("both keys are set");
    }

    #[test]
    fn a_clone_is_usable_while_the_store_waits() {
        let server = Store::serve(&options(0)).expect("a server");
        let other = server.try_clone().expect("a clone");
        std::thread::scope(|scope| {
            scope.spawn(|| server.wait(&["late"], Duration::from_secs(5)).expect("the key is set"));
            other.set("late", b"1").expect("set");
        });
    }

    #[test]
    fn errors_name_the_action() {
        let server = Store::serve(&short_timeout(0)).expect("a server");
        let text = |error: TchError| error.to_string();
        let missing = text(server.get("missing").expect_err("not set"));
        assert!(missing.contains("getting \"missing\" in the store at 127.0.0.1:"), "{missing}");
        let waited = text(server.wait(&["x", "y"], Duration::from_millis(50)).expect_err("not set"));
        assert!(waited.contains("waiting for [\"x\", \"y\"]"), "{waited}");
        let in_use = text(Store::serve(&options(server.port())).expect_err("the port is in use"));
        assert!(in_use.contains("serving a store"), "{in_use}");
        let client = Store::connect(&options(server.port())).expect("a client");
        let port = server.port();
        drop(server);
        let lost = text(client.set("a", b"b").and_then(|()| client.set("a", b"b")).expect_err("the server is gone"));
        assert!(lost.contains("setting \"a\""), "{lost}");
        let refused = text(Store::connect(&short_timeout(port)).expect_err("no server"));
        assert!(refused.contains("opening the store"), "{refused}");
    }

    #[test]
    fn the_local_address_for_a_loopback_server_is_a_loopback_address() {
        let server = Store::serve(&options(0)).expect("a server");
        assert!(server.local_address().expect("an address").is_loopback());
    }
}
