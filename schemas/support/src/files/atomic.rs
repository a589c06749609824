//! Writing that is all or nothing: under another name, to the disk, then renamed.

use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, Write};
use std::path::{Path, PathBuf};

/// Larger pieces cost fewer calls; the weights of a model come in pieces that are larger still.
const BUFFER_BYTES: usize = 1 << 20;

/// Where [`write()`] writes to.
pub trait Sink: Write + Seek {}

impl<T: Write + Seek> Sink for T {}

/// Writes a file with what `fill` puts into it. Where that fails nothing is left, and a file that was there stays what it was.
/// `E` is what `fill` fails with.
///
/// # Errors
/// What `fill` or the file system says.
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// let path = folder.path().join("latest");
/// glm_support::files::atomic::write(&path, |file| file.write_all(b"step-00000600"))?;
/// assert_eq!(std::fs::read(&path)?, b"step-00000600");
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn write<E: From<io::Error>>(path: &Path, fill: impl FnOnce(&mut dyn Sink) -> Result<(), E>) -> Result<(), E> {
    let temporary = temporary_name(path);
    let written = File::create(&temporary).map_err(E::from).and_then(|file| {
        let mut file = BufWriter::with_capacity(BUFFER_BYTES, file);
        fill(&mut file)?;
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        fs::rename(&temporary, path)?;
        Ok(())
    });
    if written.is_err() {
        // The first error is the one to tell of.
        let _ = fs::remove_file(&temporary);
        return written;
    }
    sync_folder(path.parent().unwrap_or(Path::new("")))?;
    Ok(())
}

/// Beside the file, so that the name can be changed at once; of this process, so that two do not write into one.
fn temporary_name(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    path.with_file_name(name)
}

/// Brings the names in a folder to the disk; the empty path is the current folder.
///
/// # Errors
/// What the file system says.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(if path.as_os_str().is_empty() { Path::new(".") } else { path })?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_leaves_what_was_there() {
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
}
