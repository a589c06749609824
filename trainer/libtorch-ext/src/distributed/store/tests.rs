use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use super::protocol::{GREETING, MAX_MESSAGE};
use super::secret::{Numbers, Role};
use super::*;

/// Longer than any reply takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(500);

fn secret() -> Secret {
    Secret::new("of the tests, long enough")
}

fn options(port: u16) -> StoreOptions {
    StoreOptions { port, timeout: LONG, secret: secret(), ..StoreOptions::default() }
}

fn serve() -> Store {
    Store::serve(&options(0)).expect("a server")
}

fn connect(store: &Store) -> Store {
    Store::connect(&options(store.port())).expect("a client")
}

/// Connection of a stranger to the store.
fn stranger(store: &Store) -> TcpStream {
    TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], store.port()))).expect("a connection")
}

/// Completes the handshake by hand.
fn proved(store: &Store) -> TcpStream {
    let mut stream = stranger(store);
    let mut greeting = [0; GREETING.len() + 32];
    stream.read_exact(&mut greeting).expect("a greeting");
    let server = greeting[GREETING.len()..].try_into().expect("32 bytes");
    let numbers = Numbers { server, client: [7; 32] };
    stream.write_all(&numbers.client).expect("a number");
    stream.write_all(&secret().proof(Role::Client, &numbers)).expect("a proof");
    let mut verdict = [0; 33];
    stream.read_exact(&mut verdict).expect("a verdict");
    assert_eq!(verdict[0], 1);
    stream
}

/// Reads until the server closes the connection.
fn until_closed(mut stream: TcpStream) {
    stream.set_read_timeout(Some(LONG)).expect("a timeout");
    let mut bytes = Vec::new();
    if let Err(error) = stream.read_to_end(&mut bytes) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
    }
}

#[test]
fn keys_and_values() {
    let server = serve();
    assert_ne!(server.port(), 0);
    let client = connect(&server);
    server.set("a key", b"with\0zero").expect("set");
    assert_eq!(client.get("a key").expect("get"), b"with\0zero");
    server.set("nothing", b"").expect("set");
    assert_eq!(client.get("nothing").expect("get"), b"");
    assert_eq!((client.add("n", 3).expect("add"), server.add("n", -1).expect("add")), (3, 2));
    assert_eq!(client.get("n").expect("get"), b"2");
    assert!(client.check(&["a key", "n"]).expect("check") && !client.check(&["a key", "b"]).expect("check"));
    client.wait(&["a key", "n"], LONG).expect("both keys are set");
    assert!(client.local_address().expect("an address").is_loopback());
}

#[test]
fn a_clone_is_usable_while_the_store_waits() {
    let server = serve();
    let other = server.try_clone().expect("a clone");
    std::thread::scope(|scope| {
        scope.spawn(|| server.wait(&["late"], LONG).expect("the key is set"));
        other.set("late", b"1").expect("set");
    });
}

#[test]
fn missing_keys_and_a_missing_server_are_errors() {
    let server = serve();
    let client = connect(&server);
    client.set_timeout(SHORT);
    let address = server.address().to_owned();
    let missing = client.get("missing").expect_err("not set").to_string();
    assert_eq!(missing, format!("missing not set in the store at {address} within 0.5 s"));
    let waited = client.wait(&["x", "y"], Duration::from_millis(50)).expect_err("not set").to_string();
    assert!(waited.starts_with("x, y not set in the store"), "{waited}");
    let in_use = Store::serve(&options(server.port())).expect_err("the port is in use").to_string();
    assert!(in_use.starts_with(&format!("cannot serve a store at {address}: ")), "{in_use}");
    drop(server);
    let lost = client.set("a", b"b").expect_err("the server is gone");
    assert!(matches!(lost, StoreError::Lost { .. }), "{lost}");
    assert_eq!(client.check(&["a"]).expect_err("the connection is broken"), lost);
    let refused = Store::connect(&StoreOptions { timeout: SHORT, ..client.options.clone() }).expect_err("no server");
    assert!(refused.to_string().starts_with(&format!("cannot connect to the store at {address} within 0.5 s: ")), "{refused}");
}

#[test]
fn only_those_who_know_the_secret_are_accepted() {
    let server = serve();
    for other in [Secret::none(), Secret::new("another"), Secret::random().expect("random")] {
        let start = Instant::now();
        let error = Store::connect(&StoreOptions { secret: other, ..options(server.port()) }).expect_err("another secret");
        assert_eq!(error, StoreError::WrongSecret { address: server.address().to_owned() });
        assert!(start.elapsed() < LONG, "it must not be tried again");
    }
    // A server that poses as the store cannot prove that it knows the secret: it has no answer but the client's own proof.
    let impostor = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = impostor.local_addr().expect("an address").port();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = impostor.accept().expect("a client");
            stream.write_all(&[&GREETING[..], &[7; 32]].concat()).expect("a greeting");
            let mut answer = [0; 64];
            stream.read_exact(&mut answer).expect("a proof");
            stream.write_all(&[&[1], &answer[32..]].concat()).expect("a verdict");
        });
        let error = Store::connect(&options(port)).expect_err("an impostor");
        assert!(matches!(error, StoreError::WrongSecret { .. }), "{error}");
    });
}

#[test]
fn another_program_is_not_a_store() {
    let other = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = other.local_addr().expect("an address").port();
    std::thread::scope(|scope| {
        scope.spawn(|| other.accept().expect("a client").0.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").expect("a banner"));
        let error = Store::connect(&options(port)).expect_err("another program");
        assert_eq!(error, StoreError::NotAStore { address: format!("127.0.0.1:{port}") });
    });
}

#[test]
fn strangers_hold_up_nobody() {
    let server = serve();
    // Says nothing, half a message, a request without a proof, a huge length.
    let silent = stranger(&server);
    let mut half = stranger(&server);
    half.write_all(b"\0\x01").expect("two bytes");
    let mut forged = stranger(&server);
    forged.write_all(&[0; 64]).expect("a wrong proof");
    let mut huge = stranger(&server);
    huge.write_all(&[0xff; 4096]).expect("garbage");
    let client = connect(&server);
    client.set("a", b"b").expect("set");
    assert_eq!(server.get("a").expect("get"), b"b");
    until_closed(forged);
    until_closed(huge);
    drop((silent, half));
}

#[test]
fn many_strangers_give_way_to_those_who_know_the_secret() {
    let server = serve();
    let strangers: Vec<TcpStream> = (0..300).map(|_| stranger(&server)).collect();
    let client = connect(&server);
    client.set("a", b"b").expect("set");
    let oldest = strangers.into_iter().next().expect("a stranger");
    until_closed(oldest);
}

#[test]
fn a_client_that_stops_in_a_message_holds_up_nobody() {
    let server = serve();
    let mut half = proved(&server);
    half.write_all(&100_u32.to_le_bytes()).expect("a length");
    half.write_all(b"half").expect("a part");
    let client = connect(&server);
    client.set("a", b"b").expect("set");
    assert_eq!(client.get("a").expect("get"), b"b");
}

#[test]
fn messages_that_are_too_long_are_rejected() {
    let server = serve();
    let client = connect(&server);
    let long = vec![0; MAX_MESSAGE];
    let error = client.set("a", &long).expect_err("too long").to_string();
    assert!(error.contains("are more than 16 MiB"), "{error}");
    // The connection remains usable.
    client.set("a", &long[..MAX_MESSAGE - 100]).expect("set");
    assert_eq!(client.get("a").expect("get").len(), MAX_MESSAGE - 100);
    for claimed in [MAX_MESSAGE as u32 + 1, 1 << 31, u32::MAX] {
        let mut stream = proved(&server);
        stream.write_all(&claimed.to_le_bytes()).expect("a length");
        until_closed(stream);
    }
    let mut stream = proved(&server);
    stream.write_all(&[&3_u32.to_le_bytes()[..], b"???"].concat()).expect("not a request");
    let mut reply = [0; 4 + 1 + "not a request".len()];
    stream.read_exact(&mut reply).expect("a reply");
    assert!(reply.ends_with(b"\x04not a request"));
}

#[test]
fn the_memory_of_all_values_is_limited() {
    let server = serve();
    let value = vec![0; MAX_MESSAGE - 1000];
    let stored = (0..32).map(|i| server.set(&format!("key {i}"), &value)).take_while(Result::is_ok).count();
    assert_eq!(stored, 16, "256 MiB");
    let error = server.set("another", &value).expect_err("full").to_string();
    assert!(error.ends_with("rejects a request: the store is full"), "{error}");
    server.set("a", b"b").expect("a small value has its place");
}

#[test]
fn calls_on_a_silent_server_end() {
    // Accepts connections and proves that it knows the secret, but never replies.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::scope(|scope| {
        let silent = scope.spawn(|| {
            let (mut stream, _) = listener.accept().expect("a client");
            stream.write_all(&[&GREETING[..], &[7; 32]].concat()).expect("a greeting");
            let mut answer = [0; 64];
            stream.read_exact(&mut answer).expect("a proof");
            let numbers = Numbers { server: [7; 32], client: answer[..32].try_into().expect("32 bytes") };
            stream.write_all(&[&[1], &secret().proof(Role::Server, &numbers)[..]].concat()).expect("a verdict");
            stream
        });
        let client = Store::connect(&options(port)).expect("a client");
        let _stream = silent.join().expect("a stream");
        client.set_timeout(SHORT);
        let start = Instant::now();
        let error = client.set("a", b"b").expect_err("silent");
        assert_eq!(error.to_string(), format!("the store at 127.0.0.1:{port} has not responded for 0.5 s"));
        assert_eq!(client.get("a").expect_err("the connection is broken"), error);
        assert!((SHORT..LONG).contains(&start.elapsed()), "{:?}", start.elapsed());
        // Nor does one connect to a server that does not even greet.
        let start = Instant::now();
        let error = Store::connect(&StoreOptions { timeout: SHORT, ..options(port) }).expect_err("silent");
        assert!(matches!(error, StoreError::Unreachable { .. }), "{error}");
        assert!(start.elapsed() < LONG, "{:?}", start.elapsed());
    });
}

#[test]
fn closing_a_connection_ends_its_calls() {
    let server = serve();
    let client = connect(&server);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| client.wait(&["never"], LONG));
        client.close();
        let error = waiting.join().expect("a result").expect_err("closed");
        assert!(matches!(error, StoreError::Lost { .. }), "{error}");
    });
    server.set("a", b"b").expect("other connections are not affected");
}
