//! Server of a store: one thread per connection, so that a client that hangs holds up nobody else.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::protocol::{ACCEPTED, GREETING, REJECTED, Reply, Request, Timed};
use super::secret::{LENGTH, Numbers, Role, Secret, random};
use super::table::Table;

/// Time for a client to prove that it knows the secret.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Time for a request to arrive once it has begun, and for a reply to be taken.
const MESSAGE: Duration = Duration::from_secs(30);
/// Maximum number of connections that have not proved that they know the secret. The oldest one gives way to a new one.
const MAX_UNPROVED: usize = 256;
/// Maximum number of connections. A rank has up to six.
const MAX_CONNECTIONS: usize = 16_384;
/// Stack of a connection's thread, which calls no deep functions.
const STACK: usize = 256 << 10;
/// Pause after an error of the system, such as too many open files.
const PAUSE: Duration = Duration::from_millis(50);

/// Server of a store. It ends when it is dropped.
#[derive(Debug)]
pub(super) struct Server {
    shared: Arc<Shared>,
    address: SocketAddr,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    secret: Secret,
    table: Table,
    connections: Mutex<BTreeMap<u64, Connection>>,
    closed: AtomicBool,
}

#[derive(Debug)]
struct Connection {
    stream: Arc<TcpStream>,
    proved: bool,
}

impl Server {
    /// Starts to accept connections.
    pub(super) fn start(listener: TcpListener, secret: Secret) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            secret,
            table: Table::new(),
            connections: Mutex::new(BTreeMap::new()),
            closed: AtomicBool::new(false),
        });
        let accept = Arc::clone(&shared);
        let accepting = std::thread::Builder::new().name("store".into()).spawn(move || accept.accept(&listener))?;
        Ok(Self { shared, address, accepting: Some(accepting) })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        self.shared.table.close();
        for connection in self.shared.lock().values() {
            // Fails if it is closed already.
            let _closed = connection.stream.shutdown(Shutdown::Both);
        }
        // A connection wakes the thread that accepts them.
        let woken = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
        if let (Ok(_), Some(accepting)) = (woken, self.accepting.take()) {
            let _panicked = accepting.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Connection>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accept(self: Arc<Self>, listener: &TcpListener) {
        for number in 0.. {
            let accepted = listener.accept();
            if self.closed.load(Ordering::SeqCst) {
                return;
            }
            match accepted {
                Ok((stream, _)) => self.serve_on_a_thread(number, stream),
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
    }

    fn serve_on_a_thread(self: &Arc<Self>, number: u64, stream: TcpStream) {
        let stream = Arc::new(stream);
        let mut connections = self.lock();
        if connections.len() >= MAX_CONNECTIONS {
            return;
        }
        let unproved = || connections.iter().filter(|(_, connection)| !connection.proved);
        if unproved().count() >= MAX_UNPROVED
            && let Some(oldest) = unproved().next().map(|(&number, _)| number)
            && let Some(connection) = connections.remove(&oldest)
        {
            let _closed = connection.stream.shutdown(Shutdown::Both);
        }
        connections.insert(number, Connection { stream: Arc::clone(&stream), proved: false });
        drop(connections);
        let shared = Arc::clone(self);
        let serve = move || {
            // The connection ends with an error of it, which its client sees too.
            let _ended = shared.serve(number, &stream);
            shared.lock().remove(&number);
        };
        let started = std::thread::Builder::new().name("store client".into()).stack_size(STACK).spawn(serve);
        if started.is_err() {
            self.lock().remove(&number);
        }
    }

    /// Serves a connection until the client closes it.
    fn serve(&self, number: u64, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        if !self.is_proved(stream)? {
            return Ok(());
        }
        if let Some(connection) = self.lock().get_mut(&number) {
            connection.proved = true;
        }
        // Waits for the next request without a limit, but not for the rest of it.
        while has_data(stream)? {
            let message = Timed::new(stream, Some(MESSAGE)).receive()?;
            let reply = match Request::decode(&message) {
                Some(request) => self.table.reply(&request),
                None => Reply::Rejected("not a request".into()),
            };
            Timed::new(stream, Some(MESSAGE)).send(&reply.encode())?;
        }
        Ok(())
    }

    /// Greets a client and checks its proof. Nothing that it sends reserves memory before.
    fn is_proved(&self, stream: &TcpStream) -> io::Result<bool> {
        let mut timed = Timed::new(stream, Some(HANDSHAKE));
        let server = random().map_err(io::Error::other)?;
        timed.write_all(&[GREETING, &server[..]].concat())?;
        let client = timed.exactly::<LENGTH>()?;
        let proof = timed.exactly::<LENGTH>()?;
        let numbers = Numbers { server, client };
        let proved = self.secret.accepts(&proof, Role::Client, &numbers);
        match proved {
            true => timed.write_all(&[&[ACCEPTED], &self.secret.proof(Role::Server, &numbers)[..]].concat())?,
            false => timed.write_all(&[REJECTED])?,
        }
        Ok(proved)
    }
}

/// Waits for the first byte of a request. Returns false if the client has closed the connection.
fn has_data(stream: &TcpStream) -> io::Result<bool> {
    stream.set_read_timeout(None)?;
    loop {
        match stream.peek(&mut [0]) {
            Ok(count) => return Ok(count > 0),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
