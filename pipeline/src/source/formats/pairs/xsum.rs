//! XSum: a file of sections per article, and a file that assigns articles to splits.

use std::collections::BTreeMap;

use glm_schemas::manifest::Split;
use glm_text::pair::Template;

use crate::source::pair::{RawPair, References, Windows};

/// File that assigns articles to splits.
pub const SPLITS_FILE: &str = "XSum-TRAINING-DEV-TEST-SPLIT-90-5-5.json";

/// Folder of the articles, if they are not beside that file.
pub const ARTICLES_FOLDER: &str = "bbc-summary-data";

/// Mark at both ends of the name of a section.
const MARK: &str = "[SN]";

/// Parses the file of splits: ids of articles.
///
/// # Errors
/// A description of the fault.
pub fn ids(text: &str, split: Split) -> Result<Vec<String>, String> {
    let mut splits: BTreeMap<String, Vec<String>> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let name = match split {
        Split::Train => "train",
        Split::Val => "validation",
        Split::Test => "test",
    };
    splits.remove(name).ok_or_else(|| format!("no `{name}`"))
}

/// Returns the pair of the article with this id: the body and its first sentence.
///
/// # Errors
/// A message that names the missing section.
pub fn parse(id: &str, text: &str) -> Result<RawPair, String> {
    let mut sections = sections(text);
    let mut section = |name: &str| sections.remove(name).ok_or_else(|| format!("no section `{name}`"));
    Ok(RawPair {
        id: Some(id.to_owned()),
        template: Template::Summary,
        source: section("RESTBODY")?,
        prompt: String::new(),
        target: Some(section("FIRST-SENTENCE")?),
        references: References::DecodedTarget,
        windows: Windows::One,
    })
}

/// Texts of the sections: their lines, joined with spaces.
fn sections(text: &str) -> BTreeMap<String, String> {
    let mut sections = BTreeMap::<String, String>::new();
    let mut current = None;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(name) = line.strip_prefix(MARK) {
            let name = name.strip_suffix(MARK).unwrap_or(name);
            sections.insert(name.to_owned(), String::new());
            current = Some(name.to_owned());
        } else if let Some(section) = current.as_ref().and_then(|name| sections.get_mut(name)) {
            if !section.is_empty() {
                section.push(' ');
            }
            section.push_str(line);
        }
    }
    sections
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn articles_without_a_body_are_errors() {
        assert_eq!(parse("7", "[SN]FIRST-SENTENCE[SN]\na\n"), Err("no section `RESTBODY`".to_owned()));
    }

    #[test]
    fn splits_have_ids() {
        let text = r#"{"train": ["1", "2"], "validation": ["3"]}"#;
        assert_eq!(ids(text, Split::Val), Ok(vec!["3".to_owned()]));
        assert_eq!(ids(text, Split::Test), Err("no `test`".to_owned()));
    }
}
