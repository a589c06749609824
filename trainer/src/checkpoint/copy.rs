//! Copy of a run folder in an object store, with the same layout.
//!
//! A thread uploads the latest and the best checkpoint while training goes on: first the files of a checkpoint, its checksums last, then
//! the files `latest` and `best` that name it. Whenever a run is killed, `latest` in the store names a complete checkpoint.

mod fetch;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::SystemTime;

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
use glm_remote::{Location, RemoteError, Store};

pub use self::fetch::{fetch_records, fetch_run};
use super::CheckpointError;
use super::locate::{BEST_FILE, CHECKPOINTS_FOLDER, LATEST_FILE, STEP_PREFIX, TEMPORARY};
use super::seal::SUMS_FILE;

/// Uploads a run folder on a thread of its own.
#[derive(Debug)]
pub struct RunCopy {
    url: Location,
    /// Each message asks for an upload of what has changed. One that waits covers all changes until it is taken.
    requests: Option<Sender<()>>,
    thread: Option<JoinHandle<Result<(), CopyError>>>,
}

/// Error of an upload.
#[derive(Debug)]
enum CopyError {
    Remote(RemoteError),
    File(PathBuf, io::Error),
}

impl From<RemoteError> for CopyError {
    fn from(error: RemoteError) -> Self {
        Self::Remote(error)
    }
}

impl From<CopyError> for CheckpointError {
    fn from(error: CopyError) -> Self {
        match error {
            CopyError::Remote(error) => Self::Remote(error),
            CopyError::File(path, source) => Self::Io { doing: "cannot copy", path, source },
        }
    }
}

impl RunCopy {
    /// Starts to copy the run folder `root` to a URL, with the latest `keep` checkpoints and the best one.
    ///
    /// # Errors
    /// [`CheckpointError`] if the store cannot be written to.
    pub fn start(root: &Path, url: &Location, keep: usize) -> Result<Self, CheckpointError> {
        url.check_writable()?;
        let store = Store::open(url)?;
        let folder = root.to_owned();
        let mut upload = Upload { store, root: folder, keep: keep.max(1), steps: BTreeSet::new(), files: BTreeMap::new() };
        let (requests, taken) = bounded(1);
        let thread = std::thread::Builder::new().name("copy".into()).spawn(move || upload.serve(&taken));
        let thread = thread.map_err(|source| CheckpointError::Thread { reason: source.to_string() })?;
        Ok(Self { url: url.clone(), requests: Some(requests), thread: Some(thread) })
    }

    /// URL of the copy.
    pub fn url(&self) -> &Location {
        &self.url
    }

    /// Asks for an upload of what has changed, without waiting for it.
    pub fn request(&self) {
        if let Some(Err(TrySendError::Disconnected(()))) = self.requests.as_ref().map(|requests| requests.try_send(())) {
            tracing::error!("the thread that copies the run to {} has ended", self.url);
        }
    }

    /// Waits until everything is uploaded.
    ///
    /// # Errors
    /// [`CheckpointError`] of the last attempt.
    pub fn finish(&mut self) -> Result<(), CheckpointError> {
        self.requests = None;
        let Some(thread) = self.thread.take() else { return Ok(()) };
        let panicked = |_| CheckpointError::Thread { reason: "it panicked, see the message above".to_owned() };
        Ok(thread.join().map_err(panicked)??)
    }
}

impl Drop for RunCopy {
    fn drop(&mut self) {
        // A run that ends early still completes its copy.
        if let Err(error) = self.finish() {
            tracing::error!("the copy in {} is not complete: {error}", self.url);
        }
    }
}

/// State of the thread.
struct Upload {
    store: Store,
    root: PathBuf,
    keep: usize,
    /// Names of the checkpoints in the store that are complete.
    steps: BTreeSet<String>,
    /// Other files as they were when they were uploaded: size and time of the last change.
    files: BTreeMap<String, (u64, Option<SystemTime>)>,
}

impl Upload {
    /// Uploads what has changed upon each request, and at the end.
    fn serve(&mut self, requests: &Receiver<()>) -> Result<(), CopyError> {
        for () in requests {
            if let Err(error) = self.all() {
                let error = CheckpointError::from(error);
                tracing::warn!("cannot copy the run: {error}; training continues, and the next checkpoint is copied again");
            }
        }
        self.all()
    }

    fn all(&mut self) -> Result<(), CopyError> {
        let mut named = Vec::new();
        // The file `latest` is the last to be changed.
        for file in [BEST_FILE, LATEST_FILE] {
            if let Some(step) = self.checkpoint(file)? {
                named.push((file, step));
            }
        }
        self.other_files(&self.root.clone(), "")?;
        for (file, step) in &named {
            self.store.write(&format!("{CHECKPOINTS_FOLDER}/{file}"), step.clone().into_bytes())?;
        }
        self.remove_old(&named.into_iter().map(|(_, step)| step).collect())
    }

    /// Uploads the checkpoint that a file names, unless it is there. Returns its name.
    fn checkpoint(&mut self, file: &str) -> Result<Option<String>, CopyError> {
        loop {
            let Some(step) = self.named(file)? else { return Ok(None) };
            if self.steps.contains(&step) {
                return Ok(Some(step));
            }
            if self.is_there(&step)? {
                self.steps.insert(step.clone());
                return Ok(Some(step));
            }
            // The links keep the files if the checkpoint is removed meanwhile.
            let linked = self.root.join(CHECKPOINTS_FOLDER).join(format!("{TEMPORARY}copy-{step}"));
            let files = match links(&self.root.join(CHECKPOINTS_FOLDER).join(&step), &linked) {
                // It was removed, so the file names another one by now.
                Err(error) if error.kind() == io::ErrorKind::NotFound && self.named(file)?.as_ref() != Some(&step) => continue,
                files => files.map_err(|source| CopyError::File(linked.clone(), source))?,
            };
            let (sums, others): (Vec<_>, Vec<_>) = files.into_iter().partition(|name| name == SUMS_FILE);
            let uploaded = others.iter().chain(&sums).try_for_each(|name| {
                let to = format!("{CHECKPOINTS_FOLDER}/{step}/{name}");
                self.store.upload(&linked.join(name), &to, &|_| ()).map(drop)
            });
            // What remains is removed by the next run.
            let _ = fs::remove_dir_all(&linked);
            uploaded?;
            tracing::debug!("copied {step} to {}", self.store.location());
            self.steps.insert(step.clone());
            return Ok(Some(step));
        }
    }

    /// Returns true if the store has the same checkpoint, as after a resumption.
    fn is_there(&self, step: &str) -> Result<bool, CopyError> {
        let name = format!("{CHECKPOINTS_FOLDER}/{step}/{SUMS_FILE}");
        let here = fs::read(self.root.join(&name)).ok();
        Ok(here.is_some() && self.store.text(&name)? == here)
    }

    /// Returns the name of the checkpoint in a file of the run folder.
    fn named(&self, file: &str) -> Result<Option<String>, CopyError> {
        let path = self.root.join(CHECKPOINTS_FOLDER).join(file);
        match fs::read_to_string(&path) {
            Ok(name) => Ok(Some(name.trim().to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(CopyError::File(path, source)),
        }
    }

    /// Uploads the files besides checkpoints that have changed.
    fn other_files(&mut self, folder: &Path, prefix: &str) -> Result<(), CopyError> {
        let unreadable = |source| CopyError::File(folder.to_owned(), source);
        for entry in fs::read_dir(folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let (path, Ok(name)) = (entry.path(), entry.file_name().into_string()) else { continue };
            if name.starts_with('.') || name.ends_with(".tmp") || (prefix.is_empty() && name == CHECKPOINTS_FOLDER) {
                continue;
            }
            let name = format!("{prefix}{name}");
            // Removed meanwhile.
            let Ok(found) = fs::metadata(&path) else { continue };
            let state = (found.len(), found.modified().ok());
            if found.is_dir() {
                self.other_files(&path, &format!("{name}/"))?;
            } else if self.files.get(&name) != Some(&state) {
                self.store.upload(&path, &name, &|_| ())?;
                self.files.insert(name, state);
            }
        }
        Ok(())
    }

    /// Removes checkpoints from the store, except the latest ones and those with a name.
    fn remove_old(&mut self, named: &BTreeSet<String>) -> Result<(), CopyError> {
        let mut files: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let prefix = format!("{CHECKPOINTS_FOLDER}/");
        for file in Store::open(&self.store.location().join(CHECKPOINTS_FOLDER))?.list()? {
            if let Some((step, _)) = file.name.split_once('/').filter(|(step, _)| step.starts_with(STEP_PREFIX)) {
                files.entry(step.to_owned()).or_default().push(format!("{prefix}{}", file.name));
            }
        }
        let old = files.len().saturating_sub(self.keep);
        for (step, files) in files.into_iter().take(old).filter(|(step, _)| !named.contains(step)) {
            self.steps.remove(&step);
            // First what makes it complete.
            let (sums, others): (Vec<_>, Vec<_>) = files.into_iter().partition(|name| name.ends_with(SUMS_FILE));
            sums.iter().chain(&others).try_for_each(|name| self.store.remove(name))?;
        }
        Ok(())
    }
}

/// Links or copies the files of a folder into a new one. Returns their names.
fn links(from: &Path, to: &Path) -> io::Result<Vec<String>> {
    if to.exists() {
        fs::remove_dir_all(to)?;
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(from)? {
        let Ok(name) = entry?.file_name().into_string() else { continue };
        fs::create_dir_all(to)?;
        // Not every file system has links.
        if fs::hard_link(from.join(&name), to.join(&name)).is_err() {
            fs::copy(from.join(&name), to.join(&name))?;
        }
        names.push(name);
    }
    Ok(names)
}
