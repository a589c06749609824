//! Client of a store: a connection on which every call has a time limit.

use std::io::{self, ErrorKind, Write};
use std::net::{IpAddr, Shutdown, TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::StoreOptions;
use super::error::StoreError;
use super::protocol::{ACCEPTED, GREETING, MAX_MESSAGE, Reply, Request, Timed};
use super::secret::{LENGTH, Numbers, Role, Secret, random};

/// Maximum time of an attempt to connect. A server that is busy responds earlier.
const ATTEMPT: Duration = Duration::from_secs(10);
/// Pauses between attempts to connect.
const PAUSES: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(500)];
/// Time for a reply in addition to that for which the server waits on request.
const TRAVEL: Duration = Duration::from_secs(5);

/// Connection to a server. A call that fails in the middle breaks it, because replies would no longer match requests.
#[derive(Debug)]
pub(super) struct Client {
    address: String,
    stream: TcpStream,
    /// Error that has broken the connection.
    broken: Mutex<Option<StoreError>>,
    /// Timeout of calls in milliseconds.
    timeout: AtomicU64,
}

impl Client {
    /// Connects, waiting for the server to start.
    pub(super) fn connect(options: &StoreOptions) -> Result<Self, StoreError> {
        let start = Instant::now();
        let [mut pause, max_pause] = PAUSES;
        loop {
            let remaining = options.timeout.saturating_sub(start.elapsed());
            match Self::attempt(options, remaining.min(ATTEMPT)) {
                Ok(client) => return Ok(client),
                Err(StoreError::Lost { address, reason }) if start.elapsed() + pause >= options.timeout => {
                    return Err(StoreError::Unreachable { address, timeout: options.timeout, reason });
                }
                Err(StoreError::Lost { .. }) => {
                    std::thread::sleep(pause);
                    pause = (2 * pause).min(max_pause);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Tries to connect once. [`StoreError::Lost`] means that another attempt may succeed.
    fn attempt(options: &StoreOptions, limit: Duration) -> Result<Self, StoreError> {
        let address = format!("{}:{}", options.host, options.port);
        let limit = limit.max(Duration::from_millis(1));
        let stream = open(&options.host, options.port, limit).map_err(|error| lost(&address, &error))?;
        handshake(&stream, &options.secret, &address, limit)?;
        let client = Self { address, stream, broken: Mutex::new(None), timeout: AtomicU64::new(0) };
        client.set_timeout(options.timeout);
        Ok(client)
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Returns the address of this end.
    pub(super) fn local_address(&self) -> Result<IpAddr, StoreError> {
        self.stream.local_addr().map(|address| address.ip()).map_err(|error| lost(&self.address, &error))
    }

    pub(super) fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout.load(Ordering::Relaxed))
    }

    pub(super) fn set_timeout(&self, timeout: Duration) {
        let milliseconds = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        self.timeout.store(milliseconds.max(1), Ordering::Relaxed);
    }

    /// Closes the connection. Calls in progress on other threads fail.
    pub(super) fn close(&self) {
        // Fails if it is closed already.
        let _closed = self.stream.shutdown(Shutdown::Both);
    }

    /// Sends a request and returns the reply, which must arrive within the timeout.
    pub(super) fn call(&self, request: &Request<'_>) -> Result<Reply, StoreError> {
        self.call_within(request, self.timeout())
    }

    /// As [`Self::call`], for a request for which the server waits up to `wait`.
    pub(super) fn call_and_wait(&self, request: &Request<'_>, wait: Duration) -> Result<Reply, StoreError> {
        self.call_within(request, wait.saturating_add(TRAVEL))
    }

    fn call_within(&self, request: &Request<'_>, limit: Duration) -> Result<Reply, StoreError> {
        let message = request.encode();
        if message.len() > MAX_MESSAGE {
            let reason = format!("{} bytes are more than {} MiB", message.len(), MAX_MESSAGE >> 20);
            return Err(StoreError::Rejected { address: self.address.clone(), reason });
        }
        let mut broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = &*broken {
            return Err(error.clone());
        }
        let mut timed = Timed::new(&self.stream, Some(limit));
        let reply = timed.send(&message).and_then(|()| timed.receive());
        let reply = reply.and_then(|reply| Reply::decode(&reply).ok_or_else(|| io::Error::other("not a reply")));
        match reply {
            Ok(Reply::Rejected(reason)) => Err(StoreError::Rejected { address: self.address.clone(), reason }),
            Ok(reply) => Ok(reply),
            Err(error) => {
                let error = match error.kind() {
                    ErrorKind::TimedOut => StoreError::Silent { address: self.address.clone(), timeout: limit },
                    _ => lost(&self.address, &error),
                };
                self.close();
                *broken = Some(error.clone());
                Err(error)
            }
        }
    }
}

fn lost(address: &str, error: &io::Error) -> StoreError {
    let reason = match error.kind() {
        ErrorKind::UnexpectedEof => "the connection was closed".to_owned(),
        ErrorKind::TimedOut => "no response".to_owned(),
        _ => error.to_string(),
    };
    StoreError::Lost { address: address.to_owned(), reason }
}

/// Connects to the first of the host's addresses that accepts.
fn open(host: &str, port: u16, limit: Duration) -> io::Result<TcpStream> {
    let mut last = io::Error::other("the host has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, limit) {
            // Without a listener, a port of this machine that the system has just chosen for this socket connects to itself.
            Ok(stream) if stream.local_addr()? == stream.peer_addr()? => last = ErrorKind::ConnectionRefused.into(),
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Proves to the server that this process knows the secret, and checks that the server does.
fn handshake(stream: &TcpStream, secret: &Secret, address: &str, limit: Duration) -> Result<(), StoreError> {
    let mut timed = Timed::new(stream, Some(limit));
    let closed = |error| lost(address, &error);
    if timed.exactly().map_err(closed)? != *GREETING {
        return Err(StoreError::NotAStore { address: address.to_owned() });
    }
    let numbers = Numbers { server: timed.exactly().map_err(closed)?, client: random()? };
    let proof = secret.proof(Role::Client, &numbers);
    timed.write_all(&[numbers.client, proof].concat()).map_err(closed)?;
    let [verdict] = timed.exactly().map_err(closed)?;
    if verdict == ACCEPTED && secret.accepts(&timed.exactly::<LENGTH>().map_err(closed)?, Role::Server, &numbers) {
        return Ok(());
    }
    Err(StoreError::WrongSecret { address: address.to_owned() })
}
