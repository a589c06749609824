//! Tests of the documentation against the repository: links and quoted messages.

use std::fs;
use std::path::{Path, PathBuf};

use glm_tests::pages::{self, Page, Piece};

#[test]
fn links_have_targets() {
    let pages = pages::all();
    let root = pages::repository();
    let mut broken = Vec::new();
    for page in &pages {
        for (line, piece) in page.pieces() {
            let Piece::Text(text) = piece else { continue };
            for target in pages::links(text).into_iter().filter(|target| !target.contains("://")) {
                if !exists(page, target, &pages, &root) {
                    broken.push(format!("{}:{line}: {target}", page.file.display()));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

fn exists(page: &Page, target: &str, pages: &[Page], root: &Path) -> bool {
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    let path = match file {
        "" => root.join(&page.file),
        _ => root.join(page.file.parent().unwrap_or(Path::new(""))).join(file),
    };
    let Ok(path) = path.canonicalize() else { return false };
    let has_anchor = |page: &Page| page.anchors().iter().any(|known| known == anchor);
    let canonical = |page: &&Page| root.join(&page.file).canonicalize().is_ok_and(|file| file == path);
    anchor.is_empty() || pages.iter().find(canonical).is_some_and(has_anchor)
}

#[test]
fn quoted_messages_are_messages_of_the_programs() {
    let messages = messages(&pages::repository());
    let pages = pages::all();
    let page = pages.iter().find(|page| page.file.ends_with("troubleshooting.md")).expect("the page");
    let quoted = page.pieces().into_iter().filter_map(|(line, piece)| match piece {
        Piece::Text(text) => Some((line, text.strip_prefix("### `")?.strip_suffix('`')?)),
        Piece::Code(..) => None,
    });
    let mut seen = 0;
    for (line, message) in quoted {
        let wanted = message.trim_matches(['…', ' ']);
        assert!(wanted.len() >= MIN_QUOTE, "docs/troubleshooting.md:{line}: {message:?} is too short to identify a message");
        assert!(
            messages.iter().any(|message| message.contains(wanted)),
            "docs/troubleshooting.md:{line}: no program prints {message:?}"
        );
        seen += 1;
    }
    assert!(seen > 20, "only {seen} messages were found");
}

/// Minimum length of a quoted message without the leading and trailing placeholder; shorter ones could match anything.
const MIN_QUOTE: usize = 8;

/// String literals of the programs. Placeholders are written as `…`, and backticks are left out, as in the pages.
fn messages(root: &Path) -> Vec<String> {
    let mut files = Vec::new();
    for folder in ["schemas", "pipeline", "trainer"] {
        rust_files(&root.join(folder), &mut files);
    }
    let read = |file: PathBuf| fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    files.into_iter().flat_map(|file| literals(&read(file))).map(|literal| with_placeholders(&literal)).collect()
}

/// The string literals of Rust source text outside comments and test modules.
fn literals(source: &str) -> Vec<String> {
    let source = source.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(start) = source[at..].find(['"', '\'', '/']).map(|offset| at + offset) {
        let rest = &source[start..];
        at = start
            + if rest.starts_with("//") {
                rest.find('\n').unwrap_or(rest.len())
            } else if let Some(body) = rest.strip_prefix('"') {
                let before = source[..start].trim_end_matches('#');
                let hashes = &source[before.len()..start];
                let raw =
                    before.strip_suffix('r').is_some_and(|left| !left.ends_with(|c: char| c.is_alphanumeric() || c == '_'));
                let length = if raw { body.find(&format!("\"{hashes}")) } else { closing_quote(body) };
                let length = length.expect("a closing quote");
                found.push(body[..length].to_owned());
                length + 2
            } else if let Some(escape) = rest.strip_prefix("'\\") {
                // The escaped character may itself be a quote.
                3 + escape.char_indices().skip(1).find(|(_, letter)| *letter == '\'').expect("a closing quote").0
            } else if rest.starts_with('\'') && rest.chars().nth(2) == Some('\'') {
                rest.chars().take(3).map(char::len_utf8).sum()
            } else {
                // A division or a lifetime.
                1
            };
    }
    found
}

/// Index of the first quote that is not escaped.
fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().find_map(|(index, letter)| {
        let closes = letter == '"' && !escaped;
        escaped = letter == '\\' && !escaped;
        closes.then_some(index)
    })
}

/// A literal as one line, with `…` for each `{…}`.
fn with_placeholders(literal: &str) -> String {
    let mut lines = literal.split("\\\n");
    let first = lines.next().unwrap_or_default().to_owned();
    let joined = lines.fold(first, |all, line| all + line.trim_start());
    let mut text = String::new();
    let mut rest = joined.as_str();
    while let Some((before, after)) = rest.split_once('{') {
        text += before;
        text.push('…');
        rest = after.split_once('}').map_or("", |(_, after)| after);
    }
    (text + rest).replace('`', "")
}

#[test]
fn literals_are_found() {
    let source = r##"
        // "a comment"
        fn f<'a>(x: &'a str) -> char { let _ = ("one \"{x:?}\" \
            `two`", r#"raw "text""#, '"', '\'', '\\', 4 / 2, "three"); 'x' }
#[cfg(test)]
mod tests { "not this" }"##;
    let source = source.replace("\n        ", "\n");
    let found: Vec<String> = literals(&source).iter().map(|literal| with_placeholders(literal)).collect();
    assert_eq!(found, [r#"one \"…\" two"#, r#"raw "text""#, "three"]);
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("folder") {
        let path = entry.expect("entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && name != "tests" {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|end| end == "rs") {
            files.push(path);
        }
    }
}
