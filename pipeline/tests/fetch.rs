//! `glm-prep fetch` against a local test server.

use std::fs;
use std::io::{Cursor, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use glm_prep::fetch::{DataSet, FetchError, FetchOptions, Fetched, fetch};
use glm_prep::ingest::{Progress, Silent, Unit};
use glm_schemas::manifest::hex;
use glm_test_server::{Answer, Request, Server, TAG};
use sha2::{Digest, Sha256};
use tempfile::{TempDir, tempdir};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// Creates an archive of about `bytes` bytes.
fn archive(member: &str, bytes: usize, fill: u8) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    zip.start_file(member, SimpleFileOptions::default().compression_method(CompressionMethod::Stored)).expect("member");
    zip.write_all(&vec![fill; bytes]).expect("write");
    zip.finish().expect("finish").into_inner()
}

fn record() -> Vec<u8> {
    archive("ReCoRD/train.jsonl", 300_000, b'a')
}

fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn options(dir: &TempDir, server: &Server) -> FetchOptions {
    FetchOptions {
        url: server.url.clone(),
        tries: 3,
        pause: Duration::from_millis(5),
        connect_timeout: Duration::from_secs(5),
        stall_timeout: Duration::from_millis(500),
        ..DataSet::Record.options(dir.path())
    }
}

fn get(dir: &TempDir, server: &Server) -> Result<Fetched, FetchError> {
    fetch(DataSet::Record, &options(dir, server), &Silent)
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).expect("list").map(|e| e.expect("entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[track_caller]
fn assert_fetched(dir: &TempDir, file: &[u8]) {
    assert_eq!(names(dir.path()), ["ReCoRD.zip", "ReCoRD.zip.sha256"]);
    assert!(fs::read(dir.path().join("ReCoRD.zip")).expect("read") == file);
    let record = fs::read_to_string(dir.path().join("ReCoRD.zip.sha256")).expect("read");
    assert_eq!(record, format!("{}  ReCoRD.zip\n", sha256(file)));
}

fn resumed(from: usize) -> Request {
    Request { range: Some(format!("bytes={from}-")), if_range: Some(TAG.to_owned()) }
}

const WHOLE: Request = Request { range: None, if_range: None };

#[test]
fn a_file_is_fetched_once() {
    let (file, dir) = (record(), tempdir().expect("folder"));
    let server = Server::start("ReCoRD.zip", vec![Answer::file(&file)]);
    let first = get(&dir, &server).expect("fetched");
    assert_eq!((first.bytes, first.downloaded, first.already_there), (file.len() as u64, file.len() as u64, false));
    assert_eq!(first.sha256, sha256(&file));
    assert_fetched(&dir, &file);
    let second = get(&dir, &server).expect("exists");
    assert_eq!((second.downloaded, second.already_there), (0, true));
    assert_eq!(server.requests(), [WHOLE]);
    // A process killed before it recorded the checksum.
    fs::remove_file(dir.path().join("ReCoRD.zip.sha256")).expect("remove");
    assert!(get(&dir, &server).expect("exists").already_there);
    assert_fetched(&dir, &file);
}

#[test]
fn progress_ends_at_the_size_of_the_file() {
    #[derive(Default)]
    struct Log(Mutex<Vec<(u64, u64)>>);
    impl Progress for Log {
        fn begin(&self, _: &str, total: u64, unit: Unit) {
            assert_eq!(unit, Unit::Bytes);
            self.0.lock().expect("log").push((total, 0));
        }
        fn advance(&self, amount: u64) {
            self.0.lock().expect("log").last_mut().expect("begun").1 += amount;
        }
        fn end(&self) {}
    }
    let (file, dir, log) = (record(), tempdir().expect("folder"), Log::default());
    let server = Server::start("ReCoRD.zip", vec![Answer::file(&file).cut(1000), Answer::file(&file)]);
    fetch(DataSet::Record, &options(&dir, &server), &log).expect("fetched");
    let total = file.len() as u64;
    assert_eq!(*log.0.lock().expect("log"), [(total, 1000), (total, total)]);
}

#[test]
fn an_interrupted_download_resumes() {
    let (file, dir) = (record(), tempdir().expect("folder"));
    let answers = [Answer::file(&file).cut(100_000), Answer::status(503), Answer::file(&file)];
    let server = Server::start("ReCoRD.zip", answers.to_vec());
    assert_eq!(get(&dir, &server).expect("fetched").downloaded, file.len() as u64);
    assert_fetched(&dir, &file);
    assert_eq!(server.requests(), [WHOLE, resumed(100_000), resumed(100_000)]);
}

#[test]
fn a_stalled_download_resumes() {
    let (file, dir) = (record(), tempdir().expect("folder"));
    let server = Server::start("ReCoRD.zip", vec![Answer { stall: Some(50_000), ..Answer::file(&file) }, Answer::file(&file)]);
    let started = Instant::now();
    get(&dir, &server).expect("fetched");
    assert!(started.elapsed() < Duration::from_secs(10));
    assert_fetched(&dir, &file);
    assert_eq!(server.requests(), [WHOLE, resumed(50_000)]);
}

#[test]
fn repeated_interruptions_fail_and_the_same_command_resumes() {
    let (file, dir) = (record(), tempdir().expect("folder"));
    let server = Server::start("ReCoRD.zip", vec![Answer::file(&file).cut(20_000)]);
    let error = get(&dir, &server).expect_err("cut");
    let text = error.to_string();
    assert!(matches!(error, FetchError::GaveUp { tries: 3, have: 60_000, .. }), "{text}");
    assert!(text.contains("60000 of 300") && text.ends_with("run the same command to resume"), "{text}");
    assert_eq!(names(dir.path()), ["ReCoRD.zip.part", "ReCoRD.zip.part.json"]);

    let state = fs::read_to_string(dir.path().join("ReCoRD.zip.part.json")).expect("state");
    let whole = Server::start("ReCoRD.zip", vec![Answer::file(&file)]);
    fs::write(dir.path().join("ReCoRD.zip.part.json"), state.replace(&server.url, &whole.url)).expect("write");
    assert_eq!(get(&dir, &whole).expect("fetched").downloaded, file.len() as u64 - 60_000);
    assert_fetched(&dir, &file);
    assert_eq!(whole.requests(), [resumed(60_000)]);
}

#[test]
fn a_server_without_ranges_or_a_changed_file_restarts_the_download() {
    let (file, other) = (record(), archive("ReCoRD/train.jsonl", 200_000, b'b'));
    for second in [Answer { ranges: false, ..Answer::file(&file) }, Answer { tag: "\"two\"", ..Answer::file(&other) }] {
        let dir = tempdir().expect("folder");
        let server = Server::start("ReCoRD.zip", vec![Answer::file(&file).cut(250_000), second.clone()]);
        get(&dir, &server).expect("fetched");
        assert_fetched(&dir, &second.body);
        assert_eq!(server.requests(), [WHOLE, resumed(250_000)]);
    }
    // Downloads without a tag cannot resume.
    let dir = tempdir().expect("folder");
    let untagged = Answer { tag: "", ..Answer::file(&file) };
    let server = Server::start("ReCoRD.zip", vec![untagged.clone().cut(1000), untagged]);
    get(&dir, &server).expect("fetched");
    assert_fetched(&dir, &file);
    assert_eq!(server.requests(), [WHOLE, WHOLE]);
}

#[test]
fn a_part_of_another_file_is_discarded() {
    let (file, dir) = (record(), tempdir().expect("folder"));
    fs::write(dir.path().join("ReCoRD.zip.part"), "PK of unknown origin").expect("write");
    let server = Server::start("ReCoRD.zip", vec![Answer::file(&file)]);
    get(&dir, &server).expect("fetched");
    assert_fetched(&dir, &file);
    // A process killed between the last byte and the rename.
    let dir = tempdir().expect("folder");
    fs::write(dir.path().join("ReCoRD.zip.part"), &file).expect("write");
    let state = format!(r#"{{"url":"{}","validator":{TAG:?},"total":{}}}"#, server.url, file.len());
    fs::write(dir.path().join("ReCoRD.zip.part.json"), state).expect("write");
    assert_eq!(get(&dir, &server).expect("fetched").downloaded, 0);
    assert_fetched(&dir, &file);
    // Status 416: the file on the server has become shorter.
    let dir = tempdir().expect("folder");
    let server = Server::start("ReCoRD.zip", vec![Answer::file(&file).cut(9000), Answer::status(416), Answer::file(&file)]);
    get(&dir, &server).expect("fetched");
    assert_eq!(server.requests(), [WHOLE, resumed(9000), WHOLE]);
}

#[test]
fn invalid_responses_are_named_and_leave_no_files() {
    let file = record();
    let html = Answer { headers: vec!["Content-Type: text/html; charset=utf-8".into()], ..Answer::file(&file) };
    let cases = [
        (Answer::status(404), "the server returned status 404 for http://"),
        (Answer::status(403), "the server returned status 403"),
        (Answer::status(503), "3 attempts failed, the last one because the server returned status 503; nothing was received"),
        (html, "is an HTML page, not a zip archive"),
        (Answer::file(b"\n<!doctype html>"), "is an HTML page, not a zip archive"),
        (Answer::file(b"Rar!"), "wrong first bytes"),
        (Answer::file(&file[..file.len() - 30]), "is not a readable zip archive"),
        (Answer::file(&archive("other.txt", 10, b'x')), "does not contain ReCoRD/train.jsonl"),
    ];
    for (answer, message) in cases {
        let dir = tempdir().expect("folder");
        let error = get(&dir, &Server::start("ReCoRD.zip", vec![answer])).expect_err("rejected").to_string();
        assert!(error.contains(message), "{error}");
        assert_eq!(names(dir.path()), [""; 0], "{error}");
    }
    // A byte changed by the transfer fails the CRC of the archive.
    let mut damaged = file.clone();
    damaged[1000] ^= 1;
    let dir = tempdir().expect("folder");
    let error = get(&dir, &Server::start("ReCoRD.zip", vec![Answer::file(&damaged)])).expect_err("damaged").to_string();
    assert!(error.contains("ReCoRD/train.jsonl: "), "{error}");
    assert_eq!(names(dir.path()), [""; 0]);
}

#[test]
fn checksums_are_verified() {
    let (file, other) = (record(), archive("ReCoRD/train.jsonl", 10, b'b'));
    let dir = tempdir().expect("folder");
    let server = Server::start("ReCoRD.zip", vec![Answer::file(&file)]);
    let with = |sha256: String| FetchOptions { sha256: Some(sha256), ..options(&dir, &server) };
    let error = fetch(DataSet::Record, &with(sha256(&other)), &Silent).expect_err("another checksum");
    assert!(
        matches!(&error, FetchError::Checksum { found, expected, .. } if *found == sha256(&file) && *expected == sha256(&other))
    );
    assert_eq!(names(dir.path()), [""; 0]);
    fetch(DataSet::Record, &with(sha256(&file)), &Silent).expect("fetched");
    assert_fetched(&dir, &file);
    let error = fetch(DataSet::Record, &with(sha256(&other)), &Silent).expect_err("another checksum");
    assert!(matches!(error, FetchError::Changed { .. }), "{error}");

    // The file was changed after the download.
    fs::write(dir.path().join("ReCoRD.zip"), &other).expect("write");
    let error = get(&dir, &server).expect_err("changed");
    assert!(matches!(error, FetchError::Changed { .. }) && error.to_string().contains("move it away"), "{error}");
    assert!(fs::read(dir.path().join("ReCoRD.zip")).expect("read") == other);

    // The recorded checksum of the first download and another file on the server.
    fs::remove_file(dir.path().join("ReCoRD.zip")).expect("remove");
    let changed = Server::start("ReCoRD.zip", vec![Answer::file(&other)]);
    let error = get(&dir, &changed).expect_err("another file");
    assert!(matches!(error, FetchError::RecordedChecksum { .. }), "{error}");
    assert_eq!(names(dir.path()), ["ReCoRD.zip.sha256"]);
    // --sha256 takes precedence.
    fetch(DataSet::Record, &FetchOptions { sha256: Some(sha256(&other)), ..options(&dir, &changed) }, &Silent)
        .expect("fetched");
    assert_fetched(&dir, &other);
    fs::write(dir.path().join("ReCoRD.zip.sha256"), "not a checksum").expect("write");
    assert!(matches!(get(&dir, &server), Err(FetchError::Record(_))));
}

#[test]
fn a_refused_connection_and_an_invalid_url_are_named() {
    let dir = tempdir().expect("folder");
    // Bound and released: nothing listens on this port.
    let address = TcpListener::bind("127.0.0.1:0").expect("bind").local_addr().expect("address");
    let at = |url: &str| FetchOptions {
        url: url.to_owned(),
        tries: 2,
        pause: Duration::ZERO,
        ..DataSet::Record.options(dir.path())
    };
    let error = fetch(DataSet::Record, &at(&format!("http://{address}/x.zip")), &Silent).expect_err("refused").to_string();
    assert!(error.contains("the connection was refused"), "{error}");
    let error = fetch(DataSet::Record, &at("not a url"), &Silent).expect_err("invalid");
    assert!(matches!(error, FetchError::Request { .. }), "{error}");
}

fn glm_prep(dir: &Path, server: &Server, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_glm-prep"));
    command.args(["fetch", "record"]).arg(dir).args(["--url", &server.url]).args(more);
    command
}

fn text(output: &Output) -> (String, String) {
    (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn the_program_prints_the_result() {
    let (file, dir) = (record(), tempdir().expect("folder"));
    let server = Server::start("ReCoRD.zip", vec![Answer::file(&file)]);
    let new = dir.path().join("new/folder");
    let first = glm_prep(&new, &server, &[]).output().expect("run");
    let (output, progress) = text(&first);
    assert_eq!(first.status.code(), Some(0), "{first:?}");
    assert!(output.contains(&format!("{} bytes, sha256 {}", file.len(), sha256(&file))), "{output}");
    assert_eq!(progress, "", "a short download has no lines of progress");
    let second = glm_prep(&new, &server, &[]).output().expect("run");
    assert!(text(&second).0.contains("already exists and its checksum matches; nothing was downloaded"));
    let quiet = glm_prep(&new, &server, &["--quiet"]).output().expect("run");
    assert_eq!(text(&quiet), (String::new(), String::new()));
    let wrong = glm_prep(&new, &server, &["--sha256", "12"]).output().expect("run");
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
}

#[test]
fn a_killed_process_leaves_the_part_and_the_next_one_resumes() {
    let (file, dir) = (record(), tempdir().expect("folder"));
    let server = Server::start("ReCoRD.zip", vec![Answer { stall: Some(150_000), ..Answer::file(&file) }, Answer::file(&file)]);
    let mut child = glm_prep(dir.path(), &server, &["--quiet"]).stderr(Stdio::null()).spawn().expect("run");
    let part = dir.path().join("ReCoRD.zip.part");
    let started = Instant::now();
    while fs::metadata(&part).map_or(0, |found| found.len()) < 150_000 {
        assert!(started.elapsed() < Duration::from_secs(20), "nothing was received");
        thread::sleep(Duration::from_millis(5));
    }
    child.kill().expect("kill");
    child.wait().expect("wait");
    assert_eq!(names(dir.path()), ["ReCoRD.zip.part", "ReCoRD.zip.part.json"]);
    let output = glm_prep(dir.path(), &server, &[]).output().expect("run");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_fetched(&dir, &file);
    assert_eq!(server.requests(), [WHOLE, resumed(150_000)]);
}

#[test]
fn concurrent_downloads_are_rejected() {
    let (file, dir) = (record(), tempdir().expect("folder"));
    let part = fs::File::create(dir.path().join("ReCoRD.zip.part")).expect("create");
    part.try_lock().expect("lock");
    let error = get(&dir, &Server::start("ReCoRD.zip", vec![Answer::file(&file)])).expect_err("busy");
    assert!(matches!(error, FetchError::Busy(_)), "{error}");
}
