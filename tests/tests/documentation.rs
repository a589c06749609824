//! What the pages say of the repository: links, quoted messages.

use std::fs;
use std::path::{Path, PathBuf};

use glm_tests::pages::{self, Page, Piece};

#[test]
fn links_lead_somewhere() {
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

/// Pieces of a quoted message that are shorter than this could be anywhere.
const TELLING: usize = 8;

#[test]
fn quoted_messages_are_those_of_the_programs() {
    let source = sources(&pages::repository());
    let pages = pages::all();
    let page = pages.iter().find(|page| page.file.ends_with("troubleshooting.md")).expect("the page");
    let quoted = page.pieces().into_iter().filter_map(|(line, piece)| match piece {
        Piece::Text(text) => Some((line, text.strip_prefix("### `")?.strip_suffix('`')?)),
        Piece::Code(..) => None,
    });
    let mut seen = 0;
    for (line, message) in quoted {
        let parts: Vec<&str> = message.split('…').map(str::trim).filter(|part| part.len() >= TELLING).collect();
        assert!(!parts.is_empty(), "docs/troubleshooting.md:{line}: nothing of it can be looked for");
        for part in parts {
            assert!(source.contains(part), "docs/troubleshooting.md:{line}: no program says {part:?}");
        }
        seen += 1;
    }
    assert!(seen > 20, "only {seen} messages were found");
}

/// The programs' source, with texts that go on in the next line joined.
fn sources(root: &Path) -> String {
    let mut files = Vec::new();
    for folder in ["schemas", "pipeline", "trainer"] {
        rust_files(&root.join(folder), &mut files);
    }
    let mut all = String::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let mut lines = text.split("\\\n");
        all += lines.next().unwrap_or_default();
        lines.for_each(|line| all += line.trim_start());
    }
    all
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
