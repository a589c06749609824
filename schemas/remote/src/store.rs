//! Files at and below a location.

mod credentials;
mod failure;
mod header;
mod hub;
mod reader;
mod runtime;
#[cfg(test)]
mod tests;
mod upload;

use std::cell::RefCell;
use std::fs::File;
use std::io::Read;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use object_store::http::HttpBuilder;
use object_store::path::Path;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, ObjectStoreExt, PutPayload, RetryConfig};

pub use self::reader::Reader;

use self::header::http_value;
use self::runtime::block_on;
use self::upload::{UploadError, upload};
use super::location::{Location, Service};
use super::sums::{self, SUMS_FILE};
use super::{Object, RemoteError};

/// Maximum number of files in a folder and its folders.
const MAX_FILES: usize = 1_000_000;
/// Maximum size of a file that is read into memory.
const MAX_TEXT: u64 = 256 << 20;
/// Time to connect.
const CONNECT: Duration = Duration::from_secs(10);
/// Time of one request: of a part of an upload, or of as much of a download as comes in that time.
const REQUEST: Duration = Duration::from_secs(300);
const USER_AGENT: &str = concat!("glm/", env!("CARGO_PKG_VERSION"));

thread_local! {
    /// Stores that this thread has opened: connections and credentials are used again.
    static OPEN: RefCell<Vec<(Service, Arc<dyn ObjectStore>)>> = const { RefCell::new(Vec::new()) };
}

/// Files at and below a location.
#[derive(Debug, Clone)]
pub struct Store {
    location: Location,
    objects: Arc<dyn ObjectStore>,
    /// Path of the location in `objects`.
    base: String,
}

impl Store {
    /// Opens the store of a location. No request is sent.
    ///
    /// # Errors
    /// [`RemoteError`] if there are no credentials, or they cannot be used.
    pub fn open(location: &Location) -> Result<Self, RemoteError> {
        let backoff = BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(8),
            ..BackoffConfig::default()
        };
        let retry = RetryConfig { backoff, max_retries: 6, retry_timeout: Duration::from_secs(120) };
        let options = ClientOptions::new()
            .with_allow_http(true)
            .with_connect_timeout(CONNECT)
            .with_timeout(REQUEST)
            .with_user_agent(http_value(USER_AGENT));
        let failed = |error: object_store::Error| RemoteError::Credentials {
            url: location.to_string(),
            reason: failure::reason(&error),
            remedy: failure::credentials(location),
        };
        let mut base = location.path.clone();
        let key = location.service.clone();
        if let Some(objects) =
            OPEN.with_borrow(|open| open.iter().find(|(other, _)| *other == key).map(|(_, objects)| Arc::clone(objects)))
        {
            return Ok(Self { location: location.clone(), objects, base });
        }
        let objects: Arc<dyn ObjectStore> = match &location.service {
            Service::S3 { bucket } => {
                let builder = credentials::s3(location, bucket)?.with_client_options(options).with_retry(retry);
                Arc::new(builder.build().map_err(failed)?)
            }
            Service::Google { bucket } => {
                let builder = credentials::google(bucket).with_client_options(options).with_retry(retry);
                Arc::new(builder.build().map_err(failed)?)
            }
            Service::Azure { container } => {
                let builder = credentials::azure(container).with_client_options(options).with_retry(retry);
                Arc::new(builder.build().map_err(failed)?)
            }
            Service::Http { origin, query } => {
                let query = query.as_ref().map_or_else(String::new, |query| format!("?{query}"));
                let url = format!("{origin}/{}{query}", std::mem::take(&mut base));
                Arc::new(
                    HttpBuilder::new().with_url(url).with_client_options(options).with_retry(retry).build().map_err(failed)?,
                )
            }
            Service::Hub(repository) => {
                let url = hub::files_url(repository)?;
                let options = options.with_default_headers(hub::headers());
                Arc::new(
                    HttpBuilder::new().with_url(url).with_client_options(options).with_retry(retry).build().map_err(failed)?,
                )
            }
        };
        // Each URL of a server has a store of its own, since its path is part of it.
        if !matches!(key, Service::Http { .. }) {
            OPEN.with_borrow_mut(|open| open.push((key, Arc::clone(&objects))));
        }
        Ok(Self { location: location.clone(), objects, base })
    }

    /// The location.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// Path of a file in the store; the location itself if `name` is empty.
    fn path(&self, name: &str) -> Result<Path, RemoteError> {
        let path = match (self.base.is_empty(), name.is_empty()) {
            (true, _) => name.to_owned(),
            (false, true) => self.base.clone(),
            (false, false) => format!("{}/{name}", self.base),
        };
        Path::parse(&path).map_err(|error| RemoteError::Url { url: self.at(name).to_string(), reason: error.to_string() })
    }

    fn at(&self, name: &str) -> Location {
        if name.is_empty() { self.location.clone() } else { self.location.join(name) }
    }

    /// Lists the files below the location and in its folders, sorted by name. A folder at an `https://` URL is listed by its file
    /// [`SUMS_FILE`].
    ///
    /// # Errors
    /// [`RemoteError`]; a folder without files is not an error, except at an `https://` URL.
    pub fn list(&self) -> Result<Vec<Object>, RemoteError> {
        let mut files = match &self.location.service {
            Service::Http { .. } => self.listed_in_sums()?,
            Service::Hub(repository) => hub::list(&self.location, repository)?,
            Service::S3 { .. } | Service::Google { .. } | Service::Azure { .. } => self.listed_objects()?,
        };
        // Names are not trusted: files of these names may be written to disk.
        files.retain(|file| sums::is_inside(&file.name));
        files.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(files)
    }

    fn listed_objects(&self) -> Result<Vec<Object>, RemoteError> {
        let prefix = self.path("")?;
        let start = if self.base.is_empty() { 0 } else { prefix.as_ref().len() + 1 };
        let all = async {
            let mut files = Vec::new();
            let mut found = self.objects.list(Some(&prefix).filter(|_| start > 0));
            while let Some(meta) = found.try_next().await? {
                let Some(name) = meta.location.as_ref().get(start..) else { continue };
                let (name, tag) = (name.to_owned(), meta.e_tag.unwrap_or_default());
                files.push(Object { name, bytes: Some(meta.size), tag, sha256: None });
                if files.len() > MAX_FILES {
                    return Ok(files);
                }
            }
            Ok(files)
        };
        let files = block_on(all)?.map_err(|error| RemoteError::of_store("list", &self.location, &error))?;
        if files.len() > MAX_FILES {
            let reason = format!("it holds more than {MAX_FILES} files; give a folder below it");
            return Err(RemoteError::List { url: self.location.to_string(), reason });
        }
        Ok(files)
    }

    fn listed_in_sums(&self) -> Result<Vec<Object>, RemoteError> {
        let refuse = |reason: String| RemoteError::List { url: self.location.to_string(), reason };
        let Some(text) = self.text(SUMS_FILE)? else {
            return Err(refuse(format!(
                "there is no {SUMS_FILE} in it, which lists the files of a folder at an https:// URL; make one with `find . -type f ! \
                 -name {SUMS_FILE} -exec sha256sum {{}} + > {SUMS_FILE}`, or give the URL of a file"
            )));
        };
        let text = String::from_utf8_lossy(&text);
        let files = sums::parse(&text)
            .map_err(|line| refuse(format!("line {line} of {SUMS_FILE} is not a checksum and the name of a file")))?;
        let object = |(name, sum): (String, String)| Object { name, bytes: None, tag: sum.clone(), sha256: Some(sum) };
        Ok(files.into_iter().map(object).collect())
    }

    /// Returns the file `name`, or the location itself for an empty name; `None` if there is no such file.
    ///
    /// # Errors
    /// [`RemoteError`] of the server.
    pub fn head(&self, name: &str) -> Result<Option<Object>, RemoteError> {
        if self.base.is_empty() && name.is_empty() && self.location.path.is_empty() {
            return Ok(None);
        }
        let path = self.path(name)?;
        match block_on(self.objects.head(&path))? {
            Ok(meta) => {
                let (bytes, tag) = (Some(meta.size), meta.e_tag.unwrap_or_default());
                Ok(Some(Object { name: name.to_owned(), bytes, tag, sha256: None }))
            }
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(RemoteError::of_store("read", &self.at(name), &error)),
        }
    }

    /// Opens a file, or the location itself for an empty name.
    ///
    /// # Errors
    /// [`RemoteError`] if there is no such file, or it cannot be read.
    pub fn read(&self, name: &str) -> Result<Reader, RemoteError> {
        Reader::open(Arc::clone(&self.objects), self.path(name)?, self.at(name))
    }

    /// Reads a range of a file.
    ///
    /// # Errors
    /// [`RemoteError`] if there is no such file, or it is shorter.
    pub fn range(&self, name: &str, range: std::ops::Range<u64>) -> Result<bytes::Bytes, RemoteError> {
        let path = self.path(name)?;
        let found = block_on(self.objects.get_range(&path, range))?;
        found.map_err(|error| RemoteError::of_store("read", &self.at(name), &error))
    }

    /// Reads a small file; `None` if there is none.
    ///
    /// # Errors
    /// [`RemoteError`] if the file cannot be read, or is not small.
    pub fn text(&self, name: &str) -> Result<Option<Vec<u8>>, RemoteError> {
        let mut reader = match self.read(name) {
            Ok(reader) => reader,
            Err(error) if error.is_missing() => return Ok(None),
            Err(error) => return Err(error),
        };
        let url = self.at(name).to_string();
        if reader.size() > MAX_TEXT {
            return Err(RemoteError::Content { url, reason: format!("is larger than {} MB", MAX_TEXT >> 20) });
        }
        let mut text = Vec::new();
        match reader.read_to_end(&mut text) {
            Ok(_) => Ok(Some(text)),
            Err(error) => Err(RemoteError::of_read(url, error)),
        }
    }

    /// Writes a file with this content.
    ///
    /// # Errors
    /// [`RemoteError`]; the file is unchanged then.
    pub fn write(&self, name: &str, content: Vec<u8>) -> Result<(), RemoteError> {
        self.location.check_writable()?;
        let path = self.path(name)?;
        let written = block_on(self.objects.put(&path, PutPayload::from(content)))?;
        written.map(drop).map_err(|error| RemoteError::of_store("write", &self.at(name), &error))
    }

    /// Uploads a file, and calls `sent` with the number of bytes that are on their way, again and again. Memory is bounded; the file
    /// appears in the store when all of it is there.
    ///
    /// # Errors
    /// [`RemoteError`]; the file in the store is unchanged then.
    pub fn upload(&self, from: &FilePath, name: &str, sent: &dyn Fn(u64)) -> Result<u64, RemoteError> {
        self.location.check_writable()?;
        let (path, location) = (self.path(name)?, self.at(name));
        let mut file = File::open(from).map_err(RemoteError::file("read", from))?;
        upload(&self.objects, &path, &location, &mut file, sent).map_err(|error| match error {
            UploadError::File(source) => RemoteError::file("read", from)(source),
            UploadError::Store(error) => error,
        })
    }

    /// Removes a file. It is not an error if there is none.
    ///
    /// # Errors
    /// [`RemoteError`] of the server.
    pub fn remove(&self, name: &str) -> Result<(), RemoteError> {
        self.location.check_writable()?;
        let path = self.path(name)?;
        match block_on(self.objects.delete(&path))? {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(RemoteError::of_store("delete", &self.at(name), &error)),
        }
    }
}

/// Forgets the stores of this thread, whose environment has changed.
#[cfg(test)]
pub(crate) fn forget_stores() {
    OPEN.with_borrow_mut(Vec::clear);
}
