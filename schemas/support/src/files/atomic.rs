//! Atomic file writes: write to a temporary name, sync to disk, rename.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Seek, Write};
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};

/// Small writes are collected up to this size; tensors are larger and pass through.
const BUFFER_BYTES: usize = 1 << 20;

/// Destination of [`write()`]: a buffered, seekable file.
pub trait Sink: Write + Seek {}

impl<T: Write + Seek> Sink for T {}

/// Writes a file atomically; `fill` produces its content. On failure an existing file at `path` stays unchanged and no temporary
/// file remains.
///
/// # Errors
/// Errors of `fill` and of the file system.
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// let path = folder.path().join("latest");
/// glm_support::files::atomic::write(&path, |file| file.write_all(b"step-00000600"))?;
/// assert_eq!(std::fs::read(&path)?, b"step-00000600");
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn write<E: From<io::Error>>(path: &Path, fill: impl FnOnce(&mut dyn Sink) -> Result<(), E>) -> Result<(), E> {
    let mut file = BufWriter::with_capacity(BUFFER_BYTES, Draft::create(path)?);
    fill(&mut file)?;
    file.into_inner().map_err(io::IntoInnerError::into_error)?.publish()?;
    Ok(())
}

/// A file under a temporary name, removed when dropped unless it was published. Useful where [`write()`] does not fit: the file is
/// written over the lifetime of a value, or several files must be complete before any of them gets its name.
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("metrics.jsonl");
/// use std::io::Write;
///
/// let mut draft = glm_support::files::atomic::Draft::create(&path)?;
/// draft.write_all(b"{\"step\":1}\n")?;
/// assert!(!path.exists());
/// let mut file = draft.publish()?;
/// file.write_all(b"{\"step\":2}\n")?;
/// assert_eq!(std::fs::read(&path)?, b"{\"step\":1}\n{\"step\":2}\n");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Draft {
    file: File,
    temporary: TemporaryFile,
    path: PathBuf,
}

impl Draft {
    /// Creates the temporary file next to `path`, as `NAME.PID.tmp`, with the owner and permissions of a file at `path`, and locks it,
    /// so that [`remove_leftovers`] keeps it.
    ///
    /// # Errors
    /// Errors of the file system.
    pub fn create(path: &Path) -> io::Result<Self> {
        // In the same folder, as a rename cannot cross file systems; with the process id, as processes must not share the file.
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.tmp", std::process::id()));
        let temporary = path.with_file_name(name);
        let file = File::create(&temporary)?;
        // Without a lock, as on file systems that have none, the file is written as well.
        let _ = file.try_lock();
        let temporary = TemporaryFile(temporary);
        if let Some(replaced) = fs::metadata(path).ok().filter(fs::Metadata::is_file) {
            // Only root may give files away; the content is the same whoever owns it.
            let _ = fchown(&file, Some(replaced.uid()), Some(replaced.gid()));
            file.set_permissions(replaced.permissions())?;
        }
        Ok(Self { file, temporary, path: path.to_owned() })
    }

    /// Syncs the content to disk, renames the file to its final name, syncs the folder and returns the open file.
    ///
    /// # Errors
    /// Errors of the file system.
    pub fn publish(self) -> io::Result<File> {
        let Self { file, mut temporary, path } = self;
        file.sync_all()?;
        fs::rename(&temporary.0, &path)?;
        temporary.0.clear();
        sync_dir(path.parent().unwrap_or(Path::new("")))?;
        let _ = file.unlock();
        Ok(file)
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Draft {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// Removes the file at its path when dropped; the path is empty after the file was renamed.
#[derive(Debug)]
struct TemporaryFile(PathBuf);

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        if !self.0.as_os_str().is_empty() {
            // This happens while another error is reported; a failure to remove the file adds nothing to it.
            let _ = fs::remove_file(&self.0);
        }
    }
}

/// Removes the temporary files that killed processes left in a folder. Files that a process still writes are locked and kept; on file
/// systems without locks all are kept.
///
/// # Errors
/// Errors of the file system; none if the folder does not exist.
pub fn remove_leftovers(folder: &Path) -> io::Result<()> {
    remove_matching(folder, |_| true)
}

/// As [`remove_leftovers`], for the temporary files of the file `path` only.
///
/// # Errors
/// As [`remove_leftovers`].
pub fn remove_leftovers_of(path: &Path) -> io::Result<()> {
    remove_matching(path.parent().unwrap_or(Path::new("")), |name| Some(OsStr::new(name)) == path.file_name())
}

fn remove_matching(folder: &Path, matches: impl Fn(&str) -> bool) -> io::Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let is_left = name.to_str().and_then(final_name).is_some_and(&matches) && entry.file_type()?.is_file();
        // The lock of a process that ended is released.
        if is_left && OpenOptions::new().write(true).open(entry.path()).is_ok_and(|file| file.try_lock().is_ok()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Returns `NAME` for the name of a temporary file, `NAME.PID.tmp`.
fn final_name(temporary: &str) -> Option<&str> {
    let (name, process) = temporary.strip_suffix(".tmp")?.rsplit_once('.')?;
    (!process.is_empty() && process.bytes().all(|byte| byte.is_ascii_digit())).then_some(name)
}

/// Syncs a folder to disk, so that renames and new files in it survive a crash. The empty path is the current folder.
///
/// # Errors
/// Errors of the file system.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(if path.as_os_str().is_empty() { Path::new(".") } else { path })?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_keeps_the_existing_file() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("model");
        write(&path, |file| file.write_all(b"first")).expect("written");
        let failed = write(&path, |file| {
            file.write_all(b"second, ")?;
            Err(io::Error::other("no more"))
        });
        assert_eq!(failed.expect_err("fails").to_string(), "no more");
        assert_eq!(fs::read(&path).expect("read"), b"first");
        assert_eq!(fs::read_dir(folder.path()).expect("list").count(), 1);
        assert!(write(&folder.path().join("no/such"), |_| Ok::<_, io::Error>(())).is_err());
    }

    #[test]
    fn files_of_killed_processes_are_removed() {
        let folder = tempfile::tempdir().expect("folder");
        let names = || {
            let entries = fs::read_dir(folder.path()).expect("list");
            let mut names: Vec<_> = entries.map(|entry| entry.expect("entry").file_name()).collect();
            names.sort();
            names
        };
        let writing = Draft::create(&folder.path().join("writing")).expect("created");
        let left = ["a.12.tmp", "b.c.34.tmp"];
        let others = ["a", "a.tmp", "a.x.tmp", "a..tmp", "a.12.tmp2"];
        for name in left.into_iter().chain(others) {
            fs::write(folder.path().join(name), "").expect("written");
        }
        fs::create_dir(folder.path().join("folder.1.tmp")).expect("folder");
        let all = names();
        remove_leftovers_of(&folder.path().join("b.c")).expect("removed");
        remove_leftovers_of(&folder.path().join("no/such")).expect("nothing to remove");
        assert_eq!(names(), all.iter().filter(|name| *name != "b.c.34.tmp").cloned().collect::<Vec<_>>());
        remove_leftovers(folder.path()).expect("removed");
        assert_eq!(names(), all.iter().filter(|name| !left.iter().any(|left| name == left)).cloned().collect::<Vec<_>>());
        writing.publish().expect("the file being written was kept");
        assert!(folder.path().join("writing").is_file());
    }

    #[test]
    fn an_unpublished_draft_is_removed() {
        let folder = tempfile::tempdir().expect("folder");
        let mut draft = Draft::create(&folder.path().join("part")).expect("created");
        draft.write_all(b"some").expect("written");
        assert_eq!(fs::read_dir(folder.path()).expect("list").count(), 1);
        drop(draft);
        assert_eq!(fs::read_dir(folder.path()).expect("list").count(), 0);
    }
}
