//! Tests of the cache with a local server.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use glm_schemas::manifest::hex;
use glm_support::files::progress::Silent;
use glm_test_server::Objects;
use sha2::{Digest, Sha256};

use super::cache::{Cache, Wanted};
use super::{RemoteError, Store};

const URL: &str = "s3://bucket/set";

fn store(server: &Objects) -> Store {
    Store::open(&format!("{}/bucket", server.endpoint).parse().expect("valid")).expect("opened")
}

/// A file of the store that an entry shall have as `data/NAME`.
fn wanted(name: &str, content: &[u8]) -> Wanted {
    let (from, to) = (name.to_owned(), format!("data/{name}"));
    Wanted { from, to, bytes: Some(content.len() as u64), sha256: Some(hex(&Sha256::digest(content))) }
}

fn fill(cache: &Cache, version: &str, store: &Store, files: &[Wanted]) -> Result<std::path::PathBuf, RemoteError> {
    let entry = cache.entry(URL, version)?;
    entry.fill(store, files, "manifest.json", &Silent).map(|()| entry.folder().to_owned())
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn files_are_downloaded_once_and_again_if_they_were_modified() {
    let (server, folder) = (Objects::start(), tempfile::tempdir().expect("folder"));
    let cache = Cache::open(folder.path().join("cache"), 1_000_000).expect("opened");
    server.put("bucket/a", "one");
    server.put("bucket/b", "two");
    let (store, files) = (store(&server), [wanted("a", b"one"), wanted("b", b"two")]);
    let entry = fill(&cache, "1", &store, &files).expect("filled");
    assert_eq!((names(&entry.join("data")), server.requests().len()), (vec!["a".to_owned(), "b".to_owned()], 2));
    fill(&cache, "1", &store, &files).expect("there");
    assert_eq!(server.requests().len(), 2);
    fs::write(entry.join("data/a"), "1ne").expect("write");
    fs::remove_file(entry.join("data/b")).expect("removed");
    fill(&cache, "1", &store, &files).expect("filled again");
    assert_eq!((fs::read(entry.join("data/a")).expect("read"), server.requests().len()), (b"one".to_vec(), 4));
}

#[test]
fn another_checksum_is_refused_and_nothing_is_kept() {
    let (server, folder) = (Objects::start(), tempfile::tempdir().expect("folder"));
    let cache = Cache::open(folder.path().join("cache"), 1_000_000).expect("opened");
    server.put("bucket/a", "one");
    let store = store(&server);
    for (content, shown) in [(&b"two"[..], "has sha256 7692c3"), (b"longer", "has 3 bytes, but manifest.json lists 6;")] {
        let error = fill(&cache, "1", &store, &[wanted("a", content)]).expect_err("refused").to_string();
        assert!(error.starts_with(&format!("{}/bucket/a {shown}", server.endpoint)), "{error}");
        assert_eq!(names(&cache.entry(URL, "1").expect("entry").folder().join("data")), Vec::<String>::new());
    }
}

#[test]
fn the_entry_that_was_not_used_for_the_longest_time_is_removed() {
    let (server, folder) = (Objects::start(), tempfile::tempdir().expect("folder"));
    let cache = Cache::open(folder.path().to_owned(), 25_000).expect("opened");
    let contents = [vec![1; 10_000], vec![2; 10_000], vec![3; 10_000]];
    for (name, content) in ["a", "b", "c"].iter().zip(&contents) {
        server.put(&format!("bucket/{name}"), content.clone());
    }
    let store = store(&server);
    let add =
        |version: &str| fill(&cache, version, &store, &[wanted(version, &contents[usize::from(version.as_bytes()[0] - b'a')])]);
    // Other processes filled the first two, and ended.
    let unused = |version: &str, age: u64| {
        let entry = add(version).expect("filled");
        let (lock, time) = (entry.join(".lock"), SystemTime::now() - Duration::from_secs(age));
        fs::remove_file(&lock).expect("remove");
        fs::File::create(&lock).and_then(|lock| lock.set_modified(time)).expect("write");
        entry
    };
    let (first, second) = (unused("a", 10), unused("b", 20));
    add("c").expect("filled");
    assert_eq!((first.is_dir(), second.is_dir()), (true, false));
    // `c` is in use.
    let error = add("b").and_then(|_| add("a")).expect_err("no space").to_string();
    assert!(error.contains("whose limit is 0 MB") && error.contains("set GLM_CACHE_LIMIT"), "{error}");
    assert!(!first.join("data/a").exists());
}

#[test]
fn several_readers_download_a_file_once() {
    let (server, folder) = (Objects::start(), tempfile::tempdir().expect("folder"));
    let cache = Cache::open(folder.path().to_owned(), 10_000_000).expect("opened");
    let content = vec![9; 2_000_000];
    server.put("bucket/a", content.clone());
    let store = store(&server);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let entry = fill(&cache, "1", &store, &[wanted("a", &content)]).expect("filled");
                assert!(fs::read(entry.join("data/a")).expect("read") == content);
            });
        }
    });
    assert_eq!(server.requests(), ["GET /bucket/a"]);
}
