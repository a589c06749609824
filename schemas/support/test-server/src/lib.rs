//! A server that answers as a test tells it to: cut, silent, without ranges, changed.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// The `ETag` that answers have unless they say otherwise.
pub const TAG: &str = "\"one\"";

/// One request: the values of `Range` and `If-Range`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// `Range`.
    pub range: Option<String>,
    /// `If-Range`.
    pub if_range: Option<String>,
}

/// What the server does with a request.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status, where no range is sent.
    pub status: u16,
    /// The whole file.
    pub body: Vec<u8>,
    /// More headers.
    pub headers: Vec<String>,
    /// Bytes after which it hangs up.
    pub cut: Option<usize>,
    /// Bytes after which it says nothing more, without hanging up.
    pub stall: Option<usize>,
    /// Whether it knows ranges.
    pub ranges: bool,
    /// `ETag`; none if empty.
    pub tag: &'static str,
}

impl Answer {
    /// A file.
    pub fn file(body: &[u8]) -> Self {
        Self { status: 200, body: body.to_vec(), headers: vec![], cut: None, stall: None, ranges: true, tag: TAG }
    }

    /// A refusal.
    pub fn status(status: u16) -> Self {
        Self { status, ranges: false, ..Self::file(b"<html>no</html>") }
    }

    /// Hangs up behind that many bytes.
    #[must_use]
    pub fn cut(self, after: usize) -> Self {
        Self { cut: Some(after), ..self }
    }

    fn send(&self, asked: &Asked, stream: &mut TcpStream) -> std::io::Result<()> {
        let start = asked.range.as_deref().filter(|_| self.ranges && asked.if_range.as_deref() == Some(self.tag));
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

/// Answers one request after the other as it was told; the last answer is given again and again.
#[derive(Debug)]
pub struct Server {
    /// Where it is.
    pub url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    /// Starts it on a port of this machine; `file` is the last part of its address.
    ///
    /// # Panics
    /// If there is no port.
    pub fn start(file: &str, answers: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let url = format!("http://{}/{file}", listener.local_addr().expect("address"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        // Ends with the test's process.
        thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let answer = answers[number.min(answers.len() - 1)].clone();
                let log = Arc::clone(&log);
                thread::spawn(move || {
                    let mut stream = stream.expect("accept");
                    let request = read_request(&stream);
                    log.lock().expect("log").push(request.clone());
                    // The client may have gone.
                    let _ = answer.send(&request, &mut stream);
                });
            }
        });
        Self { url, asked }
    }

    /// The requests so far.
    ///
    /// # Panics
    /// If a request could not be read.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("log").clone()
    }
}

fn read_request(stream: &TcpStream) -> Asked {
    let mut asked = Asked { range: None, if_range: None };
    for line in BufReader::new(stream).lines() {
        let line = line.expect("a line");
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(": ") {
            match name.to_ascii_lowercase().as_str() {
                "range" => asked.range = Some(value.to_owned()),
                "if-range" => asked.if_range = Some(value.to_owned()),
                _ => {}
            }
        }
    }
    asked
}
