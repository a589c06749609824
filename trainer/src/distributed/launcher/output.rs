//! Forwarding of the workers' output, with the rank as a prefix of each line.

use std::io::{self, BufRead, BufReader, Read, Write};

/// Maximum length of a line. Longer lines are split, to bound the launcher's memory.
const MAX_LINE_BYTES: u64 = 1 << 20;

/// Copies lines from `from` to `to` until end of file, each with the prefix `[rank N] `. A line is written with a single call,
/// so that lines of several workers do not mix. Bytes that are not valid UTF-8 are copied unchanged, and a missing final
/// newline is added.
pub(super) fn forward_lines(rank: usize, from: impl Read, mut to: impl Write) {
    let prefix = format!("[rank {rank}] ");
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    loop {
        line.clear();
        line.extend_from_slice(prefix.as_bytes());
        match from.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // Does not occur with pipes.
            Err(_) => return,
        }
        if line.last() != Some(&b'\n') {
            line.push(b'\n');
        }
        // Reading continues after a write error, because the worker would block on a full pipe.
        let _ignored = to.write_all(&line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forwarded(text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        forward_lines(3, text, &mut out);
        out
    }

    #[test]
    fn every_line_has_the_rank() {
        assert_eq!(forwarded(b"one\n\ntwo\n"), b"[rank 3] one\n[rank 3] \n[rank 3] two\n");
        assert_eq!(forwarded(b""), b"");
    }

    #[test]
    fn a_final_newline_is_added_and_bytes_are_unchanged() {
        assert_eq!(forwarded(b"\xff\0\xfe\nlast"), b"[rank 3] \xff\0\xfe\n[rank 3] last\n");
    }

    #[test]
    fn only_very_long_lines_are_split() {
        let long = [vec![b'x'; 300_000], b"\n".to_vec()].concat();
        assert_eq!(forwarded(&long), [b"[rank 3] ".as_slice(), &long].concat());
        let split = forwarded(&vec![b'x'; MAX_LINE_BYTES as usize + 1]);
        let lines: Vec<_> = split.split(|&byte| byte == b'\n').collect();
        assert_eq!((lines.len(), lines[1], lines[2]), (3, b"[rank 3] x".as_slice(), b"".as_slice()));
    }

    /// A writer that counts calls and always fails.
    #[derive(Default)]
    struct Closed(usize);

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            self.0 += 1;
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn reading_continues_after_write_errors() {
        let mut closed = Closed::default();
        forward_lines(1, b"a\nb\nc\n".as_slice(), &mut closed);
        assert_eq!(closed.0, 3);
    }
}
