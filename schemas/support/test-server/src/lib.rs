//! HTTP servers for tests: [`Server`] has scripted responses, truncated, stalled, without ranges, changed; [`Objects`] is an object
//! store.

mod objects;

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

pub use self::objects::Objects;

/// Default `ETag` of answers.
pub const TAG: &str = "\"one\"";

/// Headers of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `Range`.
    pub range: Option<String>,
    /// `If-Range`.
    pub if_range: Option<String>,
}

/// Scripted response to a request.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status of responses without a range.
    pub status: u16,
    /// Complete file.
    pub body: Vec<u8>,
    /// Additional headers.
    pub headers: Vec<String>,
    /// Number of bytes after which the connection is closed.
    pub cut: Option<usize>,
    /// Number of bytes after which nothing more is sent, with the connection kept open.
    pub stall: Option<usize>,
    /// Support range requests.
    pub ranges: bool,
    /// `ETag`; not sent if empty.
    pub tag: &'static str,
}

impl Answer {
    /// A response with a file.
    pub fn file(body: &[u8]) -> Self {
        Self { status: 200, body: body.to_vec(), headers: vec![], cut: None, stall: None, ranges: true, tag: TAG }
    }

    /// A response with an error status.
    pub fn status(status: u16) -> Self {
        Self { status, ranges: false, ..Self::file(b"<html>no</html>") }
    }

    /// Closes the connection after `after` bytes.
    #[must_use]
    pub fn cut(self, after: usize) -> Self {
        Self { cut: Some(after), ..self }
    }

    fn send(&self, request: &Request, stream: &mut TcpStream) -> std::io::Result<()> {
        let start = request.range.as_deref().filter(|_| self.ranges && request.if_range.as_deref() == Some(self.tag));
        let start: Option<usize> = start.map(|range| range["bytes=".len()..].trim_end_matches('-').parse().expect("a range"));
        let (status, body) = match start {
            None => (self.status, &self.body[..]),
            Some(start) => (206, &self.body[start..]),
        };
        write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n", body.len())?;
        if status < 300 && !self.tag.is_empty() {
            write!(stream, "ETag: {}\r\n", self.tag)?;
        }
        if let Some(start) = start {
            write!(stream, "Content-Range: bytes {start}-{}/{}\r\n", self.body.len() - 1, self.body.len())?;
        }
        for header in &self.headers {
            write!(stream, "{header}\r\n")?;
        }
        stream.write_all(b"\r\n")?;
        let sent = self.cut.or(self.stall).unwrap_or(usize::MAX).min(body.len());
        stream.write_all(&body[..sent])?;
        stream.flush()?;
        if self.stall.is_some() {
            thread::sleep(Duration::from_secs(20));
        }
        Ok(())
    }
}

/// A server with one answer per request; the last one is repeated.
#[derive(Debug)]
pub struct Server {
    /// URL of the file.
    pub url: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// Starts a server on a free local port; `file` is the last part of its URL.
    ///
    /// # Panics
    /// Panics if no port is available.
    pub fn start(file: &str, answers: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let url = format!("http://{}/{file}", listener.local_addr().expect("address"));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&requests);
        // The thread ends with the test process.
        thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let answer = answers[number.min(answers.len() - 1)].clone();
                let log = Arc::clone(&log);
                thread::spawn(move || {
                    let mut stream = stream.expect("accept");
                    let request = read_request(&stream);
                    log.lock().expect("log").push(request.clone());
                    // The client may have disconnected.
                    let _ = answer.send(&request, &mut stream);
                });
            }
        });
        Self { url, requests }
    }

    /// Requests received so far.
    ///
    /// # Panics
    /// Panics if a request could not be read.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("log").clone()
    }
}

fn read_request(stream: &TcpStream) -> Request {
    let mut request = Request { range: None, if_range: None };
    for line in BufReader::new(stream).lines() {
        let line = line.expect("a line");
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(": ") {
            match name.to_ascii_lowercase().as_str() {
                "range" => request.range = Some(value.to_owned()),
                "if-range" => request.if_range = Some(value.to_owned()),
                _ => {}
            }
        }
    }
    request
}
