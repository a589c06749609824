//! Numbers of at least 1 on the command line.

use std::num::NonZeroUsize;

/// Parses a number of at least 1, as a clap value parser whose errors are sentences.
///
/// # Errors
/// The rule that the text violates.
///
/// ```
/// use glm_support::command::positive::positive;
///
/// assert_eq!(positive("3").map(usize::from), Ok(3));
/// assert_eq!(positive("0"), Err("must be a whole number of at least 1".to_owned()));
/// ```
pub fn positive(text: &str) -> Result<NonZeroUsize, String> {
    text.parse().map_err(|_| "must be a whole number of at least 1".to_owned())
}
