//! `glm-prep fetch` against a server of the test harness. There is no other network.

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
use glm_test_server::{Answer, Asked, Server, TAG};
use sha2::{Digest, Sha256};
use tempfile::{TempDir, tempdir};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// An archive of about `bytes` bytes.
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

fn continued(from: usize) -> Asked {
    Asked { range: Some(format!("bytes={from}-")), if_range: Some(TAG.to_owned()) }
}

const WHOLE: Asked = Asked { range: None, if_range: None };

#[test]
fn a_file_is_fetched_once() {
    let (file, dir) = (record(), tempdir().expect("folder"));
    let server = Server::start("ReCoRD.zip", vec![Answer::file(&file)]);
    let first = get(&dir, &server).expect("fetched");
    assert_eq!((first.bytes, first.downloaded, first.already_there), (file.len() as u64, file.len() as u64, false));
    assert_eq!(first.sha256, sha256(&file));
    assert_fetched(&dir, &file);
    let second = get(&dir, &server).expect("there");
    assert_eq!((second.downloaded, second.already_there), (0, true));
    assert_eq!(server.asked(), [WHOLE]);
    // The record of a run that was killed before it could write it.
    fs::remove_file(dir.path().join("ReCoRD.zip.sha256")).expect("remove");
    assert!(get(&dir, &server).expect("there").already_there);
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
fn a_cut_connection_is_continued_at_once() {
    let (file, dir) = (record(), tempdir().expect("folder"));
    let answers = [Answer::file(&file).cut(100_000), Answer::status(503), Answer::file(&file)];
    let server = Server::start("ReCoRD.zip", answers.to_vec());
    assert_eq!(get(&dir, &server).expect("fetched").downloaded, file.len() as u64);
    assert_fetched(&dir, &file);
    assert_eq!(server.asked(), [WHOLE, continued(100_000), continued(100_000)]);
}

#[test]
fn a_connection_that_stalls_is_continued() {
    let (file, dir) = (record(), tempdir().expect("folder"));
    let server = Server::start("ReCoRD.zip", vec![Answer { stall: Some(50_000), ..Answer::file(&file) }, Answer::file(&file)]);
    let started = Instant::now();
    get(&dir, &server).expect("fetched");
    assert!(started.elapsed() < Duration::from_secs(10));
    assert_fetched(&dir, &file);
    assert_eq!(server.asked(), [WHOLE, continued(50_000)]);
}

#[test]
fn what_is_cut_again_and_again_is_given_up_and_the_same_command_continues() {
    let (file, dir) = (record(), tempdir().expect("folder"));
    let server = Server::start("ReCoRD.zip", vec![Answer::file(&file).cut(20_000)]);
    let error = get(&dir, &server).expect_err("cut");
    let text = error.to_string();
    assert!(matches!(error, FetchError::GaveUp { tries: 3, have: 60_000, .. }), "{text}");
    assert!(text.contains("60000 of 300") && text.ends_with("and the same command continues from there"), "{text}");
    assert_eq!(names(dir.path()), ["ReCoRD.zip.part", "ReCoRD.zip.part.json"]);

    let state = fs::read_to_string(dir.path().join("ReCoRD.zip.part.json")).expect("state");
    let whole = Server::start("ReCoRD.zip", vec![Answer::file(&file)]);
    fs::write(dir.path().join("ReCoRD.zip.part.json"), state.replace(&server.url, &whole.url)).expect("write");
    assert_eq!(get(&dir, &whole).expect("fetched").downloaded, file.len() as u64 - 60_000);
    assert_fetched(&dir, &file);
    assert_eq!(whole.asked(), [continued(60_000)]);
}

#[test]
fn a_server_without_ranges_and_a_file_that_changed_start_again() {
    let (file, other) = (record(), archive("ReCoRD/train.jsonl", 200_000, b'b'));
    for second in [Answer { ranges: false, ..Answer::file(&file) }, Answer { tag: "\"two\"", ..Answer::file(&other) }] {
        let dir = tempdir().expect("folder");
        let server = Server::start("ReCoRD.zip", vec![Answer::file(&file).cut(250_000), second.clone()]);
        get(&dir, &server).expect("fetched");
        assert_fetched(&dir, &second.body);
        assert_eq!(server.asked(), [WHOLE, continued(250_000)]);
    }
    // Without a tag nothing is continued.
    let dir = tempdir().expect("folder");
    let untagged = Answer { tag: "", ..Answer::file(&file) };
    let server = Server::start("ReCoRD.zip", vec![untagged.clone().cut(1000), untagged]);
    get(&dir, &server).expect("fetched");
    assert_fetched(&dir, &file);
    assert_eq!(server.asked(), [WHOLE, WHOLE]);
}

#[test]
fn a_part_of_another_file_is_thrown_away() {
    let (file, dir) = (record(), tempdir().expect("folder"));
    fs::write(dir.path().join("ReCoRD.zip.part"), "PK of who knows what").expect("write");
    let server = Server::start("ReCoRD.zip", vec![Answer::file(&file)]);
    get(&dir, &server).expect("fetched");
    assert_fetched(&dir, &file);
    // A run that was killed between the last byte and the new name.
    let dir = tempdir().expect("folder");
    fs::write(dir.path().join("ReCoRD.zip.part"), &file).expect("write");
    let state = format!(r#"{{"url":"{}","validator":{TAG:?},"total":{}}}"#, server.url, file.len());
    fs::write(dir.path().join("ReCoRD.zip.part.json"), state).expect("write");
    assert_eq!(get(&dir, &server).expect("fetched").downloaded, 0);
    assert_fetched(&dir, &file);
    // A 416: the file on the server is shorter now.
    let dir = tempdir().expect("folder");
    let server = Server::start("ReCoRD.zip", vec![Answer::file(&file).cut(9000), Answer::status(416), Answer::file(&file)]);
    get(&dir, &server).expect("fetched");
    assert_eq!(server.asked(), [WHOLE, continued(9000), WHOLE]);
}

#[test]
fn answers_that_are_no_file_are_named_and_nothing_is_left() {
    let file = record();
    let html = Answer { headers: vec!["Content-Type: text/html; charset=utf-8".into()], ..Answer::file(&file) };
    let cases = [
        (Answer::status(404), "the server answers 404 for http://"),
        (Answer::status(403), "the server answers 403"),
        (Answer::status(503), "the last of 3 tries says: the server answers 503; nothing has arrived"),
        (html, "is an HTML page and no zip archive"),
        (Answer::file(b"\n<!doctype html>"), "is an HTML page and no zip archive"),
        (Answer::file(b"Rar!"), "it does not begin like one"),
        (Answer::file(&file[..file.len() - 30]), "is no zip archive that can be read"),
        (Answer::file(&archive("other.txt", 10, b'x')), "holds no ReCoRD/train.jsonl"),
    ];
    for (answer, message) in cases {
        let dir = tempdir().expect("folder");
        let error = get(&dir, &Server::start("ReCoRD.zip", vec![answer])).expect_err("refused").to_string();
        assert!(error.contains(message), "{error}");
        assert_eq!(names(dir.path()), [""; 0], "{error}");
    }
    // A byte that the transfer changed: the archive's own CRC finds it.
    let mut damaged = file.clone();
    damaged[1000] ^= 1;
    let dir = tempdir().expect("folder");
    let error = get(&dir, &Server::start("ReCoRD.zip", vec![Answer::file(&damaged)])).expect_err("damaged").to_string();
    assert!(error.contains("ReCoRD/train.jsonl: "), "{error}");
    assert_eq!(names(dir.path()), [""; 0]);
}

#[test]
fn checksums_are_compared() {
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

    // The file was changed after it was fetched.
    fs::write(dir.path().join("ReCoRD.zip"), &other).expect("write");
    let error = get(&dir, &server).expect_err("changed");
    assert!(matches!(error, FetchError::Changed { .. }) && error.to_string().contains("move it away"), "{error}");
    assert!(fs::read(dir.path().join("ReCoRD.zip")).expect("read") == other);

    // The record of the first download, and another file on the server.
    fs::remove_file(dir.path().join("ReCoRD.zip")).expect("remove");
    let changed = Server::start("ReCoRD.zip", vec![Answer::file(&other)]);
    let error = get(&dir, &changed).expect_err("another file");
    assert!(matches!(error, FetchError::RecordedChecksum { .. }), "{error}");
    assert_eq!(names(dir.path()), ["ReCoRD.zip.sha256"]);
    // A checksum that is given counts more.
    fetch(DataSet::Record, &FetchOptions { sha256: Some(sha256(&other)), ..options(&dir, &changed) }, &Silent)
        .expect("fetched");
    assert_fetched(&dir, &other);
    fs::write(dir.path().join("ReCoRD.zip.sha256"), "what?").expect("write");
    assert!(matches!(get(&dir, &server), Err(FetchError::Record(_))));
}

#[test]
fn nobody_at_the_address_is_said() {
    let dir = tempdir().expect("folder");
    // Bound and let go: nobody listens there.
    let address = TcpListener::bind("127.0.0.1:0").expect("bind").local_addr().expect("address");
    let at = |url: &str| FetchOptions {
        url: url.to_owned(),
        tries: 2,
        pause: Duration::ZERO,
        ..DataSet::Record.options(dir.path())
    };
    let error = fetch(DataSet::Record, &at(&format!("http://{address}/x.zip")), &Silent).expect_err("nobody").to_string();
    assert!(error.contains("connection refused"), "{error}");
    let error = fetch(DataSet::Record, &at("no url"), &Silent).expect_err("no url");
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
fn the_program_says_what_it_did() {
    let (file, dir) = (record(), tempdir().expect("folder"));
    let server = Server::start("ReCoRD.zip", vec![Answer::file(&file)]);
    let new = dir.path().join("not/yet/there");
    let first = glm_prep(&new, &server, &[]).output().expect("run");
    let (said, progress) = text(&first);
    assert_eq!(first.status.code(), Some(0), "{first:?}");
    assert!(said.contains(&format!("300132 bytes, sha256 {}", sha256(&file))) || said.contains(&sha256(&file)), "{said}");
    assert!(progress.starts_with("fetching ReCoRD.zip: 100%"), "{progress}");
    let second = glm_prep(&new, &server, &[]).output().expect("run");
    assert!(text(&second).0.contains("is already there and its checksum is right; nothing was downloaded"));
    let quiet = glm_prep(&new, &server, &["--quiet"]).output().expect("run");
    assert_eq!(text(&quiet), (String::new(), String::new()));
    let wrong = glm_prep(&new, &server, &["--sha256", "12"]).output().expect("run");
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
}

#[test]
fn a_run_that_is_killed_leaves_only_the_part_and_the_next_continues() {
    let (file, dir) = (record(), tempdir().expect("folder"));
    let server = Server::start("ReCoRD.zip", vec![Answer { stall: Some(150_000), ..Answer::file(&file) }, Answer::file(&file)]);
    let mut child = glm_prep(dir.path(), &server, &["--quiet"]).stderr(Stdio::null()).spawn().expect("run");
    let part = dir.path().join("ReCoRD.zip.part");
    let started = Instant::now();
    while fs::metadata(&part).map_or(0, |found| found.len()) < 150_000 {
        assert!(started.elapsed() < Duration::from_secs(20), "nothing arrives");
        thread::sleep(Duration::from_millis(5));
    }
    child.kill().expect("kill");
    child.wait().expect("wait");
    assert_eq!(names(dir.path()), ["ReCoRD.zip.part", "ReCoRD.zip.part.json"]);
    let output = glm_prep(dir.path(), &server, &[]).output().expect("run");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_fetched(&dir, &file);
    assert_eq!(server.asked(), [WHOLE, continued(150_000)]);
}

#[test]
fn two_runs_do_not_write_to_one_file() {
    let (file, dir) = (record(), tempdir().expect("folder"));
    let part = fs::File::create(dir.path().join("ReCoRD.zip.part")).expect("create");
    part.try_lock().expect("lock");
    let error = get(&dir, &Server::start("ReCoRD.zip", vec![Answer::file(&file)])).expect_err("busy");
    assert!(matches!(error, FetchError::Busy(_)), "{error}");
}
