//! Rejected records of `rejects.jsonl`, grouped by reason.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use glm_support::command::paint::shorten;
use glm_support::page::number::count;
use glm_support::page::table::{self, folded};
use maud::{Markup, html};
use serde::Deserialize;

use super::error::ReportError;
use crate::ingest::reject_kind;
use crate::shard::publish::REJECTS_FILE;

/// Maximum number of kinds of reasons; a file of another format could have one per line.
const MAX_KINDS: usize = 40;
/// Maximum number of examples per kind.
const MAX_EXAMPLES: usize = 2;
/// Maximum length of a record's text.
const RAW_CHARS: usize = 300;

#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    file: Cow<'a, str>,
    line: u64,
    #[serde(borrow)]
    reason: Cow<'a, str>,
    #[serde(borrow, default)]
    raw: Option<Cow<'a, str>>,
}

/// Records with the same kind of reason.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Kind {
    records: u64,
    /// File and line, full reason, and the text of the record if known.
    examples: Vec<(String, String, Option<String>)>,
}

/// Rejected records by kind of reason.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Rejects {
    kinds: HashMap<String, Kind>,
    /// Records of further kinds.
    others: u64,
}

impl Rejects {
    /// Reads the list line by line; empty if there is no file.
    pub(super) fn read(shards: &Path) -> Result<Self, ReportError> {
        let path = shards.join(REJECTS_FILE);
        match File::open(&path) {
            Ok(file) => Self::count(BufReader::new(file)).map_err(|source| ReportError::Read { path, source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(ReportError::Read { path, source }),
        }
    }

    fn count(mut file: impl BufRead) -> io::Result<Self> {
        let (mut rejects, mut line) = (Self::default(), Vec::new());
        loop {
            line.clear();
            if file.read_until(b'\n', &mut line)? == 0 {
                return Ok(rejects);
            }
            match serde_json::from_slice::<Entry<'_>>(&line) {
                Ok(entry) => rejects.add(&entry),
                Err(_) => rejects.others += 1,
            }
        }
    }

    fn add(&mut self, entry: &Entry<'_>) {
        let kind = reject_kind(&entry.reason);
        if self.kinds.len() >= MAX_KINDS && !self.kinds.contains_key(&kind) {
            self.others += 1;
            return;
        }
        let kind = self.kinds.entry(kind).or_default();
        kind.records += 1;
        if kind.examples.len() < MAX_EXAMPLES {
            let raw = entry.raw.as_ref().map(|raw| shorten(raw, RAW_CHARS));
            kind.examples.push((format!("{}, line {}", entry.file, entry.line), entry.reason.to_string(), raw));
        }
    }

    pub(super) fn records(&self) -> u64 {
        self.kinds.values().map(|kind| kind.records).sum::<u64>() + self.others
    }

    /// Renders the section of the page.
    pub(super) fn section(&self) -> Markup {
        let all = self.records();
        let mut kinds: Vec<(&String, &Kind)> = self.kinds.iter().collect();
        kinds.sort_by(|a, b| b.1.records.cmp(&a.1.records).then_with(|| a.0.cmp(b.0)));
        let mut rows: Vec<(String, u64)> = kinds.iter().map(|(reason, kind)| ((*reason).clone(), kind.records)).collect();
        if self.others > 0 {
            rows.push(("other reasons".to_owned(), self.others));
        }
        html! {
            @if all == 0 { p { "No record was rejected." } } @else {
                p { (count(all)) " records or questions were rejected; "
                    code { (REJECTS_FILE) } " next to the shards lists all of them." }
                (table::bars("Rejects by reason", ["reason", "records"], &rows, all))
                (folded("Examples", &html! {
                    dl.examples {
                        @for (location, reason, raw) in kinds.iter().flat_map(|(_, kind)| &kind.examples) {
                            dt { bdi { (location) } ": " bdi { (reason) } }
                            dd { @if let Some(raw) = raw { code dir="auto" { (raw) } } @else { span.note { "no text" } } }
                        }
                    }
                }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_grouped_by_kind() {
        let text = concat!(
            "{\"file\":\"a\",\"line\":1,\"reason\":\"question 12: no `idx`\",\"raw\":\"{<b>}\"}\n",
            "{\"file\":\"a\",\"line\":7,\"reason\":\"question 9: no `qas`\"}\n",
            "{\"file\":\"a\",\"line\":8,\"reason\":\"not JSON\"}\n",
            "not an entry\n"
        );
        let rejects = Rejects::count(text.as_bytes()).expect("read");
        assert_eq!((rejects.records(), rejects.others), (4, 1));
        assert_eq!(rejects.kinds["question #: no `…`"].records, 2);
        let page = rejects.section().into_string();
        assert!(
            page.contains("question 12: no `idx`") && page.contains("{&lt;b&gt;}") && page.contains("other reasons"),
            "{page}"
        );
    }

    #[test]
    fn memory_is_bounded() {
        let text: String = (0..9000_u32)
            .map(|i| format!("{{\"file\":\"a\",\"line\":{i},\"reason\":\"{}\"}}\n", "x".repeat(i as usize % 300)))
            .collect();
        let rejects = Rejects::count(text.as_bytes()).expect("read");
        assert_eq!((rejects.kinds.len(), rejects.records()), (MAX_KINDS, 9000));
    }
}
