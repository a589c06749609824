//! Decompression of files while they are read; the first bytes of a file show its compression.

use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Read};
use std::rc::Rc;

use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::MultiGzDecoder;
use glm_support::files::bomb::{bomb, is_bomb};

const BUFFER_BYTES: usize = 256 << 10;

/// Returns a reader that decompresses `file` if it is gzip, Zstandard or bzip2, and reads it unchanged otherwise.
///
/// # Errors
/// If the file cannot be read. The reader fails if the compressed data is damaged or truncated, or if it decompresses to more than
/// 250 times its size (and more than 64 MiB).
pub fn unpacked<'a>(file: impl Read + 'a) -> io::Result<Box<dyn BufRead + 'a>> {
    let compressed = Rc::new(Cell::new(0));
    let mut file = BufReader::with_capacity(BUFFER_BYTES, Counted { file, count: Rc::clone(&compressed) });
    let head = fill(&mut file)?;
    let decoder: Box<dyn Read + 'a> = match head {
        [0x1f, 0x8b, ..] => Box::new(MultiGzDecoder::new(file)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(zstd::Decoder::with_buffer(file)?),
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => Box::new(MultiBzDecoder::new(file)),
        _ => return Ok(Box::new(file)),
    };
    let guarded = Guarded { decoder, compressed, decompressed: 0 };
    Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, guarded)))
}

/// Returns the buffered bytes, at least one unless the file has ended. Retries after signals.
pub(crate) fn fill(file: &mut (impl BufRead + ?Sized)) -> io::Result<&[u8]> {
    loop {
        match file.fill_buf() {
            Ok(_) => break,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    file.fill_buf()
}

struct Counted<R> {
    file: R,
    count: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.count.set(self.count.get() + read as u64);
        Ok(read)
    }
}

/// Reader that rejects decompression bombs and explains errors of the decoder.
struct Guarded<'a> {
    decoder: Box<dyn Read + 'a>,
    compressed: Rc<Cell<u64>>,
    decompressed: u64,
}

impl Read for Guarded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.decoder.read(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::Interrupted => error,
            kind => io::Error::new(kind, format!("the compressed data is damaged or incomplete ({error}); fetch it again")),
        })?;
        self.decompressed += read as u64;
        if is_bomb(self.decompressed, self.compressed.get()) {
            return Err(bomb());
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use glm_support::files::bomb::{HARMLESS_BYTES, MAX_RATIO};

    use super::*;

    fn compressed(content: &[u8]) -> Vec<Vec<u8>> {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gzip.write_all(content).expect("gzip");
        let mut bzip = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
        bzip.write_all(content).expect("bzip2");
        vec![
            content.to_vec(),
            gzip.finish().expect("gzip"),
            zstd::encode_all(content, 3).expect("zstd"),
            bzip.finish().expect("bzip2"),
        ]
    }

    fn read(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        unpacked(bytes)?.read_to_end(&mut content)?;
        Ok(content)
    }

    #[test]
    fn content_is_restored_also_from_several_streams() {
        let content = b"{\"a\": 1}\n".repeat(1000);
        for one in compressed(&content) {
            assert_eq!(read(&one).expect("decompressed"), content);
            assert_eq!(read(&[one.as_slice(), &one].concat()).expect("decompressed"), content.repeat(2));
        }
        assert_eq!(read(b"").expect("empty"), b"");
    }

    #[test]
    fn truncated_data_is_an_error() {
        for one in &compressed(&b"some text to compress".repeat(999))[1..] {
            let error = read(&one[..one.len() - 9]).expect_err("cut").to_string();
            assert!(error.starts_with("the compressed data is damaged or incomplete ("), "{error}");
        }
    }

    #[test]
    fn a_bomb_is_rejected_early() {
        let zeros = vec![0; HARMLESS_BYTES as usize + (1 << 20)];
        for one in &compressed(&zeros)[1..] {
            assert!((one.len() as u64) < HARMLESS_BYTES / MAX_RATIO, "{}", one.len());
            let mut file = unpacked(one.as_slice()).expect("open");
            let error = io::copy(&mut file, &mut io::sink()).expect_err("a bomb").to_string();
            assert!(error.starts_with("it decompresses to more than 250 times its size"), "{error}");
        }
    }
}
