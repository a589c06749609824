//! The pages of documentation: `README.md` and `docs/*.md`.

use std::fs;
use std::path::{Path, PathBuf};

/// The repository's root.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).to_owned()
}

/// A page.
#[derive(Debug, Clone)]
pub struct Page {
    /// Its file, relative to the repository.
    pub file: PathBuf,
    /// Its text.
    pub text: String,
}

/// All pages.
///
/// # Panics
/// If they cannot be read.
pub fn all() -> Vec<Page> {
    let root = repository();
    let docs = fs::read_dir(root.join("docs")).expect("docs").map(|entry| entry.expect("entry").path());
    let mut files: Vec<PathBuf> = docs.filter(|path| path.extension().is_some_and(|end| end == "md")).collect();
    files.sort();
    files.insert(0, root.join("README.md"));
    let page = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Page { file: path.strip_prefix(&root).expect("below the root").to_owned(), text }
    };
    files.into_iter().map(page).collect()
}

/// A piece of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A line of text.
    Text(&'a str),
    /// Lines of a block of code, and its language where it is fenced.
    Code(&'a str, String),
}

impl Page {
    /// Lines of text and blocks of code, in order, each with the number of its (first) line.
    pub fn pieces(&self) -> Vec<(usize, Piece<'_>)> {
        let mut pieces: Vec<(usize, Piece)> = Vec::new();
        let mut fence: Option<&str> = None;
        let mut after_blank = true;
        for (number, line) in (1..).zip(self.text.lines()) {
            let indented = fence.is_none().then(|| line.strip_prefix("    ")).flatten();
            let last = pieces.last_mut().map(|(_, piece)| piece);
            match (line.strip_prefix("```"), fence, indented, last) {
                (Some(language), None, ..) => {
                    fence = Some(language);
                    pieces.push((number + 1, Piece::Code(language, String::new())));
                }
                (Some(_), Some(_), ..) => fence = None,
                (None, Some(_), _, Some(Piece::Code(_, code))) => *code += &format!("{line}\n"),
                (None, None, Some(line), Some(Piece::Code("", code))) => *code += &format!("{line}\n"),
                (None, None, Some(line), _) if after_blank => pieces.push((number, Piece::Code("", format!("{line}\n")))),
                _ => pieces.push((number, Piece::Text(line))),
            }
            after_blank = line.is_empty();
        }
        pieces
    }

    /// The anchors of its headings, as code hosts make them.
    pub fn anchors(&self) -> Vec<String> {
        let heading = |(_, piece): (usize, Piece)| match piece {
            Piece::Text(line) if line.starts_with('#') => Some(anchor(line.trim_start_matches('#').trim())),
            _ => None,
        };
        self.pieces().into_iter().filter_map(heading).collect()
    }
}

fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|&letter| letter.is_alphanumeric() || " -_".contains(letter));
    kept.map(|letter| if letter == ' ' { '-' } else { letter }).flat_map(char::to_lowercase).collect()
}

/// The texts in backquotes of a line.
pub fn inline_code(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// The targets of the links and pictures of a line.
pub fn links(line: &str) -> Vec<&str> {
    let without_code: Vec<&str> = line.split("](").skip(1).collect();
    without_code.into_iter().filter_map(|rest| rest.split_once(')')).map(|(target, _)| target).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_both_kinds_of_code() {
        let text =
            "# It's *one* `x`, really\n\n    a\n    b\n\ntext\n    on\n```bash\nc\n    d\n```\nend [1](x.md#y), [2](z)\n"
                .to_owned();
        let page = Page { file: "x.md".into(), text };
        let code: Vec<_> = page.pieces().into_iter().filter(|(_, piece)| matches!(piece, Piece::Code(..))).collect();
        let block = |number, language, code: &str| (number, Piece::Code(language, code.to_owned()));
        assert_eq!(code, [block(3, "", "a\nb\n"), block(9, "bash", "c\n    d\n")]);
        assert_eq!(page.anchors(), ["its-one-x-really"]);
        assert_eq!(links(page.text.lines().last().expect("line")), ["x.md#y", "z"]);
    }
}
