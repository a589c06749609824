//! What workers print, line by line under the name of their rank.

use std::io::{self, BufRead, BufReader, Read, Write};

/// Longest line that is kept in one piece; a longer one is broken, so that a worker cannot fill the launcher's memory.
const LONGEST: u64 = 1 << 20;

/// Passes what comes from `from` on to `to` until its end, each line behind `[rank N] ` and written by one call, so that lines
/// of several workers do not mix. Bytes that are no UTF-8 pass as they are; a last line gets its end.
pub(super) fn pass_on(rank: usize, from: impl Read, mut to: impl Write) {
    let prefix = format!("[rank {rank}] ");
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    loop {
        line.clear();
        line.extend_from_slice(prefix.as_bytes());
        match from.by_ref().take(LONGEST).read_until(b'\n', &mut line) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // A pipe has no other errors; what the worker still prints would have nowhere to go.
            Err(_) => return,
        }
        if line.last() != Some(&b'\n') {
            line.push(b'\n');
        }
        // Where nobody reads any more the worker is still to be listened to: it would wait for ever on a full pipe.
        let _unread = to.write_all(&line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        pass_on(3, text, &mut out);
        out
    }

    #[test]
    fn every_line_has_its_rank() {
        assert_eq!(passed(b"one\n\ntwo\n"), b"[rank 3] one\n[rank 3] \n[rank 3] two\n");
        assert_eq!(passed(b""), b"");
    }

    #[test]
    fn a_last_line_gets_its_end_and_bytes_stay() {
        assert_eq!(passed(b"\xff\0\xfe\nlast"), b"[rank 3] \xff\0\xfe\n[rank 3] last\n");
    }

    #[test]
    fn a_long_line_stays_whole_and_one_without_end_is_broken() {
        let long = [vec![b'x'; 300_000], b"\n".to_vec()].concat();
        assert_eq!(passed(&long), [b"[rank 3] ".as_slice(), &long].concat());
        let endless = passed(&vec![b'x'; LONGEST as usize + 1]);
        let lines: Vec<_> = endless.split(|&byte| byte == b'\n').collect();
        assert_eq!((lines.len(), lines[1], lines[2]), (3, b"[rank 3] x".as_slice(), b"".as_slice()));
    }

    /// Counts what it is asked to write and takes nothing.
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
    fn all_is_read_though_nobody_listens() {
        let mut closed = Closed::default();
        pass_on(1, b"a\nb\nc\n".as_slice(), &mut closed);
        assert_eq!(closed.0, 3);
    }
}
