//! Compressed files, unpacked as they are read. What a file is shows in its first bytes, whatever its name.

use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Read};
use std::rc::Rc;

use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::MultiGzDecoder;

const BUFFER_BYTES: usize = 256 << 10;
/// Below this a file is never taken for a decompression bomb: a small file of one letter over and over packs as well as any.
pub(super) const HARMLESS_BYTES: u64 = 64 << 20;
/// Text packs 3 to 20 times smaller; beyond this a file is made to fill disks.
pub(super) const MAX_RATIO: u64 = 250;

/// Whether so many bytes from so few are refused.
pub(super) fn is_bomb(unpacked: u64, packed: u64) -> bool {
    unpacked > HARMLESS_BYTES && unpacked / MAX_RATIO > packed
}

/// Unpacks `file` if it is gzip, Zstandard or bzip2, and gives it as it is otherwise.
///
/// # Errors
/// Where it cannot be read. The reader fails where the packed data is damaged or incomplete, or where it unpacks to more than
/// 250 times its size (beyond 64 MiB).
pub fn unpacked<'a>(file: impl Read + 'a) -> io::Result<Box<dyn BufRead + 'a>> {
    let packed = Rc::new(Cell::new(0));
    let mut file = BufReader::with_capacity(BUFFER_BYTES, Counted { file, count: Rc::clone(&packed) });
    let head = fill(&mut file)?;
    let unpacked: Box<dyn Read + 'a> = match head {
        [0x1f, 0x8b, ..] => Box::new(MultiGzDecoder::new(file)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(zstd::Decoder::with_buffer(file)?),
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => Box::new(MultiBzDecoder::new(file)),
        _ => return Ok(Box::new(file)),
    };
    let guarded = Guarded { file: unpacked, packed, unpacked: 0 };
    Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, guarded)))
}

/// The bytes that are in the buffer, at least one unless the file is empty; a signal is no reason to fail.
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

/// Refuses to unpack a bomb, and says in words what a decoder says in terms of its format.
struct Guarded<'a> {
    file: Box<dyn Read + 'a>,
    packed: Rc<Cell<u64>>,
    unpacked: u64,
}

impl Read for Guarded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::Interrupted => error,
            kind => io::Error::new(kind, format!("the packed data is damaged or incomplete ({error}); fetch it again")),
        })?;
        self.unpacked += read as u64;
        if is_bomb(self.unpacked, self.packed.get()) {
            return Err(bomb());
        }
        Ok(read)
    }
}

/// The error of a file that unpacks to too much.
pub(super) fn bomb() -> io::Error {
    let reason = format!(
        "it unpacks to more than {MAX_RATIO} times its size, as a decompression bomb does; unpack it by hand if it is sound"
    );
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn packed(content: &[u8]) -> Vec<Vec<u8>> {
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
    fn what_was_packed_comes_out_also_in_several_pieces() {
        let content = b"{\"a\": 1}\n".repeat(1000);
        for one in packed(&content) {
            assert_eq!(read(&one).expect("unpacked"), content);
            assert_eq!(read(&[one.as_slice(), &one].concat()).expect("unpacked"), content.repeat(2));
        }
        assert_eq!(read(b"").expect("nothing"), b"");
    }

    #[test]
    fn a_packed_file_that_ends_early_is_named_so() {
        for one in &packed(&b"some text that packs".repeat(999))[1..] {
            let error = read(&one[..one.len() - 9]).expect_err("cut").to_string();
            assert!(error.starts_with("the packed data is damaged or incomplete ("), "{error}");
        }
    }

    #[test]
    fn a_bomb_is_refused_before_it_fills_anything() {
        let zeros = vec![0; HARMLESS_BYTES as usize + (1 << 20)];
        for one in &packed(&zeros)[1..] {
            assert!((one.len() as u64) < HARMLESS_BYTES / MAX_RATIO, "{}", one.len());
            let mut file = unpacked(one.as_slice()).expect("open");
            let error = io::copy(&mut file, &mut io::sink()).expect_err("a bomb").to_string();
            assert!(error.starts_with("it unpacks to more than 250 times its size"), "{error}");
        }
    }
}
