//! Errors of process groups and the store.

use std::fmt::{self, Display};

use tch::TchError;

/// The reason why this build supports a single process only, with a remedy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unavailable;

/// Set by the build script if Gloo is not available.
const NO_GLOO: Option<&str> = option_env!("LIBTORCH_EXT_NO_GLOO");

impl Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this build is for a single process, because ")?;
        f.write_str(NO_GLOO.unwrap_or("it lacks gloo"))
    }
}

impl std::error::Error for Unavailable {}

/// Checks that this build can create a [`ProcessGroup`](super::ProcessGroup).
///
/// # Errors
/// [`Unavailable`] if it cannot.
pub fn available() -> Result<(), Unavailable> {
    match NO_GLOO {
        None => Ok(()),
        Some(_) => Err(Unavailable),
    }
}

/// Prefixes the message of an error with the action that failed.
pub(super) fn with_context<T>(result: Result<T, TchError>, action: impl FnOnce() -> String) -> Result<T, TchError> {
    result.map_err(|error| match error {
        TchError::Torch(text) => error_message(format!("{}: {text}", action())),
        other => error_message(format!("{}: {other}", action())),
    })
}

/// Creates an error with this message.
pub(super) fn error_message(text: String) -> TchError {
    TchError::Torch(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tests of process groups are skipped in a build without Gloo, so such a build must be intended.
    #[test]
    fn gloo_is_missing_only_if_requested() {
        if let Err(unavailable) = available() {
            let text = unavailable.to_string();
            assert!(text.contains("because GLM_WITHOUT_GLOO was set") && text.contains("unset it"), "{text}");
        }
    }
}
