//! Transfer in a program that was built without the feature `network`: always an error.

use std::fs::File;

use super::error::FetchError;
use super::options::FetchOptions;
use super::part::Files;
use crate::files::progress::Progress;

pub(super) fn download(options: &FetchOptions, _files: &Files, _progress: &dyn Progress) -> Result<(File, u64), FetchError> {
    Err(FetchError::Unsupported { url: options.url.clone() })
}
