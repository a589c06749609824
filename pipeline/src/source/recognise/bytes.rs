//! Recognises files that are not text by their first bytes.

/// Returns a description of a file that is not text, or `None`.
pub(super) fn not_text(head: &[u8]) -> Option<String> {
    const COMPRESSED: [(&[u8], &str); 5] = [
        (b"\x1f\x8b", "gzip"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"BZh", "bzip2"),
        (b"PK\x03\x04", "zip"),
        (b"\xfd7zXZ\x00", "xz"),
    ];
    for (magic, name) in COMPRESSED {
        if head.starts_with(magic) {
            return Some(format!(
                "seems to hold {name} data where text was expected; decompress it, or let the name of an archive end in .zip or .tar"
            ));
        }
    }
    if head.starts_with(b"PAR1") || head.starts_with(b"ARROW1") {
        let name = if head.starts_with(b"PAR1") { "a Parquet" } else { "an Arrow" };
        return Some(format!(
            "seems to be {name} file, not raw text; export it as JSON, one object per line{}",
            if name == "a Parquet" { ", or give --task text if it has documents" } else { "" }
        ));
    }
    // In UTF-16 every other byte of plain English is 0, which text in UTF-8 never contains.
    if head.starts_with(b"\xff\xfe") || head.starts_with(b"\xfe\xff") || is_utf_16(head) {
        return Some("seems to be text in UTF-16; convert it to UTF-8, for example with `iconv -f UTF-16 -t UTF-8`".to_owned());
    }
    let nul = head.iter().position(|&byte| byte == 0)?;
    (!begins_with_a_valid_line(&head[..nul])).then(|| "seems to be binary data, not text".to_owned())
}

/// Returns true if `valid`, the bytes before the first invalid one, begin with a JSON object or a line of text.
pub(super) fn begins_with_a_valid_line(valid: &[u8]) -> bool {
    let valid = valid.strip_prefix(b"\xef\xbb\xbf").unwrap_or(valid).trim_ascii_start();
    valid.starts_with(b"{") || valid.contains(&b'\n')
}

fn is_utf_16(head: &[u8]) -> bool {
    let begin = &head[..head.len().min(512)];
    let zeros = |parity: usize| begin.iter().skip(parity).step_by(2).filter(|&&byte| byte == 0).count();
    let (even, odd) = (zeros(0), zeros(1));
    begin.len() >= 4 && even.max(odd) * 3 > begin.len() && even.min(odd) == 0
}
