//! Stores of a program that was built without the feature `network`: none can be opened.

use std::convert::Infallible;
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;

use super::{Location, Object, RemoteError};

/// Files at and below a location. There is no value of this type.
#[derive(Debug, Clone)]
pub struct Store(Infallible);

/// Content of a file. There is no value of this type.
#[derive(Debug)]
pub struct Reader(Infallible);

#[allow(clippy::missing_errors_doc, missing_docs, reason = "the documentation is that of the feature `network`")]
impl Store {
    /// Opens the store of a location.
    ///
    /// # Errors
    /// [`RemoteError::Unsupported`], always.
    pub fn open(location: &Location) -> Result<Self, RemoteError> {
        Err(RemoteError::Unsupported { url: location.to_string() })
    }

    pub fn location(&self) -> &Location {
        match self.0 {}
    }

    pub fn list(&self) -> Result<Vec<Object>, RemoteError> {
        match self.0 {}
    }

    pub fn head(&self, _name: &str) -> Result<Option<Object>, RemoteError> {
        match self.0 {}
    }

    pub fn read(&self, _name: &str) -> Result<Reader, RemoteError> {
        match self.0 {}
    }

    pub fn range(&self, _name: &str, _range: Range<u64>) -> Result<bytes::Bytes, RemoteError> {
        match self.0 {}
    }

    pub fn text(&self, _name: &str) -> Result<Option<Vec<u8>>, RemoteError> {
        match self.0 {}
    }

    pub fn write(&self, _name: &str, _content: Vec<u8>) -> Result<(), RemoteError> {
        match self.0 {}
    }

    pub fn upload(&self, _from: &Path, _name: &str, _sent: &dyn Fn(u64)) -> Result<u64, RemoteError> {
        match self.0 {}
    }

    pub fn remove(&self, _name: &str) -> Result<(), RemoteError> {
        match self.0 {}
    }
}

impl Reader {
    /// Size of the file in bytes.
    pub fn size(&self) -> u64 {
        match self.0 {}
    }
}

impl Read for Reader {
    fn read(&mut self, _buffer: &mut [u8]) -> io::Result<usize> {
        match self.0 {}
    }
}

/// Refuses an HTTP or HTTPS URL.
///
/// # Errors
/// Always.
pub(crate) fn parse(_text: &str) -> Result<Location, String> {
    Err("this program was built without object stores and downloads; build it with them (`cargo build --release`), or copy the files to a disk".to_owned())
}

/// Returns the path of an HTTP URL as it is: there is none.
pub(crate) fn encoded(path: &str) -> String {
    path.to_owned()
}
