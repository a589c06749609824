//! Size and sha256 of a stream.

use std::io::{self, Read};

use glm_schemas::manifest::hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

const READ_BYTES: usize = 1 << 20;

/// Size and checksum of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileDigest {
    /// Size in bytes.
    pub bytes: u64,
    /// sha256 of the content, as lower-case hexadecimal digits.
    pub sha256: String,
}

/// Reads to the end and computes size and checksum.
///
/// # Errors
/// Errors of the reader; interrupted reads are retried.
pub fn digest(mut file: impl Read) -> io::Result<FileDigest> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; READ_BYTES];
    let mut bytes = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(FileDigest { bytes, sha256: hex(&hash.finalize()) }),
            Ok(read) => {
                hash.update(&buffer[..read]);
                bytes += read as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_bytes_are_hashed() {
        let nothing = digest(io::empty()).expect("read");
        assert_eq!((nothing.bytes, &nothing.sha256[..8]), (0, "e3b0c442"));
        let long = vec![7; READ_BYTES + 1];
        let found = digest(long.as_slice()).expect("read");
        assert_eq!((found.bytes, found.sha256), (long.len() as u64, hex(&Sha256::digest(&long))));
    }
}
