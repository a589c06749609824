//! Advisory file locks that degrade gracefully on file systems without locking.

use std::fs::{File, TryLockError};
use std::io;

use rustix::io::Errno;

/// Tries to lock `file` exclusively without blocking.
///
/// Returns false if another process (or another handle in this process) holds the lock. Returns true if the lock was acquired,
/// and also if the file system does not support locks: callers then proceed without mutual exclusion. The lock is released when
/// `file` is closed, at the latest when the process ends.
///
/// # Errors
/// Any other error of the system call.
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("lock");
/// use glm_support::files::lock::try_lock;
///
/// let first = std::fs::File::create(&path)?;
/// let second = std::fs::File::open(&path)?;
/// assert!(try_lock(&first)?);
/// assert!(!try_lock(&second)?);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn try_lock(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) if is_unsupported(&error) => {
            tracing::debug!("the file system does not support locks ({error}); continuing without one");
            Ok(true)
        }
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Waits for an exclusive lock of `file`, or a shared one. As [`try_lock`], returns without a lock on file systems that have none.
///
/// # Errors
/// Any other error of the system call.
pub fn wait_for_lock(file: &File, shared: bool) -> io::Result<()> {
    match if shared { file.lock_shared() } else { file.lock() } {
        Err(error) if is_unsupported(&error) => {
            tracing::debug!("the file system does not support locks ({error}); continuing without one");
            Ok(())
        }
        outcome => outcome,
    }
}

/// NFS maps `flock` to POSIX locks: without a lock service it answers `ENOLCK`, and `EBADF` for a directory, which cannot be
/// opened for writing. Some FUSE file systems answer `EINVAL`.
fn is_unsupported(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Unsupported
        || [Errno::NOLCK, Errno::BADF, Errno::INVAL].map(|errno| Some(errno.raw_os_error())).contains(&error.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_lock_support_is_recognised() {
        for errno in [Errno::NOSYS, Errno::OPNOTSUPP, Errno::NOLCK, Errno::BADF, Errno::INVAL] {
            assert!(is_unsupported(&errno.into()), "{errno}");
        }
        for errno in [Errno::IO, Errno::ACCESS, Errno::STALE] {
            assert!(!is_unsupported(&errno.into()), "{errno}");
        }
    }

    #[test]
    fn closing_the_file_releases_the_lock() {
        let folder = tempfile::tempdir().expect("folder");
        let open = || File::open(folder.path()).expect("open");
        let first = open();
        assert!(try_lock(&first).expect("lock"));
        assert!(!try_lock(&open()).expect("lock"));
        drop(first);
        assert!(try_lock(&open()).expect("lock"));
    }
}
