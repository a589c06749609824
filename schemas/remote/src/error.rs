//! Errors of object stores, and what to do about them.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::location::{Location, Service};

/// Error of this crate. Every message is one sentence that names the URL.
#[derive(Debug, Error)]
pub enum RemoteError {
    /// The URL is malformed or not supported.
    #[error("{url}: {reason}")]
    Url {
        /// The URL, without secrets.
        url: String,
        /// Reason and remedy.
        reason: String,
    },
    /// Nothing is there.
    #[error("there is nothing at {url} ({reason}); check the URL: names of buckets and files are case-sensitive")]
    Missing {
        /// The URL.
        url: String,
        /// Answer of the server.
        reason: String,
    },
    /// The server refused access.
    #[error("no access to {url} ({reason}); {remedy}")]
    Denied {
        /// The URL.
        url: String,
        /// Answer of the server.
        reason: String,
        /// Where credentials come from.
        remedy: &'static str,
    },
    /// There are no credentials, or they cannot be used.
    #[error("no credentials for {url}: {reason}; {remedy}")]
    Credentials {
        /// The URL.
        url: String,
        /// What is missing or wrong.
        reason: String,
        /// Where credentials come from.
        remedy: &'static str,
    },
    /// The server cannot be reached, or fails again and again.
    #[error("cannot {doing} {url}: {reason}; {remedy}")]
    Request {
        /// Verb: read, write, list or delete.
        doing: &'static str,
        /// The URL.
        url: String,
        /// Last failure.
        reason: String,
        /// What to check.
        remedy: &'static str,
    },
    /// A file changed while it was read.
    #[error("{url} changed while it was read; run the command again")]
    Changed {
        /// The URL.
        url: String,
    },
    /// Files cannot be written there.
    #[error("cannot write to {url}: only s3://, gs:// and az:// can be written to")]
    ReadOnly {
        /// The URL.
        url: String,
    },
    /// A file has another checksum than the list of its folder.
    #[error("{url} has sha256 {found}, but {list} lists {expected}; it was damaged or replaced: write it to the store again")]
    Checksum {
        /// The URL.
        url: String,
        /// Checksum of the content.
        found: String,
        /// Name of the list: the manifest of a data set, or a list of checksums.
        list: String,
        /// Checksum on the list.
        expected: String,
    },
    /// A file has another size than the list of its folder says.
    #[error("{url} has {found} bytes, but {list} lists {expected}; it was truncated or replaced: write it to the store again")]
    Size {
        /// The URL.
        url: String,
        /// Size of the file.
        found: u64,
        /// Name of the list: the manifest of a data set, or a list of checksums.
        list: String,
        /// Size on the list.
        expected: u64,
    },
    /// A folder cannot be listed.
    #[error("cannot list {url}: {reason}")]
    List {
        /// The URL.
        url: String,
        /// Reason and remedy.
        reason: String,
    },
    /// There is no data set or there are no weights at the URL.
    #[error("{url} {reason}")]
    Content {
        /// The URL.
        url: String,
        /// What is missing, with a remedy.
        reason: String,
    },
    /// The files do not fit into the cache.
    #[error(
        "{url} needs {needed} MB in the cache {}, whose limit is {limit} MB, of which {in_use} MB are in use by other processes; set \
         GLM_CACHE_LIMIT to a larger size, such as 200GB",
        cache.display()
    )]
    CacheFull {
        /// The URL.
        url: String,
        /// Folder of the cache.
        cache: PathBuf,
        /// Size of the files.
        needed: u64,
        /// Maximum size of the cache.
        limit: u64,
        /// Size of what cannot be removed.
        in_use: u64,
    },
    /// The setting of the cache is not valid.
    #[error("{0}")]
    CacheSetting(String),
    /// A local file or folder cannot be read or written.
    #[error("cannot {doing} {}: {source}", path.display())]
    File {
        /// Verb: read, write, create, lock or remove.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The threads for connections cannot be started.
    #[error("cannot start threads for connections: {0}")]
    Threads(io::Error),
}

impl RemoteError {
    /// Returns a function that adds a verb and a path to an error of the operating system.
    pub(crate) fn file(doing: &'static str, path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self::File { doing, path: path.to_owned(), source }
    }

    /// Returns true if nothing is at the URL.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Missing { .. })
    }

    /// Converts an error of a store.
    pub(crate) fn of_store(doing: &'static str, location: &Location, error: &object_store::Error) -> Self {
        use object_store::Error as E;
        let (url, reason) = (location.to_string(), reason(error));
        match error {
            E::NotFound { .. } => Self::Missing { url, reason },
            E::PermissionDenied { .. } | E::Unauthenticated { .. } => {
                Self::Denied { url, reason, remedy: credentials(location) }
            }
            E::Precondition { .. } | E::NotModified { .. } => Self::Changed { url },
            // Stores of keys in the wrong form, refused by their own tools with the same codes.
            _ if DENIED.iter().any(|code| reason.contains(code)) => Self::Denied { url, reason, remedy: credentials(location) },
            _ if reason.contains("169.254.169.254") || reason.contains("metadata.google.internal") => {
                let reason = "this machine has none of its own".to_owned();
                Self::Credentials { url, reason, remedy: credentials(location) }
            }
            _ => Self::Request { doing, url, reason, remedy: connection(location) },
        }
    }
}

/// Codes of refused requests that come with another status than 401 and 403.
const DENIED: [&str; 4] = ["InvalidAccessKeyId", "AuthorizationHeaderMalformed", "ExpiredToken", "InvalidToken"];

/// Maximum number of characters of a server's answer in a message.
const SHOWN_CHARACTERS: usize = 240;

/// Returns the innermost error of a chain in short: the code and message of a server's answer, if it is XML.
pub(crate) fn reason(error: &dyn Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let text = innermost.to_string();
    let element = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        Some(rest.split_once("</")?.0.trim())
    };
    let found = match (element("Code"), element("Message")) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code.to_owned(),
        _ => text.trim().to_owned(),
    };
    let line: String = found.lines().next().unwrap_or_default().chars().take(SHOWN_CHARACTERS).collect();
    line.trim_end_matches(['.', ' ', ':']).to_owned()
}

/// Where the credentials of a service come from.
pub(crate) fn credentials(location: &Location) -> &'static str {
    match &location.service {
        Service::S3 { .. } => {
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE for a profile in ~/.aws/credentials, or \
             AWS_SKIP_SIGNATURE=true for a public bucket; AWS_ENDPOINT_URL and AWS_REGION choose another server"
        }
        Service::Google { .. } => {
            "set GOOGLE_APPLICATION_CREDENTIALS to the path of a key, run `gcloud auth application-default login`, or set \
             GOOGLE_SKIP_SIGNATURE=true for a public bucket"
        }
        Service::Azure { .. } => {
            "set AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_KEY, AZURE_STORAGE_SAS_TOKEN or AZURE_STORAGE_CONNECTION_STRING, or run \
             `az login`"
        }
        Service::Http { .. } => "use a signed URL, or download the file and give its path",
        Service::Hub(_) => {
            "check the name; for private and gated repositories set HF_TOKEN, or run `hf auth login`, with a token that may read them"
        }
    }
}

/// What to check if a service cannot be reached.
fn connection(location: &Location) -> &'static str {
    match &location.service {
        Service::S3 { .. } => "check the network, AWS_REGION and AWS_ENDPOINT_URL, and run the command again",
        Service::Google { .. } => "check the network, and run the command again",
        Service::Azure { .. } => {
            "check the network, AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_ENDPOINT, and run the command again"
        }
        Service::Http { .. } => "check the network and the URL, and run the command again",
        Service::Hub(_) => "check the network and HF_ENDPOINT, and run the command again",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_shortened() {
        let error = |text: &str| io::Error::other(text.to_owned());
        let xml = "Server returned 403: <?xml?>\n<Error><Code>AccessDenied</Code><Message>No access.</Message></Error>";
        assert_eq!(reason(&error(xml)), "AccessDenied: No access");
        assert_eq!(reason(&error("refused\nmore")), "refused");
        assert_eq!(reason(&error(&"x".repeat(1000))).len(), SHOWN_CHARACTERS);
    }
}
