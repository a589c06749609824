//! Limit on the decompressed size of files, against decompression bombs.

use std::io;

/// Decompressed size below which no file counts as a decompression bomb; small repetitive files compress very well.
pub const HARMLESS_BYTES: u64 = 64 << 20;
/// Maximum compression ratio. Text has a ratio of 3 to 20, weights one of 1 to 2.
pub const MAX_RATIO: u64 = 250;

/// Returns true if the sizes are those of a decompression bomb.
///
/// ```
/// use glm_support::files::bomb::is_bomb;
///
/// assert!(is_bomb(1 << 30, 877));
/// assert!(!is_bomb(1 << 20, 877) && !is_bomb(1 << 30, 1 << 28));
/// ```
#[must_use]
pub fn is_bomb(decompressed: u64, compressed: u64) -> bool {
    decompressed > HARMLESS_BYTES && decompressed / MAX_RATIO > compressed
}

/// Returns the error for a decompression bomb.
#[must_use]
pub fn bomb() -> io::Error {
    let reason = format!(
        "it decompresses to more than {MAX_RATIO} times its size, like a decompression bomb; decompress it by hand if you trust it"
    );
    io::Error::new(io::ErrorKind::InvalidData, reason)
}
