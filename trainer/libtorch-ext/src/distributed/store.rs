//! How processes find each other.

use std::ffi::{c_char, c_int, c_void};
use std::net::{IpAddr, SocketAddr, TcpListener, ToSocketAddrs, UdpSocket};
use std::os::fd::IntoRawFd;
use std::ptr::null_mut;
use std::time::Duration;

use tch::TchError;

use super::ffi::{self, Bytes};
use super::{during, failed, milliseconds};
use crate::ffi::check;

/// Where a [`Store`] is, and how long to wait for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreOptions {
    /// Name or address under which every rank reaches rank 0.
    pub host: String,
    /// Port of rank 0; 0 there takes a free one, which [`Store::port`] tells.
    pub port: u16,
    /// How many processes there are.
    pub world_size: usize,
    /// How long to wait for the server, for other ranks, and for a key.
    pub timeout: Duration,
    /// The address that rank 0 listens on where it is not that of `host`, for example behind a forwarded port. Anybody who
    /// reaches it can read and write the store: nothing is encrypted and nobody is asked who they are.
    pub listen: Option<IpAddr>,
}

impl Default for StoreOptions {
    /// One process on this machine, PyTorch's port and patience.
    fn default() -> Self {
        Self { host: "127.0.0.1".into(), port: 29500, world_size: 1, timeout: Duration::from_secs(300), listen: None }
    }
}

/// Keys and values that all ranks see: c10d's `TCPStore`.
///
/// The server lives as long as the store of rank 0; calls of the others fail behind that. Calls on one store wait for each
/// other: a thread of its own that needs the store while another waits for a key takes a [`Store::try_clone`].
#[derive(Debug)]
pub struct Store {
    raw: *mut c_void,
    host: String,
    port: u16,
}

// SAFETY: a `TCPStore` belongs to no thread.
unsafe impl Send for Store {}
// SAFETY: every function of a `TCPStore` that is called here takes its lock, or reads what never changes.
unsafe impl Sync for Store {}

impl Store {
    /// [`Self::serve`] on rank 0, [`Self::connect`] on others.
    ///
    /// # Errors
    /// Theirs.
    pub fn open(rank: usize, options: &StoreOptions) -> Result<Self, TchError> {
        if rank == 0 { Self::serve(options) } else { Self::connect(options) }
    }

    /// Starts the server, without waiting for anybody.
    ///
    /// # Errors
    /// A [`TchError`] where the address is not one of this machine's, or the port is taken.
    pub fn serve(options: &StoreOptions) -> Result<Self, TchError> {
        let (host, port) = (options.host.as_str(), options.port);
        let listen = || match options.listen {
            Some(address) => TcpListener::bind((address, port)),
            None => TcpListener::bind((host, port)),
        };
        let bound = listen().and_then(|listener| Ok((listener.local_addr()?.port(), listener)));
        let (port, listener) = bound.map_err(|error| failed(format!("serving a store on {host}:{port}: {error}")))?;
        Self::new(options, port, listener.into_raw_fd())
    }

    /// Connects to the server, waiting for it to start.
    ///
    /// # Errors
    /// A [`TchError`] where it did not within [`StoreOptions::timeout`].
    pub fn connect(options: &StoreOptions) -> Result<Self, TchError> {
        Self::new(options, options.port, -1)
    }

    fn new(options: &StoreOptions, port: u16, listener: c_int) -> Result<Self, TchError> {
        let mut raw = null_mut();
        let (size, timeout) = (options.world_size.max(1) as u64, milliseconds(options.timeout));
        // SAFETY: the host outlives the call, `raw` has room for the pointer, and nobody else has the socket.
        let made =
            check(unsafe { ffi::glm_ext_store_new(options.host.as_str().into(), port, listener, size, timeout, &mut raw) });
        during(made, || format!("opening the store at {}:{port}", options.host))?;
        Ok(Self { raw, host: options.host.clone(), port })
    }

    /// Another connection to the same server.
    ///
    /// # Errors
    /// A [`TchError`] where it is gone.
    pub fn try_clone(&self) -> Result<Self, TchError> {
        let mut raw = null_mut();
        // SAFETY: the store is alive, and `raw` has room for the pointer.
        self.named(check(unsafe { ffi::glm_ext_store_clone(self.raw, &mut raw) }), || "connecting again".into())?;
        Ok(Self { raw, host: self.host.clone(), port: self.port })
    }

    /// The server's port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Counts this process in. Rank 0 waits until [`StoreOptions::world_size`] processes have called it; to be called once.
    ///
    /// # Errors
    /// A [`TchError`] on rank 0 where some did not within [`StoreOptions::timeout`] (it says how many came).
    pub fn join(&self) -> Result<(), TchError> {
        // SAFETY: the store is alive.
        self.named(check(unsafe { ffi::glm_ext_store_join(self.raw) }), || "waiting for all processes".into())
    }

    /// Makes `value` the value of `key`.
    ///
    /// # Errors
    /// A [`TchError`] where the server is gone.
    pub fn set(&self, key: &str, value: &[u8]) -> Result<(), TchError> {
        // SAFETY: the store is alive, and key and value outlive the call.
        let done = check(unsafe { ffi::glm_ext_store_set(self.raw, key.into(), value.into()) });
        self.named(done, || format!("setting {key:?}"))
    }

    /// The value of `key`, waiting for somebody to set it.
    ///
    /// # Errors
    /// A [`TchError`] where nobody did within [`StoreOptions::timeout`], or the server is gone.
    pub fn get(&self, key: &str) -> Result<Vec<u8>, TchError> {
        let (mut value, mut size): (*mut c_char, usize) = (null_mut(), 0);
        // SAFETY: the store is alive, the key outlives the call, and there is room for both answers.
        let done = check(unsafe { ffi::glm_ext_store_get(self.raw, key.into(), &mut value, &mut size) });
        self.named(done, || format!("getting {key:?}"))?;
        // SAFETY: behind a call that succeeded, `value` has `size` bytes, and they are ours.
        let bytes = unsafe { std::slice::from_raw_parts(value.cast::<u8>(), size) }.to_vec();
        // SAFETY: as above; they are not used behind this line.
        unsafe { libc::free(value.cast()) };
        Ok(bytes)
    }

    /// Adds `amount` to the number at `key`, 0 where there is none, and returns the sum. [`Self::get`] gives its decimal digits.
    ///
    /// # Errors
    /// A [`TchError`] where the value is no number, or the server is gone.
    pub fn add(&self, key: &str, amount: i64) -> Result<i64, TchError> {
        let mut sum = 0;
        // SAFETY: the store is alive, the key outlives the call, and there is room for the answer.
        let done = check(unsafe { ffi::glm_ext_store_add(self.raw, key.into(), amount, &mut sum) });
        self.named(done, || format!("adding to {key:?}"))?;
        Ok(sum)
    }

    /// Removes `key`, and says whether it was there.
    ///
    /// # Errors
    /// A [`TchError`] where the server is gone.
    pub fn delete(&self, key: &str) -> Result<bool, TchError> {
        let mut existed = 0;
        // SAFETY: the store is alive, the key outlives the call, and there is room for the answer.
        let done = check(unsafe { ffi::glm_ext_store_delete(self.raw, key.into(), &mut existed) });
        self.named(done, || format!("deleting {key:?}"))?;
        Ok(existed != 0)
    }

    /// Whether all of `keys` have a value, without waiting.
    ///
    /// # Errors
    /// A [`TchError`] where the server is gone.
    pub fn check(&self, keys: &[&str]) -> Result<bool, TchError> {
        let (list, mut all) = (lend(keys), 0);
        // SAFETY: the store is alive, the list is as long as said and its keys outlive the call.
        let done = check(unsafe { ffi::glm_ext_store_check(self.raw, list.as_ptr(), list.len(), &mut all) });
        self.named(done, || format!("looking for {keys:?}"))?;
        Ok(all != 0)
    }

    /// Waits until all of `keys` have a value.
    ///
    /// # Errors
    /// A [`TchError`] where they do not within `timeout`, or the server is gone.
    pub fn wait(&self, keys: &[&str], timeout: Duration) -> Result<(), TchError> {
        let list = lend(keys);
        // SAFETY: the store is alive, the list is as long as said and its keys outlive the call.
        let done = check(unsafe { ffi::glm_ext_store_wait(self.raw, list.as_ptr(), list.len(), milliseconds(timeout)) });
        self.named(done, || format!("waiting for {keys:?}"))
    }

    /// The address of this machine from which it reaches the server: what other ranks, who reach it too, can connect to.
    pub(super) fn local_address(&self) -> Result<IpAddr, TchError> {
        // Connecting a datagram socket chooses the interface and sends nothing.
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
        address.map_err(|error| failed(format!("an address of this machine from which it reaches {}: {error}", self.host)))
    }

    /// The store to lend to C++.
    pub(super) fn raw(&self) -> *const c_void {
        self.raw
    }

    fn named<T>(&self, result: Result<T, TchError>, what: impl FnOnce() -> String) -> Result<T, TchError> {
        during(result, || format!("{} in the store at {}:{}", what(), self.host, self.port))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // SAFETY: `raw` came from `new` or `try_clone` and is not used again; a group keeps what it needs of it.
        unsafe { ffi::glm_ext_store_free(self.raw) };
    }
}

fn lend<'a>(keys: &[&'a str]) -> Vec<Bytes<'a>> {
    keys.iter().map(|&key| key.into()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(port: u16) -> StoreOptions {
        StoreOptions { port, timeout: Duration::from_secs(10), ..StoreOptions::default() }
    }

    /// For what is to fail.
    fn hasty(port: u16) -> StoreOptions {
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
        client.wait(&["a key", "n"], Duration::from_secs(5)).expect("they are there");
        assert!(client.delete("n").expect("delete") && !client.delete("n").expect("delete"));
    }

    #[test]
    fn a_clone_works_while_the_store_waits() {
        let server = Store::serve(&options(0)).expect("a server");
        let other = server.try_clone().expect("a clone");
        std::thread::scope(|scope| {
            scope.spawn(|| server.wait(&["late"], Duration::from_secs(5)).expect("somebody sets it"));
            other.set("late", b"1").expect("set");
        });
    }

    #[test]
    fn errors_say_what_was_being_done() {
        let server = Store::serve(&hasty(0)).expect("a server");
        let text = |error: TchError| error.to_string();
        let missing = text(server.get("missing").expect_err("nobody sets it"));
        assert!(missing.contains("getting \"missing\" in the store at 127.0.0.1:"), "{missing}");
        let waited = text(server.wait(&["x", "y"], Duration::from_millis(50)).expect_err("nobody sets them"));
        assert!(waited.contains("waiting for [\"x\", \"y\"]"), "{waited}");
        let taken = text(Store::serve(&options(server.port())).expect_err("the port is taken"));
        assert!(taken.contains("serving a store"), "{taken}");
        let client = Store::connect(&options(server.port())).expect("a client");
        let port = server.port();
        drop(server);
        let gone = text(client.set("a", b"b").and_then(|()| client.set("a", b"b")).expect_err("the server is gone"));
        assert!(gone.contains("setting \"a\""), "{gone}");
        let nobody = text(Store::connect(&hasty(port)).expect_err("nobody listens"));
        assert!(nobody.contains("opening the store"), "{nobody}");
    }

    #[test]
    fn rank_0_waits_for_the_others() {
        let two = StoreOptions { world_size: 2, ..options(0) };
        let server = Store::open(0, &StoreOptions { world_size: 2, ..hasty(0) }).expect("a server");
        let error = server.join().expect_err("nobody else comes").to_string();
        assert!(error.contains("waiting for all processes") && error.contains("1/2"), "{error}");

        let server = Store::open(0, &two).expect("a server");
        let port = server.port();
        std::thread::scope(|scope| {
            scope.spawn(|| Store::open(1, &StoreOptions { port, ..two.clone() }).expect("a client").join().expect("join"));
            server.join().expect("both came");
        });
    }

    #[test]
    fn a_loopback_server_is_reached_from_the_loopback() {
        let server = Store::serve(&options(0)).expect("a server");
        assert!(server.local_address().expect("an address").is_loopback());
    }
}
