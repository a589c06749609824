//! Destinations named by options like `--out`: standard output, a device or pipe, or a file.
//!
//! | path | effect |
//! | --- | --- |
//! | `-`, `/dev/stdout` | written to standard output |
//! | a device, FIFO or socket, `/dev/fd/N` | opened and written to, never replaced |
//! | a symlink | its target is used |
//! | a file, or nothing yet | replaced atomically, see [`atomic`] |
//! | a folder | an error |

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};
use thiserror::Error;

use super::atomic;

/// Name of standard output as an argument.
pub const STDOUT: &str = "-";
/// Longest chain of symlinks to follow, that of Linux.
const MAX_LINKS: usize = 40;
/// Number of the file descriptor of standard output.
const STDOUT_FD: &str = "1";
const BUFFER_BYTES: usize = 1 << 20;

/// Error of a destination.
#[derive(Debug, Error)]
pub enum OutputError {
    /// The path is a URL.
    #[error("cannot write {}: a local file is needed here; copy it to the object store afterwards", .0.display())]
    Url(PathBuf),
    /// The path is a folder.
    #[error("{} is a folder; specify a file, such as {}", .0.display(), .0.join("NAME").display())]
    Folder(PathBuf),
    /// The folder of the file does not exist.
    #[error("cannot write {}: folder {} does not exist", path.display(), folder.display())]
    NoFolder {
        /// The destination.
        path: PathBuf,
        /// The missing folder.
        folder: PathBuf,
    },
    /// A file is needed, and the path is something else.
    #[error("cannot write {}: it is {found}, but the output must be a file", path.display())]
    NotAFile {
        /// The destination.
        path: PathBuf,
        /// Kind of thing found there.
        found: &'static str,
    },
    /// The destination cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The destination.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
}

/// A destination that can be written: it was checked, and a device or pipe is open.
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("answers.jsonl");
/// glm_support::files::output::Output::open(&path)?.write_all(b"{\"idx\":0}\n")?;
/// assert_eq!(std::fs::read(&path)?, b"{\"idx\":0}\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Output {
    path: PathBuf,
    target: Target,
}

#[derive(Debug)]
enum Target {
    Stdout,
    File(PathBuf),
    Opened(File),
    Connected(UnixStream),
}

impl Output {
    /// Checks the destination; opens it if it is a device, FIFO or socket. A FIFO without a reader blocks, as in a shell.
    ///
    /// # Errors
    /// [`OutputError`] if the destination is a folder, or obviously cannot be written.
    pub fn open(path: &Path) -> Result<Self, OutputError> {
        let failed = |source| OutputError::Write { path: path.to_owned(), source };
        let target = match resolve(path)? {
            Place::Stdout => Target::Stdout,
            Place::File(file) => Target::File(file),
            // Appends, since the open file may have content already.
            Place::Descriptor(file) => Target::Opened(OpenOptions::new().append(true).open(file).map_err(failed)?),
            Place::Special(file, "a socket") => Target::Connected(UnixStream::connect(file).map_err(failed)?),
            Place::Special(file, _) => Target::Opened(OpenOptions::new().write(true).open(file).map_err(failed)?),
        };
        Ok(Self { path: path.to_owned(), target })
    }

    /// Returns true if this is standard output, so that nothing else may be printed there.
    pub fn is_stdout(&self) -> bool {
        matches!(self.target, Target::Stdout)
    }

    /// Returns true if both are standard output, or the same file.
    pub fn is_same(&self, other: &Self) -> bool {
        match (&self.target, &other.target) {
            (Target::Stdout, Target::Stdout) => true,
            (Target::File(one), Target::File(other)) => one == other,
            _ => false,
        }
    }

    /// Writes what `fill` produces, all at once: a file keeps its content if that fails.
    ///
    /// # Errors
    /// Errors of `fill` and of the system; [`Self::error`] adds the path to the latter.
    pub fn write<E: From<io::Error>>(&mut self, fill: impl FnOnce(&mut dyn Write) -> Result<(), E>) -> Result<(), E> {
        let mut stdout;
        let target: &mut dyn Write = match &mut self.target {
            Target::File(path) => return atomic::write(path, |file| fill(file)),
            Target::Stdout => {
                stdout = io::stdout().lock();
                &mut stdout
            }
            Target::Opened(file) => file,
            Target::Connected(socket) => socket,
        };
        let mut target = BufWriter::with_capacity(BUFFER_BYTES, target);
        fill(&mut target)?;
        Ok(target.flush()?)
    }

    /// Writes bytes.
    ///
    /// # Errors
    /// [`OutputError::Write`].
    pub fn write_all(&mut self, bytes: &[u8]) -> Result<(), OutputError> {
        self.write(|target| target.write_all(bytes)).map_err(|source| self.error(source))
    }

    /// Returns the error of a failed [`Self::write`] with the path.
    pub fn error(&self, source: io::Error) -> OutputError {
        OutputError::Write { path: self.path.clone(), source }
    }
}

/// Returns true if the path is standard output, so that nothing else may be printed there.
pub fn is_stdout(path: &Path) -> bool {
    matches!(resolve(path), Ok(Place::Stdout))
}

/// Returns the file at `path`, which [`atomic`] can replace: the path itself, or the target of a symlink. Useful for
/// formats that must be written to a file, and for the files of a folder.
///
/// # Errors
/// [`OutputError`] if the path is anything but a file in an existing folder.
pub fn file(path: &Path) -> Result<PathBuf, OutputError> {
    let found = match resolve(path)? {
        Place::File(file) => return Ok(file),
        Place::Stdout => "standard output",
        Place::Descriptor(_) => "an open file descriptor",
        Place::Special(_, found) => found,
    };
    Err(OutputError::NotAFile { path: path.to_owned(), found })
}

/// Returns true if a path given by the user is a URL, `SCHEME://…`.
pub fn is_url(path: &Path) -> bool {
    let scheme = path.to_str().and_then(|text| text.split_once("://")).map(|(scheme, _)| scheme);
    scheme.is_some_and(|scheme| !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+'))
}

/// Checks that a destination is not a URL.
///
/// # Errors
/// [`OutputError::Url`].
pub fn check_local(path: &Path) -> Result<(), OutputError> {
    if is_url(path) { Err(OutputError::Url(path.to_owned())) } else { Ok(()) }
}

/// Kind of destination at a path.
enum Place {
    Stdout,
    /// A file, which may not exist yet.
    File(PathBuf),
    /// An open file of this process, as `/proc/self/fd/N`.
    Descriptor(PathBuf),
    /// Anything else that can be written to, with its name.
    Special(PathBuf, &'static str),
}

fn resolve(path: &Path) -> Result<Place, OutputError> {
    if path == Path::new(STDOUT) {
        return Ok(Place::Stdout);
    }
    if path.as_os_str().is_empty() {
        return Err(OutputError::Folder(PathBuf::from(".")));
    }
    check_local(path)?;
    let failed = |source| OutputError::Write { path: path.to_owned(), source };
    let mut place = path.to_owned();
    for _ in 0..MAX_LINKS {
        let folder = place.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned();
        if is_of_descriptors(&folder) {
            return Ok(match place.file_name() {
                Some(number) if number == STDOUT_FD => Place::Stdout,
                _ => Place::Descriptor(place),
            });
        }
        let found = match fs::symlink_metadata(&place) {
            Ok(found) => found.file_type(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if place.file_name().is_none() || place.as_os_str().as_bytes().ends_with(b"/") {
                    return Err(OutputError::Folder(path.to_owned()));
                }
                if !folder.exists() {
                    return Err(OutputError::NoFolder { path: path.to_owned(), folder });
                }
                return writable(&folder).map(|()| Place::File(place)).map_err(failed);
            }
            Err(error) => return Err(failed(error)),
        };
        if found.is_symlink() {
            let target = fs::read_link(&place).map_err(failed)?;
            place = folder.join(target);
            continue;
        }
        return match found {
            _ if found.is_dir() => Err(OutputError::Folder(path.to_owned())),
            _ if found.is_char_device() || found.is_block_device() => Ok(Place::Special(place, "a device")),
            _ if found.is_fifo() => Ok(Place::Special(place, "a FIFO")),
            _ if found.is_socket() => Ok(Place::Special(place, "a socket")),
            _ => writable(&folder).map(|()| Place::File(place)).map_err(failed),
        };
    }
    Err(failed(rustix::io::Errno::LOOP.into()))
}

/// Returns true if the entries of `folder` are the open files of this process: `/dev/fd`, `/proc/self/fd`.
fn is_of_descriptors(folder: &Path) -> bool {
    let own = [Path::new("/proc/self/fd"), Path::new("/proc/thread-self/fd")];
    let Ok(folder) = folder.canonicalize() else { return false };
    folder.ends_with("fd") && own.iter().any(|own| own.canonicalize().is_ok_and(|own| own == folder))
}

/// Checks that files can be created in a folder.
fn writable(folder: &Path) -> io::Result<()> {
    Ok(access(folder, Access::WRITE_OK | Access::EXEC_OK)?)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    fn write(path: &Path, text: &str) -> Result<(), OutputError> {
        Output::open(path)?.write_all(text.as_bytes())
    }

    fn fifo(path: &Path) {
        mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("FIFO");
    }

    #[test]
    fn links_are_followed_and_kept() {
        let folder = tempfile::tempdir().expect("folder");
        let [target, link, second, dangling] = ["target", "link", "second", "dangling"].map(|name| folder.path().join(name));
        fs::write(&target, "old").expect("write");
        symlink("target", &link).expect("link");
        symlink(&link, &second).expect("link");
        symlink("not yet", &dangling).expect("link");
        write(&second, "new").expect("written");
        write(&dangling, "created").expect("written");
        for link in [&link, &second, &dangling] {
            assert!(fs::symlink_metadata(link).expect("metadata").is_symlink());
        }
        assert_eq!(fs::read_to_string(&target).expect("read"), "new");
        assert_eq!(fs::read_to_string(folder.path().join("not yet")).expect("read"), "created");
        assert_eq!(file(&second).expect("a file"), target);

        let [one, other] = ["one", "other"].map(|name| folder.path().join(name));
        symlink(&one, &other).expect("link");
        symlink(&other, &one).expect("link");
        assert!(write(&one, "").expect_err("endless").to_string().contains("symbolic links"));
    }

    #[test]
    fn urls_are_refused() {
        for url in ["s3://bucket/answers.jsonl", "https://host/x"] {
            let refused = write(Path::new(url), "").expect_err("refused").to_string();
            assert!(refused.starts_with(&format!("cannot write {url}: a local file is needed here")), "{refused}");
        }
        assert!(!Path::new("s3:").exists());
        assert!(!is_url(Path::new("a/s3://b")) && !is_url(Path::new("://x")));
    }

    #[test]
    fn devices_and_pipes_are_written_to_and_kept() {
        let full = write(Path::new("/dev/full"), "text").expect_err("full");
        assert_eq!(full.to_string(), "cannot write /dev/full: No space left on device (os error 28)");
        write(Path::new("/dev/null"), "text").expect("written");
        for device in ["/dev/full", "/dev/null"] {
            assert!(fs::symlink_metadata(device).expect("metadata").file_type().is_char_device(), "{device}");
        }

        let folder = tempfile::tempdir().expect("folder");
        let pipe = folder.path().join("pipe");
        fifo(&pipe);
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || fs::read_to_string(pipe).expect("read")
        });
        write(&pipe, "through the pipe").expect("written");
        assert_eq!(reader.join().expect("reader"), "through the pipe");
        assert!(fs::symlink_metadata(&pipe).expect("metadata").file_type().is_fifo());
        let refused = file(&pipe).expect_err("no file").to_string();
        assert!(refused.ends_with("it is a FIFO, but the output must be a file"), "{refused}");

        let socket = folder.path().join("socket");
        let listener = UnixListener::bind(&socket).expect("socket");
        write(&socket, "through the socket").expect("written");
        let mut text = String::new();
        listener.accept().expect("connection").0.read_to_string(&mut text).expect("read");
        assert_eq!(text, "through the socket");
    }

    #[test]
    fn open_descriptors_are_appended_to() {
        use std::os::fd::AsRawFd;

        let mut opened = tempfile::tempfile().expect("file");
        opened.write_all(b"before ").expect("write");
        write(Path::new(&format!("/dev/fd/{}", opened.as_raw_fd())), "after").expect("written");
        let mut text = String::new();
        io::Seek::rewind(&mut opened).expect("seek");
        opened.read_to_string(&mut text).expect("read");
        assert_eq!(text, "before after");
        assert!(write(Path::new("/dev/fd/987654"), "").is_err());
    }

    #[test]
    fn standard_output_has_several_names() {
        let open = |path: &str| Output::open(Path::new(path)).expect("open");
        for path in ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"] {
            assert!(is_stdout(Path::new(path)) && open(path).is_stdout(), "{path}");
            assert!(open(path).is_same(&open("-")));
        }
        assert!(!is_stdout(Path::new("./-")) && !is_stdout(Path::new("/dev/null")));
    }

    #[test]
    fn a_replaced_file_keeps_its_permissions() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("private");
        fs::write(&path, "old").expect("write");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("chmod");
        let before = fs::metadata(&path).expect("metadata");
        write(&path, "new").expect("written");
        let after = fs::metadata(&path).expect("metadata");
        assert_eq!((after.mode() & 0o777, after.uid()), (0o600, before.uid()));
        assert_ne!(after.ino(), before.ino(), "replaced, not rewritten");
    }

    #[test]
    fn folders_are_refused() {
        let folder = tempfile::tempdir().expect("folder");
        let shown = folder.path().display();
        let error = |path: &Path| Output::open(path).expect_err("refused").to_string();
        let is_folder = format!("{shown} is a folder; specify a file, such as {shown}/NAME");
        assert_eq!(error(folder.path()), is_folder);
        assert!(error(&folder.path().join("new/")).contains("new/ is a folder; specify a file"));
        assert!(error(Path::new("")).contains("is a folder"));
        let missing = folder.path().join("no/such");
        assert_eq!(error(&missing), format!("cannot write {shown}/no/such: folder {shown}/no does not exist"));
    }
}
