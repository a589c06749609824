//! URLs of HTTP servers.

use url::Url;

use super::location::{Location, Service};

/// Parses an HTTP or HTTPS URL.
///
/// # Errors
/// The reason if it is malformed or contains a user name.
pub(crate) fn parse(text: &str) -> Result<Location, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("URLs with a user name are not supported; use a signed URL".to_owned());
    }
    let origin = url.origin().ascii_serialization();
    let service = Service::Http { origin, query: url.query().map(str::to_owned) };
    Ok(Location { service, path: url.path().trim_matches('/').to_owned() })
}

/// Returns the percent-encoded form of a path.
pub(crate) fn encoded(path: &str) -> String {
    let mut url = Url::parse("http://host/").ok();
    if let Some(mut segments) = url.as_mut().and_then(|url| url.path_segments_mut().ok()) {
        segments.clear().extend(path.split('/'));
    }
    url.map_or_else(|| path.to_owned(), |url| url.path().trim_start_matches('/').to_owned())
}
