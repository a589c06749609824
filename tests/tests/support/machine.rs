//! Machines with credentials for an object store of tests, and what the store holds.

#![allow(dead_code)] // every test file uses only some of these functions

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use glm_schemas::manifest::hex;
use glm_test_server::Objects;
use glm_tests::command;
use glm_tests::training::{corpus, set, trainer_from};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// Access key id, and token of the Hub, that the servers require.
const KEY: &str = "key-of-tests";

/// A machine with credentials for a server, and a cache of its own.
pub(crate) struct Machine {
    server: Objects,
    pub(crate) home: TempDir,
}

impl Machine {
    pub(crate) fn new(server: &Objects) -> Self {
        Self { server: server.clone(), home: tempfile::tempdir().expect("folder") }
    }

    pub(crate) fn cache(&self) -> PathBuf {
        self.home.path().join("cache")
    }

    /// Adds the environment of the machine to a command.
    pub(crate) fn on<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        for name in ["AWS_PROFILE", "AWS_REGION", "AWS_SESSION_TOKEN", "GLM_CACHE_LIMIT", "XDG_CACHE_HOME", "HF_HOME"] {
            command.env_remove(name);
        }
        command
            .env("AWS_ENDPOINT_URL", &self.server.endpoint)
            .env("AWS_ACCESS_KEY_ID", KEY)
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .env("HF_ENDPOINT", &self.server.endpoint)
            .env("HF_TOKEN", KEY)
            .env("HOME", self.home.path())
            .env("GLM_CACHE", self.cache())
    }

    pub(crate) fn prep(&self, arguments: &[&str]) -> Command {
        let mut command = command("glm-prep");
        self.on(command.args(arguments));
        command
    }

    pub(crate) fn trainer(&self, arguments: &[&str]) -> Command {
        let mut command = command("glm-trainer");
        self.on(command.args(arguments));
        command
    }

    /// A training run of `steps` steps.
    pub(crate) fn train(&self, data: &str, out: &str, steps: &str, more: &[&str]) -> Command {
        let mut command = trainer_from(Path::new("random"), Path::new(data), Path::new(out));
        self.on(set(&mut command, &["train.eval_every=16", "train.eval_questions=40"]).args(["--max-steps", steps]).args(more));
        command
    }
}

/// Server without files that requires the key of a machine.
pub(crate) fn empty() -> Objects {
    let server = Objects::start();
    server.require_key(KEY);
    server
}

/// Server with a raw sample corpus in `bucket/raw`; the same corpus, ingested, in the folder.
pub(crate) fn sample() -> (Objects, TempDir) {
    let (server, folder) = (empty(), tempfile::tempdir().expect("folder"));
    corpus(folder.path());
    server.put_folder(&folder.path().join("ReCoRD"), "bucket/raw/ReCoRD");
    (server, folder)
}

/// Server with the shards of a sample corpus in `bucket/set`; the same data set in the folder.
pub(crate) fn data_set() -> (Objects, TempDir) {
    let (server, folder) = sample();
    server.put_folder(&folder.path().join("shards"), "bucket/set/shards");
    (server, folder)
}

pub(crate) fn contents(folder: &Path, prefix: &str) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("entry").path();
        let name = format!("{prefix}{}", path.file_name().expect("a name").to_string_lossy());
        match path.is_dir() {
            true => files.extend(contents(&path, &format!("{name}/"))),
            false => files.push((name, fs::read(&path).expect("a file"))),
        }
    }
    files.sort();
    files
}

/// Files of a folder of the server, with names relative to it.
pub(crate) fn stored(server: &Objects, folder: &str) -> Vec<(String, Vec<u8>)> {
    let names = server.names();
    let inner =
        names.iter().filter_map(|name| Some((name.strip_prefix(folder)?.strip_prefix('/')?.to_owned(), server.get(name)?)));
    inner.collect()
}

/// Checks the checksums of a list on the server.
pub(crate) fn assert_sums(server: &Objects, folder: &str) {
    let sums = String::from_utf8(server.get(&format!("{folder}/SHA256SUMS")).expect("a list")).expect("text");
    assert!(!sums.is_empty());
    for line in sums.lines() {
        let (sum, name) = line.split_once("  ").expect("sum and name");
        let content = server.get(&format!("{folder}/{name}")).unwrap_or_else(|| panic!("{folder}/{name} is missing"));
        assert_eq!(hex(&Sha256::digest(&content)), sum, "{name}");
    }
}
