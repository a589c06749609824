//! Answers to requests.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::State;
use super::http::{Request, Response};

const MODIFIED: &str = "Last-Modified: Sat, 01 Jan 2022 00:00:00 GMT";

impl State {
    pub(super) fn answer(&mut self, request: &Request) -> Response {
        let path = request.path.trim_start_matches('/').to_owned();
        if let Some(key) = &self.key {
            let authorization = request.header("authorization");
            let is_right =
                [format!("Credential={key}/"), format!("Bearer {key}")].iter().any(|part| authorization.contains(part));
            if !is_right {
                return error(403, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records.");
            }
        }
        if self.no_bucket.as_deref() == path.split('/').next() {
            return error(404, "NoSuchBucket", "The bucket does not exist.");
        }
        let query = |name: &str| request.query.get(name);
        match request.method.as_str() {
            "GET" if query("list-type").is_some() => self.list(&path, query("prefix").map_or("", String::as_str)),
            "GET" if path.starts_with("api/") => self.tree(&path),
            "GET" | "HEAD" => self.read(request, &resolved(&path)),
            "PUT" => match (query("uploadId"), query("partNumber").and_then(|number| number.parse().ok())) {
                (Some(id), Some(number)) => match self.uploads.get_mut(id) {
                    Some((_, parts)) => {
                        parts.insert(number, request.body.clone());
                        Response::status(200).header(format!("ETag: {}", tag(&request.body)))
                    }
                    None => error(404, "NoSuchUpload", "The upload does not exist."),
                },
                _ => {
                    let response = Response::status(200).header(format!("ETag: {}", tag(&request.body)));
                    self.files.insert(path, request.body.clone());
                    response
                }
            },
            "POST" if query("uploads").is_some() => self.begin(path),
            "POST" if query("delete").is_some() => self.delete(&path, &String::from_utf8_lossy(&request.body)),
            "POST" => match query("uploadId") {
                Some(id) => self.complete(id),
                None => error(400, "InvalidRequest", "Not supported."),
            },
            "DELETE" => {
                match query("uploadId") {
                    Some(id) => drop(self.uploads.remove(id)),
                    None => drop(self.files.remove(&path)),
                }
                Response::status(204)
            }
            _ => error(405, "MethodNotAllowed", "Not supported."),
        }
    }

    fn read(&mut self, request: &Request, path: &str) -> Response {
        let Some(content) = self.files.get(path) else { return error(404, "NoSuchKey", "The key does not exist.") };
        let tag = tag(content);
        let wanted = request.header("if-match");
        if !wanted.is_empty() && wanted != tag {
            return error(412, "PreconditionFailed", "The file is another one.");
        }
        let range = request.header("range").strip_prefix("bytes=").and_then(|range| range.split_once('-'));
        let total = content.len();
        let mut response = match range.and_then(|(first, last)| Some((first.parse::<usize>().ok()?, last))) {
            Some((first, _)) if first >= total => return error(416, "InvalidRange", "The file is shorter."),
            Some((first, last)) => {
                let end = last.parse().map_or(total, |last: usize| (last + 1).min(total));
                Response::text(206, &content[first..end]).header(format!("Content-Range: bytes {first}-{}/{total}", end - 1))
            }
            None => Response::text(200, content.as_slice()),
        };
        let (times, after) = self.cuts;
        if request.method == "GET" && times > 0 && response.body.len() > after {
            self.cuts.0 -= 1;
            response.cut = Some(after);
        }
        let response = response.header(MODIFIED.to_owned());
        if self.omits_tags { response } else { response.header(format!("ETag: {tag}")) }
    }

    fn list(&self, bucket: &str, prefix: &str) -> Response {
        let bucket = bucket.trim_end_matches('/');
        let mut text = String::from("<ListBucketResult><IsTruncated>false</IsTruncated>");
        for (path, content) in &self.files {
            let Some(key) =
                path.strip_prefix(bucket).and_then(|key| key.strip_prefix('/')).filter(|key| key.starts_with(prefix))
            else {
                continue;
            };
            let _ = write!(
                text,
                "<Contents><Key>{key}</Key><LastModified>2022-01-01T00:00:00.000Z</LastModified><ETag>{}</ETag><Size>{}</Size>\
                 </Contents>",
                tag(content).replace('"', "&quot;"),
                content.len()
            );
        }
        Response::text(200, text + "</ListBucketResult>")
    }

    fn begin(&mut self, path: String) -> Response {
        self.next_id += 1;
        let id = format!("upload-{}", self.next_id);
        let text = format!("<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>");
        self.uploads.insert(id, (path, BTreeMap::new()));
        Response::text(200, text)
    }

    fn complete(&mut self, id: &str) -> Response {
        let Some((path, parts)) = self.uploads.remove(id) else {
            return error(404, "NoSuchUpload", "The upload does not exist.");
        };
        let content: Vec<u8> = parts.into_values().flatten().collect();
        let tag = tag(&content).replace('"', "&quot;");
        self.files.insert(path, content);
        Response::text(200, format!("<CompleteMultipartUploadResult><ETag>{tag}</ETag></CompleteMultipartUploadResult>"))
    }

    fn delete(&mut self, bucket: &str, body: &str) -> Response {
        let mut text = String::from("<DeleteResult>");
        for key in body.split("<Key>").skip(1).filter_map(|rest| rest.split_once("</Key>")).map(|(key, _)| key) {
            self.files.remove(&format!("{}/{key}", bucket.trim_end_matches('/')));
            let _ = write!(text, "<Deleted><Key>{key}</Key></Deleted>");
        }
        Response::text(200, text + "</DeleteResult>")
    }

    /// Lists a repository of the Hub: `api/{models,datasets}/ORG/NAME/tree/REVISION[/FOLDER]`.
    fn tree(&self, path: &str) -> Response {
        let parts: Vec<&str> = path.splitn(7, '/').collect();
        let ["api", kind, organisation, name, "tree", _, folder @ ..] = parts.as_slice() else { return Response::status(404) };
        let kind = if *kind == "datasets" { "datasets/" } else { "" };
        let root = format!("{kind}{organisation}/{name}/");
        let folder = folder.first().map_or(String::new(), |folder| format!("{folder}/"));
        let files = self.files.iter().filter_map(|(path, content)| {
            let path = path.strip_prefix(&root).filter(|path| path.starts_with(&folder))?;
            let oid = tag(content).replace('"', "");
            Some(format!(r#"{{"type":"file","path":"{path}","size":{},"oid":"{oid}"}}"#, content.len()))
        });
        let files: Vec<_> = files.collect();
        if files.is_empty() { Response::status(404) } else { Response::text(200, format!("[{}]", files.join(","))) }
    }
}

/// Returns the path of a file for the URL of the Hub, `ORG/NAME/resolve/REVISION/PATH`; other paths are unchanged.
fn resolved(path: &str) -> String {
    match path.split_once("/resolve/") {
        Some((repository, rest)) => format!("{repository}/{}", rest.split_once('/').map_or("", |(_, path)| path)),
        None => path.to_owned(),
    }
}

/// `ETag` of a content.
fn tag(content: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    format!("\"{:016x}\"", hasher.finish())
}

fn error(status: u16, code: &str, message: &str) -> Response {
    Response::text(status, format!("<?xml version=\"1.0\"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>"))
}
