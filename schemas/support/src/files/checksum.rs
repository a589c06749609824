//! Size and sha256 of what is read.

use std::io::{self, Read};

use glm_schemas::manifest::hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

const READ_BYTES: usize = 1 << 20;

/// What a file was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileDigest {
    /// Its size.
    pub bytes: u64,
    /// sha256 of its content, in lower-case hexadecimal digits.
    pub sha256: String,
}

/// Reads to the end.
///
/// # Errors
/// What reading fails with; a signal is no reason to fail.
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
    fn all_of_it_counts() {
        let nothing = digest(io::empty()).expect("read");
        assert_eq!((nothing.bytes, &nothing.sha256[..8]), (0, "e3b0c442"));
        let long = vec![7; READ_BYTES + 1];
        let found = digest(long.as_slice()).expect("read");
        assert_eq!((found.bytes, found.sha256), (long.len() as u64, hex(&Sha256::digest(&long))));
    }
}
