//! Lists of checksums in the format of `sha256sum`, which also tell the files of a folder that cannot be listed otherwise.

use std::fmt::Write;

/// Name of the list in a folder; `sha256sum -c SHA256SUMS` verifies it.
pub const SUMS_FILE: &str = "SHA256SUMS";
/// Number of digits of a checksum.
const DIGITS: usize = 64;

/// Returns the text of a list of names and checksums.
pub fn sums_of<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    files.into_iter().fold(String::new(), |mut text, (name, sum)| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{sum}  {name}");
        text
    })
}

/// Parses a list into names and checksums.
///
/// # Errors
/// The number of the first malformed line, counting from 1. The list is not trusted: its names must stay in the folder.
pub(crate) fn parse(text: &str) -> Result<Vec<(String, String)>, usize> {
    let mut files = Vec::new();
    for (line, entry) in (1_usize..).zip(text.lines()) {
        // A star marks binary files in lists of `sha256sum --binary`.
        let entry = entry.split_once("  ").or_else(|| entry.split_once(" *"));
        let is_sum = |sum: &str| sum.len() == DIGITS && sum.bytes().all(|byte| byte.is_ascii_hexdigit());
        let (sum, name) = entry.filter(|(sum, name)| is_sum(sum) && is_inside(name)).ok_or(line)?;
        files.push((name.trim_start_matches("./").to_owned(), sum.to_ascii_lowercase()));
    }
    Ok(files)
}

/// Returns true if a name with forward slashes stays in its folder on every system.
pub(crate) fn is_inside(name: &str) -> bool {
    let name = name.trim_start_matches("./");
    let is_plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    !name.contains(['\\', '\0', ':']) && name.split('/').all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_written_and_parsed() {
        let sum = "0f".repeat(32);
        let text = sums_of([("a", sum.as_str()), ("data/b c", sum.as_str())]);
        let files = vec![("a".to_owned(), sum.clone()), ("data/b c".to_owned(), sum.clone())];
        assert_eq!(parse(&text), Ok(files.clone()));
        assert_eq!(parse(&text.replace("  ", " *").replace("0f", "0F")), Ok(files));
        assert_eq!(parse(&format!("{sum}  ./a\n")), Ok(vec![("a".to_owned(), sum.clone())]));
        for bad in ["x  a".to_owned(), format!("{sum} a"), format!("{sum}  ../a"), format!("{sum}  /a"), format!("{sum}  a//b")]
        {
            assert_eq!(parse(&format!("{text}{bad}\n")), Err(3), "{bad}");
        }
    }
}
