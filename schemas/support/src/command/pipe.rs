//! Detection of a closed output pipe.

use std::error::Error;
use std::io;

/// Returns true if `error` or one of its sources is a broken pipe: the reader of the output has exited, as `head` does, and the
/// program should end quietly.
///
/// ```
/// use glm_support::command::pipe::is_broken_pipe;
///
/// let error = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
/// assert!(is_broken_pipe(&error));
/// assert!(!is_broken_pipe(&std::fmt::Error));
/// ```
pub fn is_broken_pipe(error: &(dyn Error + 'static)) -> bool {
    std::iter::successors(Some(error), |&error| error.source())
        .filter_map(|error| error.downcast_ref::<io::Error>())
        .any(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
