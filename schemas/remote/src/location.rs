//! URLs of object stores.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use super::RemoteError;
#[cfg(feature = "network")]
use super::http::{encoded, parse};
#[cfg(not(feature = "network"))]
use super::no_store::{encoded, parse};
use glm_support::files::output::is_url;

/// Place of a file or folder in an object store:
///
/// - `s3://BUCKET/PATH`, `gs://BUCKET/PATH`, `az://CONTAINER/PATH`
/// - `https://HOST/PATH`, `http://HOST/PATH`
/// - `hf://ORG/MODEL/PATH`, `hf://datasets/ORG/NAME/PATH`, with `@REVISION` after the name or at the end
///
/// The text of a location shows no secrets: the query of a URL, which may be a signature, is left out.
#[derive(Clone, PartialEq, Eq)]
pub struct Location {
    pub(crate) service: Service,
    /// Path in the bucket or repository, or the percent-encoded path of a URL; without slashes at its ends.
    pub(crate) path: String,
}

/// Service that holds the files.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Service {
    S3 {
        bucket: String,
    },
    Google {
        bucket: String,
    },
    Azure {
        container: String,
    },
    #[cfg_attr(not(feature = "network"), expect(dead_code, reason = "HTTP needs the network"))]
    Http {
        origin: String,
        query: Option<String>,
    },
    Hub(Repository),
}

/// Repository on the Hugging Face Hub.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Repository {
    pub(crate) is_data_set: bool,
    /// `ORG/NAME`, or the name alone for old repositories.
    pub(crate) name: String,
    pub(crate) revision: Option<String>,
}

/// Schemes of URLs, for messages.
const SCHEMES: &str = "s3://, gs://, az://, https:// or hf://";

impl Location {
    /// Parses a path given by the user if it is a URL; `None` for paths of files and folders.
    ///
    /// # Errors
    /// [`RemoteError::Url`] if the URL is not supported.
    pub fn of_path(path: &Path) -> Result<Option<Self>, RemoteError> {
        match path.to_str().filter(|_| is_url(path)) {
            Some(text) => text.parse().map(Some),
            None => Ok(None),
        }
    }

    /// Returns the location of a file or folder below this one. `name` has forward slashes.
    #[must_use]
    pub fn join(&self, name: &str) -> Self {
        let name = match &self.service {
            Service::Http { .. } => encoded(name),
            _ => name.to_owned(),
        };
        let path = match (self.path.is_empty(), name.is_empty()) {
            (true, _) => name,
            (false, true) => self.path.clone(),
            (false, false) => format!("{}/{name}", self.path),
        };
        Self { service: self.service.clone(), path }
    }

    /// Returns the location of the folder above; `None` at the top of a bucket or repository.
    pub fn parent(&self) -> Option<Self> {
        let (above, _) = self.path.rsplit_once('/').unwrap_or(("", &self.path));
        (!self.path.is_empty()).then(|| Self { service: self.service.clone(), path: above.to_owned() })
    }

    /// Last part of the path; empty at the top of a bucket or repository.
    pub fn name(&self) -> &str {
        self.path.rsplit_once('/').map_or(&self.path, |(_, name)| name)
    }

    /// Returns true if the service tells which files a folder has. Servers of files do not.
    pub fn is_listable(&self) -> bool {
        !matches!(self.service, Service::Http { .. })
    }

    /// Returns true if files can be written there.
    pub fn is_writable(&self) -> bool {
        matches!(self.service, Service::S3 { .. } | Service::Google { .. } | Service::Azure { .. })
    }

    /// Returns an error if files cannot be written there.
    ///
    /// # Errors
    /// [`RemoteError::ReadOnly`].
    pub fn check_writable(&self) -> Result<(), RemoteError> {
        if self.is_writable() { Ok(()) } else { Err(RemoteError::ReadOnly { url: self.to_string() }) }
    }

    /// Text that identifies the location, with all that the shown text leaves out.
    pub(crate) fn identity(&self) -> String {
        match &self.service {
            Service::Http { query: Some(query), .. } => format!("{self}?{query}"),
            _ => self.to_string(),
        }
    }
}

impl FromStr for Location {
    type Err = RemoteError;

    fn from_str(text: &str) -> Result<Self, RemoteError> {
        let wrong = |reason: &str| {
            // What follows may be a password.
            let shown = text.split(['?', '@']).next().unwrap_or_default();
            RemoteError::Url { url: shown.to_owned(), reason: reason.to_owned() }
        };
        let (scheme, rest) =
            text.split_once("://").ok_or_else(|| wrong(&format!("expected a URL that begins with {SCHEMES}")))?;
        if matches!(scheme, "http" | "https") {
            return parse(text).map_err(|reason| wrong(&reason));
        }
        let rest = rest.trim_end_matches('/');
        if rest.is_empty() {
            return Err(wrong("it names no bucket or repository"));
        }
        if rest.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
            return Err(wrong("its path has an empty part, `.` or `..`"));
        }
        let (bucket, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (bucket, path) = (bucket.to_owned(), path.to_owned());
        match scheme {
            "s3" => Ok(Self { service: Service::S3 { bucket }, path }),
            "gs" => Ok(Self { service: Service::Google { bucket }, path }),
            "az" => Ok(Self { service: Service::Azure { container: bucket }, path }),
            "hf" => hub(rest).map_err(wrong),
            _ => Err(wrong(&format!("its scheme is not supported; expected {SCHEMES}, or the path of a file or folder"))),
        }
    }
}

/// Parses `[datasets/]ORG/NAME[@REVISION][/PATH][@REVISION]`.
fn hub(rest: &str) -> Result<Location, &'static str> {
    let (is_data_set, rest) = match rest.split_once('/') {
        Some(("datasets", rest)) => (true, rest),
        Some(("models", rest)) => (false, rest),
        Some(("spaces", _)) => return Err("spaces hold no data sets or models"),
        _ => (false, rest),
    };
    let mut parts = rest.splitn(3, '/');
    let (organisation, name, path) = (parts.next(), parts.next(), parts.next());
    let (Some(organisation), Some(name)) = (organisation.filter(|part| !part.is_empty()), name) else {
        return Err("expected hf://ORG/MODEL or hf://datasets/ORG/NAME");
    };
    let (name, mut revision) = name.split_once('@').map_or((name, None), |(name, revision)| (name, Some(revision)));
    let mut path = path.unwrap_or_default();
    if revision.is_none()
        && let Some((before, behind)) = path.rsplit_once('@')
        && !behind.contains('/')
    {
        (path, revision) = (before, Some(behind));
    }
    if revision == Some("") || name.is_empty() {
        return Err("expected a name, and a revision after @");
    }
    let revision = revision.map(|revision| revision.replace("%2F", "/"));
    let repository = Repository { is_data_set, name: format!("{organisation}/{name}"), revision };
    Ok(Location { service: Service::Hub(repository), path: path.trim_end_matches('/').to_owned() })
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.service {
            Service::S3 { bucket } => write!(f, "s3://{bucket}")?,
            Service::Google { bucket } => write!(f, "gs://{bucket}")?,
            Service::Azure { container } => write!(f, "az://{container}")?,
            Service::Http { origin, .. } => f.write_str(origin)?,
            Service::Hub(Repository { is_data_set, name, revision }) => {
                write!(f, "hf://{}{name}", if *is_data_set { "datasets/" } else { "" })?;
                revision.iter().try_for_each(|revision| write!(f, "@{}", revision.replace('/', "%2F")))?;
            }
        }
        if self.path.is_empty() { Ok(()) } else { write!(f, "/{}", self.path) }
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Location({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Location {
        text.parse().expect("valid")
    }

    #[test]
    fn urls_are_parsed_and_shown() {
        for (text, shown, path) in [
            ("s3://bucket/a/b/", "s3://bucket/a/b", "a/b"),
            ("gs://bucket", "gs://bucket", ""),
            ("az://container/x", "az://container/x", "x"),
            ("https://host:8443/a%20b/c?sig=secret", "https://host:8443/a%20b/c", "a%20b/c"),
            ("http://host/", "http://host", ""),
            ("hf://datasets/org/name/data/x.jsonl@main", "hf://datasets/org/name@main/data/x.jsonl", "data/x.jsonl"),
            ("hf://org/model@refs%2Fpr%2F1/sub", "hf://org/model@refs%2Fpr%2F1/sub", "sub"),
            ("hf://models/org/model", "hf://org/model", ""),
        ] {
            let location = parsed(text);
            assert_eq!((location.to_string().as_str(), location.path.as_str()), (shown, path), "{text}");
            assert!(is_url(Path::new(text)), "{text}");
        }
        for path in ["data", "./s3:/x", "a b://x", "://x", "/x/y"] {
            assert!(!is_url(Path::new(path)), "{path}");
        }
    }

    #[test]
    fn files_and_folders_are_joined() {
        let root = parsed("s3://bucket");
        let file = root.join("a").join("b c/d");
        assert_eq!(file.to_string(), "s3://bucket/a/b c/d");
        assert_eq!((file.name(), file.parent().expect("above").to_string()), ("d", "s3://bucket/a/b c".to_owned()));
        assert_eq!(root.parent(), None);
        assert_eq!(root.join(""), root);
        let file = parsed("https://host/top?sig=1").join("a b");
        assert_eq!(
            (file.to_string().as_str(), file.identity().as_str()),
            ("https://host/top/a%20b", "https://host/top/a%20b?sig=1")
        );
    }

    #[test]
    fn other_urls_are_refused_without_their_secrets() {
        for (text, expected) in [
            ("ftp://host/x", "its scheme is not supported; expected s3://"),
            ("s3://", "it names no bucket"),
            ("s3://bucket//x", "an empty part"),
            ("s3://bucket/../x", "`..`"),
            ("hf://gpt2", "expected hf://ORG/MODEL"),
            ("hf://org/model@", "a revision after @"),
            ("https://user:password@host/x", "a user name"),
        ] {
            let error = text.parse::<Location>().expect_err("refused").to_string();
            assert!(error.contains(expected) && !error.contains("password@"), "{text}: {error}");
        }
    }
}
