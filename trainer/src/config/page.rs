//! The page of documentation about the settings, made of [`REFERENCE`].

use std::fmt::Write;

use toml::{Table, Value};

use super::REFERENCE;

/// What stands above the tables.
const HEAD: &str = "\
# Settings of glm-trainer

Every setting, its default and what it does. The defaults are the values of the published recipe where it has one. This page is made by
the program, from the text that `glm-trainer config` prints; a test compares the two. To make it again:

    glm-trainer config --markdown > docs/configuration.md

Settings come, later ones winning, from the defaults, the file given with `--config FILE`, flags such as `--preset` and `--max-steps`,
and each `--set section.key=value`:

    glm-trainer config > my.toml
    glm-trainer run --data DIR --config my.toml --set optim.lr=2e-5

A file needs only the keys that it changes. A key that does not exist and a value out of range are errors before anything starts.
What a run used is in its `RUNDIR/config.toml`; a run that goes on compares its settings with that file and refuses others, unless
`--resume --allow KEY` says which may differ.
";

/// One setting.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// The section that it is in.
    pub section: String,
    /// Its key there.
    pub key: String,
    /// Its default.
    pub default: Value,
    /// The default as the file writes it.
    pub written: String,
    /// What it does, in one line.
    pub meaning: String,
}

/// A section and what is said of it as a whole.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Section {
    /// Its name.
    pub name: String,
    /// What is said of it.
    pub about: String,
    /// Its settings.
    pub settings: Vec<Setting>,
}

/// The sections of [`REFERENCE`], in its order.
pub fn sections() -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    for line in REFERENCE.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            sections.push(Section { name: name.to_owned(), ..Section::default() });
            continue;
        }
        // What stands above the first section is about the file.
        let Some(section) = sections.last_mut() else { continue };
        let said = line.trim_start().strip_prefix('#').map(str::trim);
        match (said, section.settings.last_mut()) {
            (Some(more), Some(setting)) => setting.meaning += &format!(" {more}"),
            (Some(more), None) => section.about += &format!("{}{more}", if section.about.is_empty() { "" } else { " " }),
            (None, _) => section.settings.extend(setting(&section.name, line)),
        }
    }
    sections
}

/// `key = value   # meaning`
fn setting(section: &str, line: &str) -> Option<Setting> {
    let (key, default) = line.parse::<Table>().ok()?.into_iter().next()?;
    let (assignment, meaning) = line.split_once('#').unwrap_or((line, ""));
    let written = assignment.split_once('=').map(|(_, value)| value.trim().to_owned()).unwrap_or_default();
    Some(Setting { section: section.to_owned(), key, default, written, meaning: meaning.trim().to_owned() })
}

/// The whole page.
pub fn markdown() -> String {
    let mut page = HEAD.to_owned();
    for Section { name, about, settings } in sections() {
        // Writing into a string does not fail.
        let _ = write!(page, "\n## {name}\n\n");
        if !about.is_empty() {
            let _ = write!(page, "{about}\n\n");
        }
        page += "| setting | default | type | |\n| --- | --- | --- | --- |\n";
        for Setting { section, key, default, written, meaning } in settings {
            let meaning = meaning.replace('|', "\\|");
            let _ = writeln!(page, "| `{section}.{key}` | `{written}` | {} | {meaning} |", kind(&default));
        }
    }
    page
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Integer(_) => "integer",
        Value::Float(_) => "number",
        Value::Boolean(_) => "boolean",
        _ => "text",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn every_setting_is_on_the_page_and_explained() {
        let all = Table::try_from(Config::default()).expect("settings");
        let mut count = 0;
        for (section, keys) in &all {
            for (key, default) in keys.as_table().expect("a section") {
                count += 1;
                let found = sections().into_iter().flat_map(|section| section.settings);
                let found = found.into_iter().find(|setting| setting.section == *section && setting.key == *key);
                let found = found.unwrap_or_else(|| panic!("{section}.{key} is missing"));
                assert_eq!(&found.default, default, "{section}.{key}");
                assert!(!found.meaning.is_empty(), "{section}.{key} is not explained in reference.toml");
            }
        }
        assert_eq!(sections().iter().map(|section| section.settings.len()).sum::<usize>(), count);
    }

    #[test]
    fn the_documentation_has_the_page() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
        let page = std::fs::read_to_string(path).expect("docs/configuration.md");
        assert!(page == markdown(), "docs/configuration.md is old: glm-trainer config --markdown > docs/configuration.md");
    }
}
