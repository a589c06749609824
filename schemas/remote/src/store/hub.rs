//! The Hugging Face Hub: the URLs of files of a repository, and its lists of files.
//!
//! `HF_ENDPOINT` chooses another server. The token is `HF_TOKEN`, or the file that `hf auth login` writes.

use std::path::PathBuf;
use std::time::Duration;

use object_store::HeaderMap;
use serde::Deserialize;
use ureq::Agent;
use url::Url;

use super::failure::credentials;
use super::header::http_value;
use crate::RemoteError;
use crate::environment::variable;
use crate::location::{Location, Repository};
use crate::object::Object;

const ENDPOINT: &str = "https://huggingface.co";
/// Revision of a location that names none.
const MAIN: &str = "main";
/// Maximum number of pages of a list; a page has up to a thousand files.
const MAX_PAGES: usize = 1000;
/// Number of attempts to get a page.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(250);
const TIMEOUT: Duration = Duration::from_secs(60);

/// Returns the URL below which the files of a repository are.
pub(crate) fn files_url(repository: &Repository) -> Result<String, RemoteError> {
    let kind = if repository.is_data_set { "datasets/" } else { "" };
    url(&format!("{kind}{}/resolve", repository.name), repository, "").map(String::from)
}

/// Headers of requests for files.
pub(crate) fn headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Some(token) = token() {
        let mut value = http_value(&format!("Bearer {token}"));
        value.set_sensitive(true);
        headers.insert("authorization", value);
    }
    headers
}

/// Lists the files of a repository below the path of `location`. Large files come with their sha256.
pub(crate) fn list(location: &Location, repository: &Repository) -> Result<Vec<Object>, RemoteError> {
    let kind = if repository.is_data_set { "datasets" } else { "models" };
    let mut page = url(&format!("api/{kind}/{}/tree", repository.name), repository, &location.path)?;
    page.query_pairs_mut().append_pair("recursive", "true");
    let config = Agent::config_builder().http_status_as_error(false).user_agent("glm").timeout_global(Some(TIMEOUT)).build();
    let (agent, token) = (config.new_agent(), token());
    let mut files = Vec::new();
    for _ in 0..MAX_PAGES {
        let (entries, next) = entries(&agent, &page, token.as_deref(), location)?;
        files.extend(entries.into_iter().filter_map(|entry| entry.object(&location.path)));
        match next.and_then(|next| page.join(&next).ok()) {
            // The token is for this server only.
            Some(next) if next.origin() == page.origin() => page = next,
            _ => return Ok(files),
        }
    }
    Err(RemoteError::List { url: location.to_string(), reason: "it has too many files; give a folder of it".to_owned() })
}

/// Entry of a list.
#[derive(Debug, Deserialize)]
struct Entry {
    r#type: String,
    path: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    oid: String,
    lfs: Option<LargeFile>,
}

/// Properties of a large file in the list.
#[derive(Debug, Deserialize)]
struct LargeFile {
    /// sha256 of the content.
    oid: String,
    size: u64,
}

impl Entry {
    /// Returns the file, with its path below `folder`; `None` for folders.
    fn object(self, folder: &str) -> Option<Object> {
        let below = self.path.strip_prefix(folder)?;
        let name = if folder.is_empty() { below } else { below.strip_prefix('/')? }.to_owned();
        let (bytes, sha256) = match self.lfs {
            Some(large) => (large.size, Some(large.oid)),
            None => (self.size, None),
        };
        (self.r#type == "file").then_some(Object { name, bytes: Some(bytes), tag: self.oid, sha256 })
    }
}

/// Requests a page of a list. Returns its entries and the URL of the next page.
fn entries(
    agent: &Agent,
    page: &Url,
    token: Option<&str>,
    location: &Location,
) -> Result<(Vec<Entry>, Option<String>), RemoteError> {
    let mut attempt = 0;
    let reason = loop {
        let mut request = agent.get(page.as_str());
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let reason = match request.call() {
            Ok(mut response) => match response.status().as_u16() {
                200 => {
                    let next = response.headers().get("link").and_then(|value| next_page(value.to_str().ok()?));
                    let entries = serde_json::from_reader(response.body_mut().as_reader());
                    let refuse = |error: serde_json::Error| RemoteError::List {
                        url: location.to_string(),
                        reason: format!(
                            "the answer of {} is not a list of files ({error})",
                            page.origin().ascii_serialization()
                        ),
                    };
                    return Ok((entries.map_err(refuse)?, next));
                }
                status @ (401 | 403) => {
                    let (url, reason) = (location.to_string(), format!("status {status}"));
                    return Err(RemoteError::Denied { url, reason, remedy: credentials(location) });
                }
                404 => {
                    let reason = "the repository, the revision or the folder does not exist".to_owned();
                    return Err(RemoteError::Missing { url: location.to_string(), reason });
                }
                status => format!("status {status}"),
            },
            Err(error) => error.to_string(),
        };
        attempt += 1;
        if attempt == ATTEMPTS {
            break reason;
        }
        std::thread::sleep(PAUSE * 2_u32.pow(attempt));
    };
    let remedy = "check the network and HF_ENDPOINT, and run the command again";
    Err(RemoteError::Request { doing: "list", url: location.to_string(), reason, remedy })
}

/// Returns the URL of `rel="next"` in a `Link` header.
fn next_page(header: &str) -> Option<String> {
    let link = header.split(',').find(|link| link.contains("rel=\"next\""))?;
    Some(link.split_once('<')?.1.split_once('>')?.0.to_owned())
}

/// Returns `ENDPOINT/PREFIX/REVISION/PATH`. The revision is one part of the path, even with slashes.
fn url(prefix: &str, repository: &Repository, path: &str) -> Result<Url, RemoteError> {
    let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
    let refuse = |reason: String| RemoteError::Url { url: endpoint.clone(), reason };
    let mut url = Url::parse(&endpoint).map_err(|error| refuse(format!("HF_ENDPOINT is not a URL: {error}")))?;
    if let Ok(mut parts) = url.path_segments_mut() {
        parts.pop_if_empty().extend(prefix.split('/')).push(repository.revision.as_deref().unwrap_or(MAIN));
        parts.extend(path.split('/').filter(|part| !part.is_empty()));
    }
    Ok(url)
}

/// Returns the token of the user, if there is one.
fn token() -> Option<String> {
    variable("HF_TOKEN").or_else(|| {
        let cache = || Some(PathBuf::from(variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")? + "/.cache"))?));
        let home = || Some(variable("HF_HOME").map_or(cache()?.join("huggingface"), PathBuf::from));
        let path = variable("HF_TOKEN_PATH").map(PathBuf::from).or_else(|| Some(home()?.join("token")))?;
        let token = std::fs::read_to_string(path).ok()?;
        Some(token.trim().to_owned()).filter(|token| !token.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_become_files_below_the_folder() {
        let text = r#"[{"type":"directory","oid":"1","size":0,"path":"data/a"},
            {"type":"file","oid":"2","size":3,"path":"data/a/x"},
            {"type":"file","oid":"3","size":130,"path":"data/y","lfs":{"oid":"ab","size":9,"pointerSize":130}}]"#;
        let files = |folder| {
            let entries: Vec<Entry> = serde_json::from_str(text).expect("valid");
            entries.into_iter().filter_map(|entry| entry.object(folder)).collect::<Vec<_>>()
        };
        let names = |folder| files(folder).into_iter().map(|file| file.name).collect::<Vec<_>>();
        assert_eq!(
            (names(""), names("data"), names("dat")),
            (vec!["data/a/x".into(), "data/y".into()], vec!["a/x".into(), "y".into()], vec![])
        );
        let large = files("").remove(1);
        assert_eq!((large.bytes, large.tag.as_str(), large.sha256.as_deref()), (Some(9), "3", Some("ab")));
    }

    #[test]
    fn links_to_the_next_page_are_found() {
        assert_eq!(next_page("<https://x/y?cursor=1>; rel=\"next\""), Some("https://x/y?cursor=1".to_owned()));
        assert_eq!(next_page("<https://x/a>; rel=\"first\", </y>; rel=\"next\""), Some("/y".to_owned()));
        assert_eq!(next_page("<https://x/a>; rel=\"first\""), None);
    }

    #[test]
    fn a_revision_is_one_part_of_the_path() {
        let location: Location = "hf://datasets/org/name@refs%2Fpr%2F1/a".parse().expect("valid");
        let crate::location::Service::Hub(repository) = &location.service else { panic!("not the Hub") };
        let files = files_url(repository).expect("valid");
        assert!(files.ends_with("/datasets/org/name/resolve/refs%2Fpr%2F1"), "{files}");
    }
}
