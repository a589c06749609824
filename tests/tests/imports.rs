//! Imports between modules go in one direction: the modules of a directory, each with everything below it, have no import cycle.
//!
//! A module file and the modules in its own directory may use each other: they are one thing in several files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Path of a module within its crate: `["data", "loader"]`; empty for the crate's root.
type Module = Vec<String>;

/// Source text of every module of a crate, without comments and tests.
fn modules(root: &Path) -> BTreeMap<Module, String> {
    let mut found = BTreeMap::new();
    let mut tests = BTreeSet::new();
    let mut folders = vec![(root.to_owned(), Module::new())];
    while let Some((folder, path)) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("read folder") {
            let file = entry.expect("entry").path();
            let name = file.file_stem().expect("name").to_string_lossy().into_owned();
            let child = |name: &str| path.iter().cloned().chain([name.to_owned()]).collect::<Module>();
            if file.is_dir() {
                folders.push((file, child(&name)));
            } else if file.extension().is_some_and(|extension| extension == "rs") && name != "main" {
                let module = if name == "lib" || name == "mod" { path.clone() } else { child(&name) };
                let text = std::fs::read_to_string(&file).expect("read file");
                let text: String =
                    text.lines().filter(|line| !line.trim_start().starts_with("//")).map(|line| format!("{line}\n")).collect();
                let (code, inline_tests) = text.split_once("#[cfg(test)]\nmod tests {").unwrap_or((&text, ""));
                assert!(!inline_tests.contains("\nmod "), "{}: code after the tests", file.display());
                for rest in code.split("#[cfg(test)]").skip(1) {
                    let declared = rest.split_once("mod ").and_then(|(_, rest)| rest.split_once(';'));
                    tests.extend(declared.map(|(name, _)| module.iter().cloned().chain([name.to_owned()]).collect::<Module>()));
                }
                found.insert(module, code.to_owned());
            }
        }
    }
    found.retain(|module, _| !tests.contains(module));
    found
}

/// Paths that a `use` declaration names: `a::{b, c::d}` names `a::b` and `a::c::d`.
fn expand(tree: &str) -> Vec<String> {
    let Some((prefix, group)) = tree.split_once('{') else { return vec![tree.trim().to_owned()] };
    let group = group.rsplit_once('}').map_or(group, |(group, _)| group);
    let (mut depth, mut start, mut paths) = (0, 0, Vec::new());
    for (i, c) in group.char_indices().chain([(group.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let item = group[start..i].trim();
                start = (i + 1).min(group.len());
                if !item.is_empty() {
                    paths.extend(expand(&format!("{}{item}", prefix.trim())));
                }
            }
            _ => {}
        }
    }
    paths
}

/// Paths in a module's code that may name other modules. Re-exports (`pub use`) of a module's own children are not imports.
fn paths(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = String::new();
    for statement in code.split_inclusive(';') {
        let import = statement.rfind("use ").filter(|&at| at == 0 || statement[..at].ends_with(['\n', ' ', ')', '}', '{']));
        match import {
            Some(at)
                if statement[..at].trim_end().ends_with(char::is_alphanumeric)
                    || statement[..at].trim_end().ends_with("(crate)") =>
            {
                // `pub use`, `pub(crate) use`.
                rest.push_str(&statement[..at]);
            }
            Some(at) => {
                found.extend(expand(statement[at + 4..].trim_end_matches(';')));
                rest.push_str(&statement[..at]);
            }
            None => rest.push_str(statement),
        }
    }
    let words = rest.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
    found.extend(words.filter(|word| word.starts_with("crate::") || word.starts_with("super::")).map(str::to_owned));
    found
}

/// The module of the crate that a path in `module` leads to.
fn resolve(module: &Module, path: &str, modules: &BTreeMap<Module, String>) -> Option<Module> {
    let mut parts: Vec<&str> = path.split("::").map(str::trim).collect();
    let mut target = module.clone();
    match *parts.first()? {
        "crate" => target.clear(),
        "super" | "self" => {}
        child if modules.contains_key(&[&module[..], &[child.to_owned()]].concat()) => {}
        _ => return None,
    }
    while let Some(&("crate" | "super" | "self")) = parts.first() {
        if parts.remove(0) == "super" {
            target.pop();
        }
    }
    target.extend(parts.iter().map(|part| (*part).to_owned()));
    while !modules.contains_key(&target) {
        target.pop()?;
    }
    Some(target)
}

/// Import cycles among sibling modules, as `a -> b -> a` with the files that import.
fn cycles(root: &Path) -> Vec<String> {
    let modules = modules(root);
    // For each directory: which of its modules import which others, with one example each.
    let mut siblings: BTreeMap<Module, BTreeMap<String, BTreeMap<String, String>>> = BTreeMap::new();
    for (module, code) in &modules {
        for path in paths(code) {
            let Some(target) = resolve(module, &path, &modules) else { continue };
            let common = module.iter().zip(&target).take_while(|(a, b)| a == b).count();
            if let (Some(from), Some(to)) = (module.get(common), target.get(common)) {
                let edges = siblings.entry(module[..common].to_vec()).or_default().entry(from.clone()).or_default();
                edges.entry(to.clone()).or_insert_with(|| format!("{} uses {}", module.join("::"), target.join("::")));
            }
        }
    }
    let mut found = Vec::new();
    for graph in siblings.values() {
        for start in graph.keys() {
            // Depth first search for a way back to the start.
            let mut stack = vec![(start, Vec::new())];
            let mut seen = BTreeSet::new();
            while let Some((node, way)) = stack.pop() {
                for (next, example) in graph.get(node).into_iter().flatten() {
                    let way: Vec<&str> = way.iter().copied().chain([example.as_str()]).collect();
                    if next == start {
                        found.push(way.join("; "));
                    } else if seen.insert(next) {
                        stack.push((next, way));
                    }
                }
            }
        }
    }
    found
}

#[test]
fn modules_have_no_import_cycles() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("repository");
    for root in ["trainer", "trainer/kernels", "trainer/libtorch-ext", "pipeline", "schemas", "schemas/text", "schemas/support"]
    {
        let found = cycles(&repository.join(root).join("src"));
        assert!(found.is_empty(), "import cycles in {root}:\n{}", found.join("\n"));
    }
}

#[test]
fn cycles_are_found() {
    let root = tempfile::tempdir().expect("folder");
    let write = |file: &str, text: &str| {
        let path = root.path().join(file);
        std::fs::create_dir_all(path.parent().expect("parent")).expect("folder");
        std::fs::write(path, text).expect("write");
    };
    write("lib.rs", "pub mod a;\npub mod b;\n");
    write("a/mod.rs", "pub mod deep;\npub struct A;\n");
    write("a/deep.rs", "use super::A;\nuse crate::{b::{B, C as D}};\n");
    write("b.rs", "// use crate::a::A;\npub struct B;\n#[cfg(test)]\nmod tests {\n    use crate::a::A;\n}\n");
    assert_eq!(cycles(root.path()), Vec::<String>::new(), "a child uses its parent; comments and tests do not count");
    write("b.rs", "pub struct B;\nfn f() -> crate::a::A { todo() }\n");
    let found = cycles(root.path());
    assert_eq!(found.len(), 2, "once from each end: {found:?}");
    assert_eq!(found[0], "a::deep uses b; b uses a");
}
