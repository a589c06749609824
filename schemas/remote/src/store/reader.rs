//! Streams of files that go on where a broken connection ended.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore};

use super::runtime::block_on;
use crate::RemoteError;
use crate::location::Location;

/// Maximum number of attempts without a new byte. The store repeats each request several times itself.
const ATTEMPTS: u32 = 5;
/// Time to wait before the second attempt; doubled for each one after it.
const PAUSE: Duration = Duration::from_millis(200);
/// Time without a byte after which a connection counts as broken.
const STALL: Duration = Duration::from_secs(60);

/// Content of a file. After a connection breaks, reading goes on from the offset that was reached, as long as the file is the same.
pub struct Reader {
    objects: Arc<dyn ObjectStore>,
    path: Path,
    location: Location,
    stream: Option<BoxStream<'static, object_store::Result<Bytes>>>,
    /// Received bytes that were not read yet.
    chunk: Bytes,
    /// Bytes that were not received yet.
    rest: Range<u64>,
    bytes: u64,
    tag: Option<String>,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("location", &self.location).field("rest", &self.rest).finish_non_exhaustive()
    }
}

impl Reader {
    pub(crate) fn open(objects: Arc<dyn ObjectStore>, path: Path, location: Location) -> Result<Self, RemoteError> {
        let mut reader = Self { objects, path, location, stream: None, chunk: Bytes::new(), rest: 0..0, bytes: 0, tag: None };
        let options = GetOptions::default();
        let found = block_on(reader.objects.get_opts(&reader.path, options))?;
        let found = found.map_err(|error| RemoteError::of_store("read", &reader.location, &error))?;
        reader.bytes = found.meta.size;
        reader.rest = 0..found.meta.size;
        // A weak tag does not promise the same bytes; comparing sizes has to do.
        reader.tag = found.meta.e_tag.clone().filter(|tag| !tag.starts_with("W/"));
        reader.stream = Some(found.into_stream());
        Ok(reader)
    }

    /// Size of the file in bytes.
    pub fn size(&self) -> u64 {
        self.bytes
    }

    /// Receives the next bytes; `None` at the end of the file.
    fn receive(&mut self) -> Result<Option<Bytes>, RemoteError> {
        let mut failures = 0;
        loop {
            if self.rest.is_empty() {
                self.stream = None;
                return Ok(None);
            }
            let reason = match self.attempt()? {
                Ok(bytes) if bytes.is_empty() => continue,
                Ok(bytes) => {
                    let received = bytes.len() as u64;
                    if received > self.rest.end - self.rest.start {
                        return Err(RemoteError::Changed { url: self.location.to_string() });
                    }
                    self.rest.start += received;
                    return Ok(Some(bytes));
                }
                Err(reason) => reason,
            };
            self.stream = None;
            failures += 1;
            if failures == ATTEMPTS {
                let (doing, url) = ("read", self.location.to_string());
                let remedy = "check the network, and run the command again";
                let reason = format!("the connection broke {failures} times after byte {} ({reason})", self.rest.start);
                return Err(RemoteError::Request { doing, url, reason, remedy });
            }
            tracing::debug!("{}: {reason}; going on from byte {}", self.location, self.rest.start);
            std::thread::sleep(PAUSE * 2_u32.pow(failures - 1));
        }
    }

    /// Receives bytes from the open stream, or from a new one. The inner error is that of a broken connection.
    fn attempt(&mut self) -> Result<Result<Bytes, String>, RemoteError> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.reopen()?,
        };
        let next = block_on(async { tokio::time::timeout(STALL, stream.next()).await })?;
        match next {
            Ok(Some(Ok(bytes))) => {
                self.stream = Some(stream);
                Ok(Ok(bytes))
            }
            Ok(Some(Err(error))) => Ok(Err(super::failure::reason(&error))),
            Ok(None) => Ok(Err("it was closed early".to_owned())),
            Err(_) => Ok(Err(format!("nothing came for {} s", STALL.as_secs()))),
        }
    }

    fn reopen(&self) -> Result<BoxStream<'static, object_store::Result<Bytes>>, RemoteError> {
        let range = Some(GetRange::Offset(self.rest.start)).filter(|_| self.rest.start > 0);
        let options = GetOptions { range, if_match: self.tag.clone(), ..GetOptions::default() };
        let found = block_on(self.objects.get_opts(&self.path, options))?;
        let found = found.map_err(|error| RemoteError::of_store("read", &self.location, &error))?;
        if found.meta.size != self.bytes || found.range.start != self.rest.start {
            return Err(RemoteError::Changed { url: self.location.to_string() });
        }
        Ok(found.into_stream())
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.chunk.is_empty() {
            match self.receive().map_err(io::Error::other)? {
                Some(chunk) => self.chunk = chunk,
                None => return Ok(0),
            }
        }
        let read = self.chunk.len().min(buffer.len());
        buffer[..read].copy_from_slice(&self.chunk[..read]);
        self.chunk.advance(read);
        Ok(read)
    }
}
