//! Messages between a store's server and its clients.
//!
//! After the handshake ([`GREETING`], then the proofs of [`super::secret`]), the client sends requests, and the server answers each
//! with one reply. A message is its length, in four bytes, and its bytes. All numbers are little-endian.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// First bytes from the server, with the version of the protocol.
pub(super) const GREETING: &[u8; 8] = b"glmstor1";

/// Byte with which the server accepts the proof of a client.
pub(super) const ACCEPTED: u8 = 1;
/// Byte with which the server rejects the proof of a client.
pub(super) const REJECTED: u8 = 0;

/// Maximum length of a message, in bytes.
pub(super) const MAX_MESSAGE: usize = 16 << 20;

/// Memory reserved before any byte of a message has arrived.
const FIRST_CHUNK: usize = 64 << 10;

/// Request of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Request<'a> {
    Set { key: &'a [u8], value: &'a [u8] },
    Get { key: &'a [u8], wait: Duration },
    Add { key: &'a [u8], amount: i64 },
    Check { keys: Vec<&'a [u8]> },
    Wait { keys: Vec<&'a [u8]>, wait: Duration },
    CompareSet { key: &'a [u8], expected: &'a [u8], desired: &'a [u8] },
    Delete { key: &'a [u8] },
    Count,
}

/// Reply of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    Done,
    Value(Vec<u8>),
    Number(i64),
    NotSet,
    Rejected(String),
}

impl Request<'_> {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let many = |out: &mut Vec<u8>, keys: &[&[u8]]| {
            number(out, keys.len());
            keys.iter().for_each(|key| bytes(out, key));
        };
        match self {
            Self::Set { key, value } => {
                out.push(0);
                bytes(&mut out, key);
                bytes(&mut out, value);
            }
            Self::Get { key, wait } => {
                out.push(1);
                bytes(&mut out, key);
                number(&mut out, wait.as_millis());
            }
            Self::Add { key, amount } => {
                out.push(2);
                bytes(&mut out, key);
                out.extend(amount.to_le_bytes());
            }
            Self::Check { keys } => {
                out.push(3);
                many(&mut out, keys);
            }
            Self::Wait { keys, wait } => {
                out.push(4);
                many(&mut out, keys);
                number(&mut out, wait.as_millis());
            }
            Self::CompareSet { key, expected, desired } => {
                out.push(5);
                [key, expected, desired].into_iter().for_each(|part| bytes(&mut out, part));
            }
            Self::Delete { key } => {
                out.push(6);
                bytes(&mut out, key);
            }
            Self::Count => out.push(7),
        }
        out
    }
}

impl<'a> Request<'a> {
    /// Returns `None` for bytes that are not a request.
    pub(super) fn decode(message: &'a [u8]) -> Option<Self> {
        let mut rest = Rest(message);
        let request = match rest.take(1)? {
            [0] => Self::Set { key: rest.bytes()?, value: rest.bytes()? },
            [1] => Self::Get { key: rest.bytes()?, wait: rest.duration()? },
            [2] => Self::Add { key: rest.bytes()?, amount: rest.number()?.cast_signed() },
            [3] => Self::Check { keys: rest.many()? },
            [4] => Self::Wait { keys: rest.many()?, wait: rest.duration()? },
            [5] => Self::CompareSet { key: rest.bytes()?, expected: rest.bytes()?, desired: rest.bytes()? },
            [6] => Self::Delete { key: rest.bytes()? },
            [7] => Self::Count,
            _ => return None,
        };
        rest.0.is_empty().then_some(request)
    }
}

impl Reply {
    pub(super) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Done => vec![0],
            Self::Value(value) => [&[1], &value[..]].concat(),
            Self::Number(number) => [&[2][..], &number.to_le_bytes()].concat(),
            Self::NotSet => vec![3],
            Self::Rejected(reason) => [&[4], reason.as_bytes()].concat(),
        }
    }

    /// Returns `None` for bytes that are not a reply.
    pub(super) fn decode(message: &[u8]) -> Option<Self> {
        let (kind, rest) = message.split_first()?;
        Some(match kind {
            0 => Self::Done,
            1 => Self::Value(rest.to_vec()),
            2 => Self::Number(i64::from_le_bytes(rest.try_into().ok()?)),
            3 => Self::NotSet,
            4 => Self::Rejected(String::from_utf8_lossy(rest).into_owned()),
            _ => return None,
        })
    }
}

fn number(out: &mut Vec<u8>, number: impl TryInto<u64>) {
    out.extend(number.try_into().unwrap_or(u64::MAX).to_le_bytes());
}

fn bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    number(out, bytes.len());
    out.extend(bytes);
}

/// Rest of a message that is decoded.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn duration(&mut self) -> Option<Duration> {
        self.number().map(Duration::from_millis)
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let count = self.number()?.try_into().ok()?;
        self.take(count)
    }

    fn many(&mut self) -> Option<Vec<&'a [u8]>> {
        // The count is not trusted: memory grows with the keys that are there.
        (0..self.number()?).map(|_| self.bytes()).collect()
    }
}

/// Stream whose reads and writes fail with [`ErrorKind::TimedOut`] after a deadline.
#[derive(Debug)]
pub(super) struct Timed<'a> {
    stream: &'a TcpStream,
    deadline: Option<Instant>,
}

impl<'a> Timed<'a> {
    /// Limits the time from now on; without a limit, reads and writes block.
    pub(super) fn new(stream: &'a TcpStream, limit: Option<Duration>) -> Self {
        Self { stream, deadline: limit.and_then(|limit| Instant::now().checked_add(limit)) }
    }

    pub(super) fn send(&mut self, message: &[u8]) -> io::Result<()> {
        let length = u32::try_from(message.len()).ok().filter(|&length| length as usize <= MAX_MESSAGE);
        let length = length.ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "the message is too long"))?;
        // One write, so that the message is one packet if it is short.
        self.write_all(&[&length.to_le_bytes(), message].concat())
    }

    /// Receives a message. Its claimed length reserves no memory.
    pub(super) fn receive(&mut self) -> io::Result<Vec<u8>> {
        let length = u32::from_le_bytes(self.exactly()?) as usize;
        if length > MAX_MESSAGE {
            return Err(io::Error::new(ErrorKind::InvalidData, "the message is too long"));
        }
        let mut message = Vec::with_capacity(length.min(FIRST_CHUNK));
        self.take(length as u64).read_to_end(&mut message)?;
        if message.len() < length {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(message)
    }

    pub(super) fn exactly<const COUNT: usize>(&mut self) -> io::Result<[u8; COUNT]> {
        let mut bytes = [0; COUNT];
        self.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn remaining(&self) -> io::Result<Option<Duration>> {
        match self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
            Some(Duration::ZERO) => Err(ErrorKind::TimedOut.into()),
            remaining => Ok(remaining),
        }
    }
}

impl Read for Timed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.remaining()?)?;
        self.stream.read(buffer).map_err(timed_out)
    }
}

impl Write for Timed<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.remaining()?)?;
        self.stream.write(buffer).map_err(timed_out)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Unix reports a timeout of a socket as one that would block.
fn timed_out(error: io::Error) -> io::Error {
    if error.kind() == ErrorKind::WouldBlock { ErrorKind::TimedOut.into() } else { error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_decoded() {
        let wait = Duration::from_millis(1234);
        let (key, value) = (&b"a key"[..], &b"\0value"[..]);
        for request in [
            Request::Set { key, value },
            Request::Get { key, wait },
            Request::Add { key, amount: -7 },
            Request::Check { keys: vec![key, b"", value] },
            Request::Wait { keys: vec![], wait },
            Request::CompareSet { key, expected: b"", desired: value },
            Request::Delete { key },
            Request::Count,
        ] {
            let message = request.encode();
            assert_eq!(Request::decode(&message), Some(request));
            for shorter in 0..message.len() {
                assert_eq!(Request::decode(&message[..shorter]), None);
            }
            assert_eq!(Request::decode(&[&message[..], b"x"].concat()), None);
        }
        for reply in
            [Reply::Done, Reply::Value(vec![1, 2]), Reply::Number(i64::MIN), Reply::NotSet, Reply::Rejected("x".into())]
        {
            assert_eq!(Reply::decode(&reply.encode()), Some(reply));
        }
        assert_eq!((Reply::decode(b""), Reply::decode(&[2, 1]), Reply::decode(&[9])), (None, None, None));
    }

    #[test]
    fn claimed_counts_and_lengths_are_not_trusted() {
        for claimed in [u64::MAX, 1 << 40] {
            assert_eq!(Request::decode(&[&[6][..], &claimed.to_le_bytes()].concat()), None);
            assert_eq!(Request::decode(&[&[3][..], &claimed.to_le_bytes()].concat()), None);
        }
    }
}
