//! HTTP transfer of one file into its part file, with retries and resume.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::thread;

use ureq::http::header::{CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName, IF_RANGE, LAST_MODIFIED, RANGE};
use ureq::http::{HeaderMap, Response};
use ureq::{Agent, Body};

use super::error::{FetchError, write_error};
use super::options::FetchOptions;
use super::part::{Files, State};
use crate::files::progress::{Progress, Unit};

const READ_BYTES: usize = 1 << 16;
/// An attempt that receives at least this much resets the retry counter.
const RESET_TRIES_BYTES: u64 = 1 << 20;

/// Failure of one attempt.
enum Failure {
    /// The next attempt may succeed.
    Transient(String),
    /// Every further attempt would fail the same way.
    Fatal(FetchError),
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        Self::Fatal(error)
    }
}

/// Downloads into the part file, retrying as needed. Returns the complete part file and the number of bytes downloaded.
pub(super) fn download(options: &FetchOptions, files: &Files, progress: &dyn Progress) -> Result<(File, u64), FetchError> {
    let mut transfer = Transfer::start(options, files, progress)?;
    let mut tries = 0;
    let mut pause = options.pause;
    loop {
        let before = transfer.downloaded;
        tries += 1;
        match transfer.attempt() {
            Ok(()) => return Ok((transfer.part, transfer.downloaded)),
            Err(Failure::Fatal(error)) => {
                if transfer.have == 0 {
                    // There is nothing to resume from.
                    files.remove_part()?;
                }
                return Err(error);
            }
            Err(Failure::Transient(reason)) => {
                if transfer.downloaded - before >= RESET_TRIES_BYTES {
                    (tries, pause) = (1, options.pause);
                }
                if tries >= options.tries {
                    if transfer.have == 0 {
                        files.remove_part()?;
                    }
                    return Err(FetchError::GaveUp {
                        url: options.url.clone(),
                        tries,
                        reason,
                        have: transfer.have,
                        total: transfer.state.as_ref().and_then(|state| state.total),
                        part: files.part.clone(),
                    });
                }
                tracing::warn!("{}: {reason}; retrying in {:.1} s", options.url, pause.as_secs_f64());
                thread::sleep(pause);
                pause = pause.saturating_mul(2);
            }
        }
    }
}

struct Transfer<'a> {
    options: &'a FetchOptions,
    files: &'a Files,
    progress: &'a dyn Progress,
    agent: Agent,
    part: File,
    /// Bytes in the part file.
    have: u64,
    /// Identity of the file that they belong to.
    state: Option<State>,
    downloaded: u64,
}

impl<'a> Transfer<'a> {
    fn start(options: &'a FetchOptions, files: &'a Files, progress: &'a dyn Progress) -> Result<Self, FetchError> {
        let part = files.open_part()?;
        let have = part.metadata().map_err(write_error(&files.part))?.len();
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .user_agent(concat!("glm/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(Some(options.connect_timeout))
            .timeout_connect(Some(options.connect_timeout))
            .timeout_recv_response(Some(options.stall_timeout))
            .timeout_per_read(Some(options.stall_timeout))
            .build();
        // A part file of another URL or of unknown origin is discarded.
        let state = files.state().filter(|state| state.url == options.url);
        let mut transfer = Self { options, files, progress, agent: config.new_agent(), part, have, state, downloaded: 0 };
        if transfer.state.as_ref().is_none_or(|state| state.total.is_some_and(|total| have > total)) {
            transfer.restart(None)?;
        }
        Ok(transfer)
    }

    /// Discards the received bytes.
    fn restart(&mut self, state: Option<State>) -> Result<(), FetchError> {
        self.part.set_len(0).map_err(write_error(&self.files.part))?;
        self.have = 0;
        if let Some(state) = &state {
            self.files.set_state(state)?;
        }
        self.state = state;
        Ok(())
    }

    fn total(&self) -> Option<u64> {
        self.state.as_ref().and_then(|state| state.total)
    }

    fn is_whole(&self) -> bool {
        self.have > 0 && self.total() == Some(self.have)
    }

    fn attempt(&mut self) -> Result<(), Failure> {
        // A process killed after the last byte leaves a complete part file.
        if self.is_whole() {
            return Ok(());
        }
        let mut response = self.request()?;
        match response.status().as_u16() {
            200 => {
                refuse_html(self.options, response.headers())?;
                let state = State {
                    url: self.options.url.clone(),
                    validator: validator(response.headers()),
                    total: response.body().content_length(),
                };
                // The complete file: the first request, or the file has changed, or the server does not support ranges.
                self.restart(Some(state))?;
            }
            206 => self.check_range(response.headers())?,
            416 => {
                self.restart(None)?;
                return Err(Failure::Transient("the part file no longer matches the file on the server, starting over".into()));
            }
            status @ (408 | 429 | 500..=599) => return Err(Failure::Transient(format!("the server returned status {status}"))),
            status => return Err(FetchError::Status { url: self.options.url.clone(), status }.into()),
        }
        self.progress.begin(&format!("fetching {}", self.options.name), self.total().unwrap_or(0), Unit::Bytes);
        self.progress.advance(self.have);
        let outcome = self.receive(&mut response);
        self.progress.end();
        outcome
    }

    fn request(&mut self) -> Result<Response<Body>, Failure> {
        let mut request = self.agent.get(&self.options.url);
        if self.have > 0 {
            match self.state.as_ref().and_then(|state| state.validator.as_ref()) {
                Some(validator) => {
                    request = request.header(RANGE, format!("bytes={}-", self.have)).header(IF_RANGE, validator);
                }
                // Without a validator the server cannot detect that the file has changed.
                None => self.restart(None)?,
            }
        }
        request.call().map_err(|error| self.failure(error))
    }

    fn failure(&self, error: ureq::Error) -> Failure {
        use ureq::Error;
        match error {
            Error::Io(error) => Failure::Transient(match error.kind() {
                std::io::ErrorKind::ConnectionRefused => "the connection was refused".to_owned(),
                _ => error.to_string(),
            }),
            Error::Timeout(_) => Failure::Transient(format!("the server does not respond ({error})")),
            Error::HostNotFound => Failure::Transient("the host was not found, or there is no network".to_owned()),
            Error::ConnectionFailed | Error::Protocol(_) => Failure::Transient(error.to_string()),
            other => FetchError::Request { url: self.options.url.clone(), reason: other.to_string() }.into(),
        }
    }

    /// Checks that the range starts where the part file ends and that the size of the complete file is unchanged.
    fn check_range(&mut self, headers: &HeaderMap) -> Result<(), Failure> {
        let range = text(headers, &CONTENT_RANGE).and_then(parse_range);
        let total = self.total();
        match range {
            Some((start, whole))
                if start == self.have && self.have > 0 && (total.is_none() || whole.is_none() || whole == total) =>
            {
                if let (Some(state), None, Some(_)) = (&mut self.state, total, whole) {
                    state.total = whole;
                }
                Ok(())
            }
            _ => {
                self.restart(None)?;
                Err(Failure::Transient("the server sent another range than requested, starting over".to_owned()))
            }
        }
    }

    fn receive(&mut self, response: &mut Response<Body>) -> Result<(), Failure> {
        let files = self.files;
        self.part.seek(SeekFrom::Start(self.have)).map_err(write_error(&files.part))?;
        let mut body = response.body_mut().as_reader();
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let read = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Failure::Transient(format!("the connection was interrupted ({error})"))),
            };
            let bytes = &buffer[..read];
            if self.have == 0 {
                refuse_other_content(self.options, bytes)?;
            }
            if let Err(error) = self.part.write_all(bytes) {
                // Some of the bytes may have been written; they are valid.
                self.have = self.part.metadata().map_or(self.have, |found| found.len());
                return Err(write_error(&files.part)(error).into());
            }
            self.have += read as u64;
            self.downloaded += read as u64;
            self.progress.advance(read as u64);
        }
        match self.total() {
            Some(total) if self.have < total => Err(Failure::Transient("the connection was closed early".to_owned())),
            Some(total) if self.have > total => {
                self.restart(None)?;
                Err(Failure::Transient("the server sent more bytes than announced, starting over".to_owned()))
            }
            _ => Ok(()),
        }
    }
}

fn refuse_html(options: &FetchOptions, headers: &HeaderMap) -> Result<(), FetchError> {
    match text(headers, &CONTENT_TYPE) {
        Some(kind) if kind.trim_start().to_ascii_lowercase().starts_with("text/html") => {
            Err(FetchError::Html { url: options.url.clone(), kind: options.archive })
        }
        _ => Ok(()),
    }
}

/// Checks the first bytes, so that a wrong file is not downloaded completely.
fn refuse_other_content(options: &FetchOptions, first: &[u8]) -> Result<(), FetchError> {
    let (url, kind) = (options.url.clone(), options.archive);
    let magic = kind.magic();
    if first.starts_with(&magic[..magic.len().min(first.len())]) {
        Ok(())
    } else if first.trim_ascii_start().starts_with(b"<") {
        Err(FetchError::Html { url, kind })
    } else {
        Err(FetchError::NotAnArchive { url, kind, reason: "wrong first bytes".to_owned() })
    }
}

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// Value for `If-Range`; weak `ETag`s are not allowed there.
fn validator(headers: &HeaderMap) -> Option<String> {
    let strong = text(headers, &ETAG).filter(|tag| tag.starts_with('"'));
    strong.or_else(|| text(headers, &LAST_MODIFIED)).map(str::to_owned)
}

/// Parses `bytes FIRST-LAST/TOTAL` into the first byte and the total size.
fn parse_range(value: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = value.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, _) = range.split_once('-')?;
    let total = if total.trim() == "*" { None } else { Some(total.trim().parse().ok()?) };
    Some((first.trim().parse().ok()?, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        assert_eq!(parse_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(parse_range("bytes 5-9/*"), Some((5, None)));
        for other in ["", "bytes */10", "items 1-2/3", "bytes 5/10", "bytes a-b/c"] {
            assert_eq!(parse_range(other), None, "{other}");
        }
    }

    #[test]
    fn a_weak_tag_is_not_a_validator() {
        let mut headers = HeaderMap::new();
        assert_eq!(validator(&headers), None);
        headers.insert(ETAG, "W/\"x\"".parse().expect("value"));
        assert_eq!(validator(&headers), None);
        headers.insert(LAST_MODIFIED, "Mon, 01 Jan 2024 00:00:00 GMT".parse().expect("value"));
        assert_eq!(validator(&headers).as_deref(), Some("Mon, 01 Jan 2024 00:00:00 GMT"));
        headers.insert(ETAG, "\"y\"".parse().expect("value"));
        assert_eq!(validator(&headers).as_deref(), Some("\"y\""));
    }
}
