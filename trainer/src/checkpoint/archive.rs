//! Packed weights as published, `glm-large-blank.tar.bz2`: unpacked once, beside the archive.
//!
//! What is unpacked goes into a hidden folder first, to the disk, and gets its name when it is whole. Several processes that start
//! at a time do not hurt each other: the first unpacks, the others wait for it; where the file system has no locks each unpacks
//! for itself, and the first to finish wins.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io::{self, BufReader, Read, Write};
use std::ops::ControlFlow;
use std::path::{Component, Path, PathBuf};

use bzip2::bufread::MultiBzDecoder;
use glm_support::files::atomic::sync_dir;
use glm_support::files::progress::{self, Progress, Unit};
use tar::{Entry, EntryType};

use super::CheckpointError;
use super::locate::PUBLISHED_FILE;

/// The first bytes of what bzip2 has packed.
const MAGIC: &[u8] = b"BZh";
/// Behind the name of a folder that is not whole yet; the number of the process follows.
const TEMPORARY: &str = ".unpacking-";
const BUFFER_BYTES: usize = 1 << 18;

/// Whether a file is packed by bzip2.
///
/// # Errors
/// [`CheckpointError::Io`].
pub(super) fn is_packed(path: &Path) -> Result<bool, CheckpointError> {
    let mut first = Vec::with_capacity(MAGIC.len());
    let read = File::open(path).and_then(|file| file.take(MAGIC.len() as u64).read_to_end(&mut first));
    read.map_err(|source| io_error("cannot read", path, source))?;
    Ok(first == MAGIC)
}

/// The folder that an archive unpacks to, beside it; unpacks it if the folder is not there.
///
/// # Errors
/// [`CheckpointError`] where the archive is damaged, has not one folder at its top, or cannot be unpacked there.
pub fn unpacked(archive: &Path) -> Result<PathBuf, CheckpointError> {
    let top = top_folder(archive)?;
    let parent = archive.parent().unwrap_or(Path::new(""));
    let target = parent.join(&top);
    if target.is_dir() {
        return Ok(target);
    }
    let file = File::open(archive).map_err(|source| io_error("cannot read", archive, source))?;
    let locked = lock(&file, archive);
    // Another process may have been faster.
    if target.is_dir() {
        return Ok(target);
    }
    let prefix = format!(".{}{TEMPORARY}", top.display());
    if locked {
        remove_left_overs(parent, &prefix);
    }
    let temporary = Temporary(parent.join(format!("{prefix}{}", std::process::id())));
    unpack(archive, &temporary.0, &top)?;
    let inner = temporary.0.join(&top);
    match fs::rename(&inner, &target) {
        // Without a lock another process can have finished first.
        Err(_) if target.is_dir() => {}
        Err(source) => return Err(io_error("cannot rename to", &target, source)),
        Ok(()) => {}
    }
    sync_dir(parent).map_err(|source| io_error("cannot sync", parent, source))?;
    tracing::info!("unpacked {} to {}", archive.display(), target.display());
    Ok(target)
}

/// Checks that an archive can be read to its end and holds published weights.
///
/// # Errors
/// What is wrong with it, for `glm-trainer fetch`.
pub fn check(archive: &Path, progress: &dyn Progress) -> Result<(), glm_support::files::fetch::ContentFault> {
    use glm_support::files::fetch::ContentFault;
    let mut found = false;
    let walked = walk(archive, "checking", progress, |path, entry| {
        found |= path.file_name().is_some_and(|name| name == PUBLISHED_FILE);
        io::copy(entry, &mut io::sink()).map_err(WalkError::Archive)?;
        Ok(ControlFlow::Continue(()))
    });
    match walked {
        Ok(()) if found => Ok(()),
        Ok(()) => Err(ContentFault::Missing(PUBLISHED_FILE)),
        Err(WalkError::Archive(error) | WalkError::Unpacked(_, error)) => Err(ContentFault::Damaged(error.to_string())),
        Err(WalkError::Outside(path)) => Err(ContentFault::Damaged(outside(&path))),
    }
}

/// Takes the lock; false where the file system has none.
fn lock(file: &File, path: &Path) -> bool {
    let locked = match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            tracing::info!("another process is unpacking {}: waiting for it", path.display());
            file.lock()
        }
        Err(TryLockError::Error(error)) => Err(error),
        Ok(()) => Ok(()),
    };
    if let Err(error) = &locked {
        tracing::debug!("{} cannot be locked ({error})", path.display());
    }
    locked.is_ok()
}

/// Folders that a killed process has left.
fn remove_left_overs(parent: &Path, prefix: &str) {
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(prefix)) {
            drop(Temporary(entry.path()));
        }
    }
}

/// A folder that is removed when it is dropped.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        match fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!("cannot remove {}: {error}", self.0.display());
            }
            _ => {}
        }
    }
}

fn unpack(archive: &Path, temporary: &Path, top: &Path) -> Result<(), CheckpointError> {
    let quiet = !tracing::enabled!(tracing::Level::INFO);
    let mut folders = BTreeSet::new();
    let walked = walk(archive, "unpacking", progress::of(quiet).as_ref(), |path, entry| {
        if !path.starts_with(top) {
            let reason = format!("has both {} and {} at its top", top.display(), path.display());
            return Err(WalkError::Archive(io::Error::new(io::ErrorKind::InvalidData, reason)));
        }
        let target = temporary.join(path);
        let failed = |error| WalkError::Unpacked(target.clone(), error);
        let kind = entry.header().entry_type();
        if let Some(folder) = if kind.is_dir() { Some(target.as_path()) } else { target.parent() } {
            fs::create_dir_all(folder).map_err(failed)?;
            folders.extend(folder.ancestors().take_while(|folder| folder.starts_with(temporary)).map(Path::to_owned));
        }
        match kind {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let mut file = File::create_new(&target).map_err(failed)?;
                copy(entry, &mut file, failed)?;
                file.sync_all().map_err(failed)?;
            }
            EntryType::Directory => {}
            // Weights are plain files; a link could lead out of the folder.
            _ => tracing::warn!("{}: left out {}, which is no plain file", archive.display(), path.display()),
        }
        Ok(ControlFlow::Continue(()))
    });
    let synced = walked.and_then(|()| {
        folders.iter().try_for_each(|folder| sync_dir(folder).map_err(|error| WalkError::Unpacked(folder.clone(), error)))
    });
    synced.map_err(|error| {
        let reason = match error {
            WalkError::Archive(error) => format!("cannot be unpacked: {error}; download it again"),
            WalkError::Outside(path) => format!("cannot be unpacked: {}", outside(&path)),
            WalkError::Unpacked(target, error) => format!(
                "cannot be unpacked beside itself: {}: {error}; unpack it in a folder with room for it, with tar -xjf, and say that folder",
                target.display()
            ),
        };
        CheckpointError::Archive { path: archive.to_owned(), reason }
    })
}

/// Why going through an archive ended early.
enum WalkError {
    /// The archive cannot be read.
    Archive(io::Error),
    /// A member has a path that leads out of the archive's folder.
    Outside(PathBuf),
    /// A member cannot be written to this place.
    Unpacked(PathBuf, io::Error),
}

/// Copies a member's content; `failed` makes an error of one that the written file has.
fn copy(entry: &mut impl Read, file: &mut File, failed: impl Fn(io::Error) -> WalkError) -> Result<(), WalkError> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match entry.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => file.write_all(&buffer[..read]).map_err(&failed)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(WalkError::Archive(error)),
        }
    }
}

fn outside(path: &Path) -> String {
    format!("its member '{}' leads out of the archive's folder", path.display())
}

type Packed<'p> = MultiBzDecoder<BufReader<Counted<'p>>>;

/// Calls `visit` for each member, and reads to the very end, where bzip2's checksum is, unless `visit` has seen enough.
fn walk(
    archive: &Path,
    doing: &str,
    progress: &dyn Progress,
    mut visit: impl FnMut(&Path, &mut Entry<'_, Packed<'_>>) -> Result<ControlFlow<()>, WalkError>,
) -> Result<(), WalkError> {
    let file = File::open(archive).map_err(WalkError::Archive)?;
    let size = file.metadata().map_err(WalkError::Archive)?.len();
    let name = archive.file_name().unwrap_or_default().display();
    progress.begin(&format!("{doing} {name}"), size, Unit::Bytes);
    let packed = MultiBzDecoder::new(BufReader::with_capacity(BUFFER_BYTES, Counted { file, progress }));
    let mut members = tar::Archive::new(packed);
    let visited = visit_members(&mut members, &mut visit);
    let walked = visited.and_then(|flow| match flow {
        ControlFlow::Break(()) => Ok(()),
        ControlFlow::Continue(()) => io::copy(&mut members.into_inner(), &mut io::sink()).map(drop).map_err(WalkError::Archive),
    });
    progress.end();
    walked
}

fn visit_members<'p>(
    members: &mut tar::Archive<Packed<'p>>,
    visit: &mut impl FnMut(&Path, &mut Entry<'_, Packed<'p>>) -> Result<ControlFlow<()>, WalkError>,
) -> Result<ControlFlow<()>, WalkError> {
    for entry in members.entries().map_err(WalkError::Archive)? {
        let mut entry = entry.map_err(WalkError::Archive)?;
        let path = inner_path(&entry)?;
        if !path.as_os_str().is_empty() && visit(&path, &mut entry)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// A member's path without `.`; it goes down only.
fn inner_path(entry: &Entry<'_, Packed<'_>>) -> Result<PathBuf, WalkError> {
    let path = entry.path().map_err(WalkError::Archive)?;
    let mut inner = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => inner.push(name),
            Component::CurDir => {}
            _ => return Err(WalkError::Outside(path.into_owned())),
        }
    }
    Ok(inner)
}

/// The folder at the top of an archive, which the first member tells.
fn top_folder(archive: &Path) -> Result<PathBuf, CheckpointError> {
    let fault = |reason: String| CheckpointError::Archive { path: archive.to_owned(), reason };
    let mut top = None;
    let walked = walk(archive, "opening", &progress::Silent, |path, entry| {
        let mut components = path.components();
        let first = components.next().map(|first| PathBuf::from(first.as_os_str()));
        let is_folder = components.next().is_some() || entry.header().entry_type().is_dir();
        top = first.filter(|_| is_folder);
        Ok(ControlFlow::Break(()))
    });
    match (top, walked) {
        (Some(top), _) => Ok(top),
        (None, Err(WalkError::Archive(error))) => {
            Err(fault(format!("is no packed tar archive that can be read: {error}; download it again")))
        }
        (None, Err(WalkError::Outside(path))) => Err(fault(format!("cannot be unpacked: {}", outside(&path)))),
        (None, _) => Err(fault("has no folder at its top; unpack it with tar -xjf and say the folder".to_owned())),
    }
}

/// Tells how much of a file has been read.
struct Counted<'p> {
    file: File,
    progress: &'p dyn Progress,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.progress.advance(read as u64);
        Ok(read)
    }
}

fn io_error(doing: &'static str, path: &Path, source: io::Error) -> CheckpointError {
    CheckpointError::Io { doing, path: path.to_owned(), source }
}

#[cfg(test)]
#[path = "archive_tests.rs"]
mod tests;
