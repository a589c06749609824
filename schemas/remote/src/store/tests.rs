//! Tests of stores with a local server.

use std::fs;
use std::io::Read;
use std::time::{Duration, Instant};

use glm_test_server::Objects;

use crate::environment::set_environment;
use crate::{Location, RemoteError, Store};

const KEY: &str = "key-of-tests";

fn environment(server: &Objects, key: &str) {
    set_environment(&[
        ("AWS_ENDPOINT_URL", &server.endpoint),
        ("AWS_ACCESS_KEY_ID", key),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("HF_ENDPOINT", &server.endpoint),
        ("HF_TOKEN", key),
    ]);
}

fn open(url: &str) -> Store {
    Store::open(&url.parse::<Location>().expect("valid")).expect("opened")
}

fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..bytes).map(|_| next()).collect()
}

#[test]
fn files_are_written_listed_read_and_removed() {
    let server = Objects::start();
    server.require_key(KEY);
    environment(&server, KEY);
    let store = open("s3://bucket/top");
    let folder = tempfile::tempdir().expect("folder");
    // Three parts, and one request.
    let (large, small) = (noise(20 << 20), noise(1000));
    fs::write(folder.path().join("large"), &large).expect("write");
    fs::write(folder.path().join("small"), &small).expect("write");
    let sent = std::cell::Cell::new(0);
    let add = |bytes| sent.set(sent.get() + bytes);
    assert_eq!(store.upload(&folder.path().join("large"), "a/large file", &add).expect("sent"), large.len() as u64);
    store.upload(&folder.path().join("small"), "small", &add).expect("sent");
    assert_eq!((sent.get(), server.open_uploads()), (20 * (1 << 20) + 1000, 0));
    store.write("empty", Vec::new()).expect("written");
    assert!(server.get("bucket/top/a/large file").expect("there") == large);

    let listed: Vec<_> = store.list().expect("listed").into_iter().map(|file| (file.name, file.bytes)).collect();
    let expected = [("a/large file", large.len()), ("empty", 0), ("small", 1000)];
    assert_eq!(listed, expected.map(|(name, bytes)| (name.to_owned(), Some(bytes as u64))));
    let mut content = Vec::new();
    store.read("a/large file").expect("opened").read_to_end(&mut content).expect("read");
    assert!(content == large);
    assert_eq!(store.text("empty").expect("read"), Some(Vec::new()));
    assert_eq!(store.range("small", 10..20).expect("read"), small[10..20]);
    assert_eq!(open("s3://bucket/top/small").head("").expect("there").and_then(|file| file.bytes), Some(1000));
    store.remove("small").expect("removed");
    assert_eq!((store.head("small").expect("none"), store.text("small").expect("none")), (None, None));
}

#[test]
fn the_emulator_of_google_is_read_and_written() {
    let server = Objects::start();
    set_environment(&[("STORAGE_EMULATOR_HOST", server.endpoint.trim_start_matches("http://"))]);
    let store = open("gs://bucket/top");
    store.write("a/x", b"one".to_vec()).expect("written");
    assert_eq!(server.get("bucket/top/a/x").expect("there"), b"one");
    let listed: Vec<_> = store.list().expect("listed").into_iter().map(|file| file.name).collect();
    assert_eq!((listed, store.text("a/x").expect("read")), (vec!["a/x".to_owned()], Some(b"one".to_vec())));
    store.remove("a/x").expect("removed");
    assert_eq!((server.names().len(), store.text("a/x").expect("none")), (0, None));
}

#[test]
fn a_broken_connection_is_continued() {
    let server = Objects::start();
    environment(&server, KEY);
    let content = noise(3 << 20);
    server.put("bucket/file", content.clone());
    server.put("org/model/file", content.clone());
    for url in ["s3://bucket/file", &format!("{}/bucket/file", server.endpoint), "hf://org/model/file"] {
        server.cut_reads(3, 400_000);
        let before = server.requests().len();
        let mut found = Vec::new();
        open(url).read("").expect("opened").read_to_end(&mut found).expect("read");
        assert!(found == content, "{url}");
        assert_eq!(server.requests().len() - before, 4, "{url}");
    }
}

#[test]
fn a_broken_connection_to_a_server_without_tags_is_continued_if_the_size_is_the_same() {
    let server = Objects::start();
    server.omit_tags();
    let content = noise(1 << 20);
    server.put("file", content.clone());
    let url = format!("{}/file", server.endpoint);
    let mut found = Vec::new();
    server.cut_reads(3, 200_000);
    open(&url).read("").expect("opened").read_to_end(&mut found).expect("read");
    assert!(found == content);
    server.cut_reads(1, 200_000);
    let mut reader = open(&url).read("").expect("opened");
    reader.read_exact(&mut [0; 1000]).expect("read");
    server.put("file", noise(2 << 20));
    let error = reader.read_to_end(&mut Vec::new()).expect_err("changed").to_string();
    assert_eq!(error, format!("{url} changed while it was read; run the command again"));
}

#[test]
fn a_file_that_changes_is_not_continued() {
    let server = Objects::start();
    environment(&server, KEY);
    server.put("bucket/file", noise(1 << 20));
    server.cut_reads(1, 400_000);
    let mut reader = open("s3://bucket/file").read("").expect("opened");
    reader.read_exact(&mut [0; 1000]).expect("read");
    server.put("bucket/file", vec![7; 1 << 20]);
    let error = reader.read_to_end(&mut Vec::new()).expect_err("changed").to_string();
    assert_eq!(error, "s3://bucket/file changed while it was read; run the command again");
}

#[test]
fn an_abandoned_upload_is_not_visible() {
    let server = Objects::start();
    environment(&server, KEY);
    server.stall_parts(0);
    let store = open("s3://bucket/top");
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("large");
    fs::write(&path, noise(20 << 20)).expect("write");
    // The thread ends with the test process, as if it had been killed.
    std::thread::spawn(move || store.upload(&path, "large", &|_| ()));
    let start = Instant::now();
    while server.open_uploads() == 0 {
        assert!(start.elapsed() < Duration::from_secs(20), "no upload was begun");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(server.names(), Vec::<String>::new());
}

#[test]
fn refused_keys_are_explained() {
    let server = Objects::start();
    server.require_key(KEY);
    server.put("bucket/file", "x");
    environment(&server, "wrong");
    for (url, expected) in [("s3://bucket/file", "set AWS_ACCESS_KEY_ID"), ("hf://org/model/file", "HF_TOKEN")] {
        let error = open(url).read("").expect_err("refused");
        assert!(matches!(error, RemoteError::Denied { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.starts_with(&format!("no access to {url} (InvalidAccessKeyId: ")) && text.contains(expected), "{text}");
    }
    assert!(matches!(open("s3://bucket").list(), Err(RemoteError::Denied { .. })));
    assert!(matches!(open("s3://bucket").write("x", vec![1]), Err(RemoteError::Denied { .. })));
    assert_eq!(server.names(), ["bucket/file"]);
}

#[test]
fn missing_files_and_other_schemes_are_explained() {
    let server = Objects::start();
    environment(&server, KEY);
    let error = open("s3://bucket/none").read("").expect_err("missing");
    assert!(error.to_string().starts_with("there is nothing at s3://bucket/none (NoSuchKey: "), "{error}");
    server.no_bucket("gone");
    let error = open("s3://gone").text("x").expect_err("missing").to_string();
    assert!(error.starts_with("there is nothing at s3://gone/x (NoSuchBucket: "), "{error}");
    let error = open("hf://org/model").write("x", vec![1]).expect_err("refused").to_string();
    assert!(error.starts_with("cannot write to hf://org/model: only s3://"), "{error}");
    let error = open(&format!("{}/folder", server.endpoint)).list().expect_err("no list").to_string();
    assert!(error.contains("there is no SHA256SUMS in it"), "{error}");
}

#[test]
fn folders_of_the_hub_and_of_lists_are_listed() {
    let server = Objects::start();
    server.require_key(KEY);
    environment(&server, KEY);
    for (path, content) in [("datasets/org/name/data/a", "1"), ("datasets/org/name/b", "22"), ("org/other/c", "3")] {
        server.put(path, content);
    }
    let names =
        |url: &str| open(url).list().expect("listed").into_iter().map(|file| (file.name, file.bytes)).collect::<Vec<_>>();
    assert_eq!(names("hf://datasets/org/name"), [("b".to_owned(), Some(2)), ("data/a".to_owned(), Some(1))]);
    assert_eq!(names("hf://datasets/org/name/data"), [("a".to_owned(), Some(1))]);
    assert!(open("hf://org/none").list().is_err_and(|error| error.is_missing()));

    let server = Objects::start();
    let sum = "ab".repeat(32);
    server.put("folder/SHA256SUMS", format!("{sum}  data/x\n{sum}  y\n"));
    assert_eq!(names(&format!("{}/folder", server.endpoint)), [("data/x".to_owned(), None), ("y".to_owned(), None)]);
}
