//! Object store for tests: the requests of S3's protocol that `object_store` sends, and those of the Hugging Face Hub for reading.
//!
//! Files are kept in memory. Faults can be asked for: connections that break while a file is sent, and parts that are never answered.

mod http;
mod routes;

use std::collections::{BTreeMap, HashMap};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use self::http::{Request, Response};

/// Server of an object store, on a free local port.
#[derive(Debug, Clone)]
pub struct Objects {
    /// URL of the server, for `AWS_ENDPOINT_URL` or `HF_ENDPOINT`.
    pub endpoint: String,
    state: Arc<Mutex<State>>,
}

/// Objects of the server, and the failures that it simulates.
#[derive(Debug, Default)]
struct State {
    /// Content by `BUCKET/KEY`. Repositories of the Hub are `ORG/NAME/PATH` and `datasets/ORG/NAME/PATH`.
    files: BTreeMap<String, Vec<u8>>,
    /// Uploads in progress, by id: the file, and its parts by number.
    uploads: HashMap<String, (String, BTreeMap<usize, Vec<u8>>)>,
    /// Required key or token.
    key: Option<String>,
    /// Number of reads that are cut, and the number of bytes that each of them sends.
    cuts: (usize, usize),
    /// Bucket that does not exist. All others do.
    no_bucket: Option<String>,
    /// Number of parts of uploads that are still answered; `None` if all are.
    answered_parts: Option<usize>,
    /// Files have no `ETag`, as on some servers of files.
    omits_tags: bool,
    /// Methods and paths of all requests.
    requests: Vec<String>,
    next_id: usize,
}

impl Objects {
    /// Starts a server without files that accepts every key.
    ///
    /// # Panics
    /// Panics if no port is available.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let endpoint = format!("http://{}", listener.local_addr().expect("address"));
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        // The threads end with the test process.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                thread::spawn(move || serve(&state, stream));
            }
        });
        Self { endpoint, state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Accepts only this access key id, or this token of the Hub.
    pub fn require_key(&self, key: &str) {
        self.state().key = Some(key.to_owned());
    }

    /// Stores a file, `BUCKET/KEY`.
    pub fn put(&self, path: &str, content: impl Into<Vec<u8>>) {
        self.state().files.insert(path.to_owned(), content.into());
    }

    /// Returns a file.
    pub fn get(&self, path: &str) -> Option<Vec<u8>> {
        self.state().files.get(path).cloned()
    }

    /// Removes a file.
    pub fn remove(&self, path: &str) {
        self.state().files.remove(path);
    }

    /// Paths of all files, sorted.
    pub fn names(&self) -> Vec<String> {
        self.state().files.keys().cloned().collect()
    }

    /// Stores all files of a folder and its folders below `path`.
    ///
    /// # Panics
    /// Panics if the folder cannot be read.
    pub fn put_folder(&self, folder: &std::path::Path, path: &str) {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let entry = entry.expect("an entry").path();
            let inner = format!("{path}/{}", entry.file_name().expect("a name").to_string_lossy());
            match entry.is_dir() {
                true => self.put_folder(&entry, &inner),
                false => self.put(&inner, std::fs::read(&entry).expect("a file")),
            }
        }
    }

    /// Breaks the connection of the next `times` reads of more than `after` bytes, after so many bytes.
    pub fn cut_reads(&self, times: usize, after: usize) {
        self.state().cuts = (times, after);
    }

    /// Answers that there is no such bucket, from now on.
    pub fn no_bucket(&self, bucket: &str) {
        self.state().no_bucket = Some(bucket.to_owned());
    }

    /// Sends no `ETag`, from now on.
    pub fn omit_tags(&self) {
        self.state().omits_tags = true;
    }

    /// Leaves parts of uploads without an answer, after the next `answered` ones.
    pub fn stall_parts(&self, answered: usize) {
        self.state().answered_parts = Some(answered);
    }

    /// Answers all parts of uploads again.
    pub fn answer_parts(&self) {
        self.state().answered_parts = None;
    }

    /// Number of parts of uploads that were neither completed nor aborted.
    pub fn open_parts(&self) -> usize {
        self.state().uploads.values().map(|(_, parts)| parts.len()).sum()
    }

    /// Number of uploads in parts that were neither completed nor aborted.
    pub fn open_uploads(&self) -> usize {
        self.state().uploads.len()
    }

    /// Methods and paths of the requests so far, such as `GET /bucket/key`.
    pub fn requests(&self) -> Vec<String> {
        self.state().requests.clone()
    }
}

impl State {
    /// Counts a part of an upload, and returns true if it is not answered.
    fn next_part_stalls(&mut self) -> bool {
        match &mut self.answered_parts {
            None => false,
            Some(0) => true,
            Some(left) => {
                *left -= 1;
                false
            }
        }
    }
}

fn serve(state: &Mutex<State>, mut stream: TcpStream) {
    let Some(request) = Request::read(&stream) else { return };
    let (response, stalls) = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        state.requests.push(format!("{} {}", request.method, request.path));
        let stalls = request.query.contains_key("partNumber") && state.next_part_stalls();
        (if stalls { Response::status(500) } else { state.answer(&request) }, stalls)
    };
    if stalls {
        thread::sleep(Duration::from_secs(60));
        return;
    }
    // The client may have disconnected.
    let _ = response.send(&mut stream, request.method == "HEAD");
}
