//! One pair in full, in readable form.

use glm_schemas::vocab::TokenId;
use serde::Deserialize;

use super::error::InspectError;
use super::page::{INDENT, Page};

/// Columns of a pair.
#[derive(Debug, Deserialize)]
pub(super) struct Pair {
    split: Option<String>,
    example_id: String,
    source_id: Option<String>,
    group_id: Option<String>,
    raw_file: Option<String>,
    raw_line: Option<i64>,
    extra: Option<String>,
    source: String,
    prompt: Option<String>,
    target: Option<String>,
    references: Vec<String>,
    prefix_ids: Vec<TokenId>,
    source_ids: Vec<TokenId>,
    suffix_ids: Vec<TokenId>,
    target_ids: Vec<TokenId>,
    keep: String,
    focus: Option<usize>,
}

/// Prints a pair in full.
pub(super) fn pair(page: &mut Page<'_>, pair: &Pair) -> Result<(), InspectError> {
    page.title(pair.split.as_deref(), &pair.example_id)?;
    let context = 1 + pair.prefix_ids.len() + pair.source_ids.len() + pair.suffix_ids.len();
    let focus = pair.focus.map(|focus| format!(" token {focus}")).unwrap_or_default();
    let lengths = format!("{context} context tokens, {} target tokens", pair.target_ids.len());
    page.text(&format!("{lengths}; of a long source the {}{focus} is kept", pair.keep), INDENT)?;
    page.origin(pair.raw_file.as_deref(), pair.raw_line, pair.source_id.as_deref())?;
    if let Some(group) = &pair.group_id {
        page.text(&format!("window of question {group}"), INDENT)?;
    }
    page.extra(pair.extra.as_deref())?;
    let texts =
        [("prompt", pair.prompt.as_deref()), ("source", Some(pair.source.as_str())), ("target", pair.target.as_deref())];
    for (name, text) in texts.into_iter().filter_map(|(name, text)| Some((name, text?))) {
        page.section(name, text)?;
    }
    for reference in pair.references.iter().filter(|&reference| Some(reference) != pair.target.as_ref()) {
        page.section("reference", reference)?;
    }
    page.note()?;
    let tokens = [
        ("tokens before the source", &pair.prefix_ids),
        ("tokens of the source", &pair.source_ids),
        ("tokens after the source", &pair.suffix_ids),
        ("tokens of the target", &pair.target_ids),
    ];
    tokens.into_iter().filter(|(_, ids)| !ids.is_empty()).try_for_each(|(title, ids)| page.tokens(title, ids, &[]))
}
