//! Store of `torchrun`'s agent: c10d's `TCPStore`, through which rank 0 publishes the address of its own [`Store`].
//!
//! [`Store`]: super::Store

use std::ffi::c_char;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::ptr::null_mut;
use std::sync::mpsc::channel;
use std::time::Duration;

use tch::TchError;

use super::error::{error_message, with_context};
use super::ffi::{self, milliseconds};
use crate::ffi::check;

/// Time by which calls that c10d does not end are longer than their timeout.
const TOLERANCE: Duration = Duration::from_secs(5);

/// Address of the store of `torchrun`'s agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentStore {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Timeout of each call.
    pub timeout: Duration,
}

impl AgentStore {
    /// Sets the value of a key.
    ///
    /// # Errors
    /// A [`TchError`] if the agent does not respond within the timeout.
    pub fn set(&self, key: &str, value: &[u8]) -> Result<(), TchError> {
        let (key, value) = (key.to_owned(), value.to_owned());
        self.call(move |Self { host, port, timeout }| {
            let (host, key) = (host.as_str().into(), key.as_str().into());
            // SAFETY: all arguments outlive the call.
            check(unsafe { ffi::glm_ext_agent_store_set(host, *port, milliseconds(*timeout), key, value.as_slice().into()) })
        })
    }

    /// Returns the value of a key, waiting until it is set.
    ///
    /// # Errors
    /// A [`TchError`] if it is not set within the timeout, or if the agent does not respond.
    pub fn get(&self, key: &str) -> Result<Vec<u8>, TchError> {
        let key = key.to_owned();
        self.call(move |Self { host, port, timeout }| {
            let (mut value, mut size): (*mut c_char, usize) = (null_mut(), 0);
            let (host, key) = (host.as_str().into(), key.as_str().into());
            // SAFETY: all arguments outlive the call, and `value` and `size` are valid for writes.
            check(unsafe { ffi::glm_ext_agent_store_get(host, *port, milliseconds(*timeout), key, &mut value, &mut size) })?;
            // SAFETY: the call succeeded, so `value` points to `size` bytes owned by the caller.
            let bytes = unsafe { std::slice::from_raw_parts(value.cast::<u8>(), size) }.to_vec();
            // SAFETY: as above; the memory is not used afterwards.
            unsafe { libc::free(value.cast()) };
            Ok(bytes)
        })
    }

    /// Returns this machine's address on the route to the agent.
    ///
    /// # Errors
    /// A [`TchError`] if the host is unknown or there is no route to it.
    pub fn local_address(&self) -> Result<IpAddr, TchError> {
        // Connecting a datagram socket selects an interface without sending anything.
        let find = |agent: SocketAddr| {
            let socket = UdpSocket::bind(if agent.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
            socket.connect(agent)?;
            Ok(socket.local_addr()?.ip())
        };
        let address = (self.host.as_str(), self.port).to_socket_addrs().and_then(|agents| {
            let none = Err(std::io::Error::other("no address"));
            agents.fold(none, |found, agent| found.or_else(|_| find(agent)))
        });
        address.map_err(|error| error_message(format!("finding the local address on the route to {}: {error}", self.host)))
    }

    /// Makes a call on a thread of its own, because c10d waits for a reply without a limit.
    fn call<T: Send + 'static>(&self, call: impl FnOnce(&Self) -> Result<T, TchError> + Send + 'static) -> Result<T, TchError> {
        let (sender, receiver) = channel();
        let agent = self.clone();
        let run = move || {
            // The receiver is gone after a timeout.
            let _gone = sender.send(call(&agent));
        };
        let result = match std::thread::Builder::new().name("agent's store".into()).spawn(run) {
            Err(error) => Err(error_message(format!("cannot start a thread: {error}"))),
            Ok(_) => receiver
                .recv_timeout(self.timeout.saturating_add(TOLERANCE))
                .unwrap_or_else(|_| Err(error_message(format!("no response within {} s", self.timeout.as_secs_f64())))),
        };
        with_context(result, || format!("torchrun's store at {}:{}", self.host, self.port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::time::Instant;

    #[test]
    fn a_silent_agent_is_an_error() {
        // Connections are accepted by the system, but nobody replies.
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let agent = AgentStore { host: "127.0.0.1".into(), port, timeout: Duration::from_millis(200) };
        assert!(agent.local_address().expect("an address").is_loopback());
        let start = Instant::now();
        let error = agent.get("key").expect_err("no reply").to_string();
        assert!(error.contains(&format!("torchrun's store at 127.0.0.1:{port}: ")), "{error}");
        assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    }
}
