//! Published archives of weights, such as `glm-large-blank.tar.bz2`: unpacked once, next to the archive.
//!
//! Files are unpacked into a hidden folder and synced to disk before the folder gets its final name. Of several processes that start
//! at the same time, the first unpacks and the others wait. On file systems without locks each process unpacks a copy, and the
//! first to finish provides the folder.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io::{self, BufReader, Read, Write};
use std::ops::ControlFlow;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use bzip2::bufread::MultiBzDecoder;
use glm_support::files::atomic::sync_dir;
use glm_support::files::bomb::{bomb, is_bomb};
use glm_support::files::progress::{self, Progress, Unit};
use tar::{Entry, EntryType};

use super::CheckpointError;
use super::published::PUBLISHED_FILE;

/// First bytes of a bzip2 file.
const MAGIC: &[u8] = b"BZh";
/// Suffix of an incomplete folder, followed by the process id.
const TEMPORARY: &str = ".unpacking-";
const BUFFER_BYTES: usize = 1 << 18;

/// Returns true if a file is compressed with bzip2.
///
/// # Errors
/// [`CheckpointError::Io`].
pub(super) fn is_bzip2(path: &Path) -> Result<bool, CheckpointError> {
    let mut first = Vec::with_capacity(MAGIC.len());
    let read = File::open(path).and_then(|file| file.take(MAGIC.len() as u64).read_to_end(&mut first));
    read.map_err(|source| io_error("cannot read", path, source))?;
    Ok(first == MAGIC)
}

/// Returns the folder of an archive, next to it, and unpacks the archive if the folder does not exist.
///
/// # Errors
/// [`CheckpointError`] if the archive is damaged, does not have exactly one folder at its top, or cannot be unpacked.
pub fn unpacked(archive: &Path) -> Result<PathBuf, CheckpointError> {
    let top = top_folder(archive)?;
    let parent = archive.parent().unwrap_or(Path::new(""));
    let target = parent.join(&top);
    if target.is_dir() {
        return Ok(target);
    }
    let file = File::open(archive).map_err(|source| io_error("cannot read", archive, source))?;
    let locked = lock(&file, archive);
    // Another process may have unpacked it meanwhile.
    if target.is_dir() {
        return Ok(target);
    }
    let prefix = format!(".{}{TEMPORARY}", top.display());
    if locked {
        remove_leftovers(parent, &prefix);
    }
    let temporary = Temporary(parent.join(format!("{prefix}{}", std::process::id())));
    unpack(archive, &temporary.0, &top)?;
    let inner = temporary.0.join(&top);
    match fs::rename(&inner, &target) {
        // Without a lock another process may have finished first.
        Err(_) if target.is_dir() => {}
        Err(source) => return Err(io_error("cannot rename to", &target, source)),
        Ok(()) => {}
    }
    sync_dir(parent).map_err(|source| io_error("cannot sync", parent, source))?;
    tracing::info!("unpacked {} to {}", archive.display(), target.display());
    Ok(target)
}

/// Checks that an archive is intact and contains published weights, for `glm-trainer fetch`.
///
/// # Errors
/// A [`ContentFault`](glm_support::files::fetch::ContentFault).
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
        Err(WalkError::Bomb) => Err(ContentFault::Damaged(bomb().to_string())),
    }
}

/// Locks the file; returns false on file systems without locks, so that leftovers of running processes are kept there.
fn lock(file: &File, path: &Path) -> bool {
    let locked = match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            tracing::info!("waiting for another process that unpacks {}", path.display());
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

/// Removes incomplete folders of killed processes.
fn remove_leftovers(parent: &Path, prefix: &str) {
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(prefix)) {
            drop(Temporary(entry.path()));
        }
    }
}

/// A folder that is removed on drop.
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
    let packed = fs::metadata(archive).map_err(|source| io_error("cannot read", archive, source))?.len();
    // Sparse members are longer than their bytes in the archive.
    let mut written = 0;
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
                copy(entry, &mut file, failed, |bytes| {
                    written += bytes;
                    !is_bomb(written, packed)
                })?;
                file.sync_all().map_err(failed)?;
            }
            EntryType::Directory => {}
            // Weights are regular files; a link could lead out of the folder.
            _ => tracing::warn!("{}: skipped {}, which is not a regular file", archive.display(), path.display()),
        }
        Ok(ControlFlow::Continue(()))
    });
    let synced = walked.and_then(|()| {
        folders.iter().try_for_each(|folder| sync_dir(folder).map_err(|error| WalkError::Unpacked(folder.clone(), error)))
    });
    synced.map_err(|error| {
        let reason = match error {
            WalkError::Archive(error) => format!("cannot be unpacked: {}; download it again", printable(&error)),
            WalkError::Outside(path) => format!("cannot be unpacked: {}", outside(&path)),
            WalkError::Bomb => format!("cannot be unpacked: {}", bomb()),
            WalkError::Unpacked(target, error) => format!(
                "cannot be unpacked next to the archive: {}: {error}; unpack it with tar -xjf where there is enough space, and use that folder",
                target.display()
            ),
        };
        CheckpointError::Archive { path: archive.to_owned(), reason }
    })
}

/// Errors of reading an archive member by member.
enum WalkError {
    /// The archive cannot be read.
    Archive(io::Error),
    /// The path of a member leads out of the archive's folder.
    Outside(PathBuf),
    /// A member cannot be written to this path.
    Unpacked(PathBuf, io::Error),
    /// The archive is a decompression bomb.
    Bomb,
}

/// Copies the content of a member; `failed` converts errors of the written file. `may_write` gets the sizes of the parts.
fn copy(
    entry: &mut impl Read,
    file: &mut File,
    failed: impl Fn(io::Error) -> WalkError,
    mut may_write: impl FnMut(u64) -> bool,
) -> Result<(), WalkError> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match entry.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) if !may_write(read as u64) => return Err(WalkError::Bomb),
            Ok(read) => file.write_all(&buffer[..read]).map_err(&failed)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(WalkError::Archive(error)),
        }
    }
}

fn outside(path: &Path) -> String {
    format!("its member '{}' leads out of the archive's folder", path.display())
}

/// Decompresses an archive, and fails if it is a decompression bomb.
struct Decoder<'p> {
    packed: MultiBzDecoder<BufReader<Counted<'p>>>,
    decompressed: u64,
    is_bomb: Rc<Cell<bool>>,
}

impl Read for Decoder<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.packed.read(buffer)?;
        self.decompressed += read as u64;
        if is_bomb(self.decompressed, self.packed.get_ref().get_ref().bytes) {
            self.is_bomb.set(true);
            return Err(bomb());
        }
        Ok(read)
    }
}

/// Calls `visit` for each member. Reads to the end, where bzip2's checksum is, unless `visit` returns `Break`.
fn walk(
    archive: &Path,
    doing: &str,
    progress: &dyn Progress,
    mut visit: impl FnMut(&Path, &mut Entry<'_, Decoder<'_>>) -> Result<ControlFlow<()>, WalkError>,
) -> Result<(), WalkError> {
    let file = File::open(archive).map_err(WalkError::Archive)?;
    let size = file.metadata().map_err(WalkError::Archive)?.len();
    let name = archive.file_name().unwrap_or_default().display();
    progress.begin(&format!("{doing} {name}"), size, Unit::Bytes);
    let packed = MultiBzDecoder::new(BufReader::with_capacity(BUFFER_BYTES, Counted { file, bytes: 0, progress }));
    let is_bomb = Rc::new(Cell::new(false));
    let mut members = tar::Archive::new(Decoder { packed, decompressed: 0, is_bomb: Rc::clone(&is_bomb) });
    let visited = visit_members(&mut members, &mut visit);
    let walked = visited.and_then(|flow| match flow {
        ControlFlow::Break(()) => Ok(()),
        ControlFlow::Continue(()) => io::copy(&mut members.into_inner(), &mut io::sink()).map(drop).map_err(WalkError::Archive),
    });
    progress.end();
    if is_bomb.get() { Err(WalkError::Bomb) } else { walked }
}

fn visit_members<'p>(
    members: &mut tar::Archive<Decoder<'p>>,
    visit: &mut impl FnMut(&Path, &mut Entry<'_, Decoder<'p>>) -> Result<ControlFlow<()>, WalkError>,
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

/// Returns the path of a member without `.`; rejects paths with `..` and absolute ones.
fn inner_path(entry: &Entry<'_, Decoder<'_>>) -> Result<PathBuf, WalkError> {
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

/// Text of an error in one line: errors of damaged archives contain bytes of the archive.
fn printable(error: &io::Error) -> String {
    let mut text: String = error.to_string().chars().take(120).collect();
    text.retain(|character| !character.is_control() && character != char::REPLACEMENT_CHARACTER);
    text
}

/// Returns the folder at the top of an archive, according to its first member.
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
            Err(fault(format!("is not a valid tar.bz2 archive: {}; download it again", printable(&error))))
        }
        (None, Err(WalkError::Outside(path))) => Err(fault(format!("cannot be unpacked: {}", outside(&path)))),
        (None, Err(WalkError::Bomb)) => Err(fault(format!("cannot be unpacked: {}", bomb()))),
        (None, _) => Err(fault("has no folder at its top; unpack it with tar -xjf and use the folder".to_owned())),
    }
}

/// Counts the bytes read from a file, and reports them as progress.
struct Counted<'p> {
    file: File,
    bytes: u64,
    progress: &'p dyn Progress,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.bytes += read as u64;
        self.progress.advance(read as u64);
        Ok(read)
    }
}

fn io_error(doing: &'static str, path: &Path, source: io::Error) -> CheckpointError {
    CheckpointError::Io { doing, path: path.to_owned(), source }
}
