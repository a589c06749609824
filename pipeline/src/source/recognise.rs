//! Detects the format of a file from its beginning.
//!
//! JSON is classified by the keys of its first lines, so that a bad line does not matter, or else of its first value; other text by its
//! lines. Files of a known kind that are not cloze data give [`Recognised::Wrong`] with a hint.

mod bytes;
mod json;

use std::fmt;

use bytes::{begins_with_a_valid_line, not_text};
use clap::ValueEnum;
use clap::builder::PossibleValue;
use glm_schemas::manifest::TaskName;

use super::format::{Content, Format};
use super::formats::FORMATS;
use super::head::{Head, MAX_KEY_BYTES};

/// One of the [`FORMATS`], known by its name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct FormatName(usize);

static NAMES: [FormatName; FORMATS.len()] = {
    let mut names = [FormatName(0); FORMATS.len()];
    let mut index = 0;
    while index < names.len() {
        names[index] = FormatName(index);
        index += 1;
    }
    names
};

impl FormatName {
    /// Returns the format with this name.
    pub fn named(name: &str) -> Option<Self> {
        NAMES.into_iter().find(|format| format.format().name() == name)
    }

    /// Returns the format.
    pub fn format(self) -> &'static dyn Format {
        FORMATS[self.0]
    }

    /// Returns the first format of a task.
    pub(crate) fn first(task: TaskName) -> Self {
        NAMES.into_iter().find(|format| format.task() == task).unwrap_or_default()
    }

    /// Returns true if the records of the format say nothing without a pattern.
    pub(crate) fn needs_pattern(self) -> bool {
        matches!(self.format().content(), Content::Examples)
    }

    /// The format of records that fill a pattern.
    pub(crate) fn pattern() -> Option<Self> {
        NAMES.into_iter().find(|format| format.needs_pattern())
    }

    fn task(self) -> TaskName {
        self.format().content().task()
    }

    /// Returns true if the format is recognised by the length of lines, which differs between files of one format.
    pub(crate) fn is_guess(self) -> bool {
        ["lines", "document"].contains(&self.format().name())
    }

    fn detect(task: TaskName, head: &Head<'_>) -> Option<Self> {
        NAMES.into_iter().find(|format| format.task() == task && format.format().detect(head))
    }
}

impl ValueEnum for FormatName {
    fn value_variants<'a>() -> &'a [Self] {
        &NAMES
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let format = self.format();
        Some(PossibleValue::new(format.name()).help(format.about()))
    }
}

impl fmt::Display for FormatName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.format().name())
    }
}

/// Result of [`recognise`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recognised {
    /// The file has one of the formats.
    Format(FormatName),
    /// The file has a known kind that cannot be ingested: a predicate with a hint, to be printed after the file's name.
    Wrong(String),
    /// The kind of the file is unknown.
    Unknown,
}

/// Detects the format of a file of a task from `head`, its decompressed content or about the first 64 KiB of it.
pub fn recognise(task: TaskName, head: &[u8], file_name: &str) -> Recognised {
    let parquet = head.starts_with(b"PAR1").then(|| FormatName::detect(task, &Head::Parquet)).flatten();
    if let Some(name) = parquet {
        return Recognised::Format(name);
    }
    if let Some(wrong) = not_text(head) {
        return Recognised::Wrong(wrong);
    }
    if let Some(name) = json::format_of_lines(task, head) {
        return Recognised::Format(name);
    }
    let valid = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(e) => {
            let position = e.valid_up_to();
            let valid = &head[..position];
            // The beginning may end within a character; and an invalid line after valid ones is rejected later, by its number.
            if e.error_len().is_some() && !begins_with_a_valid_line(valid) {
                return wrong(format!("is not UTF-8 text (byte {position}); convert it to UTF-8, if it is text at all"));
            }
            std::str::from_utf8(valid).unwrap_or_default()
        }
    };
    let text = valid.strip_prefix('\u{feff}').unwrap_or(valid);
    let start = text.trim_start();
    if start.is_empty() {
        return wrong("seems to be empty");
    }
    if start.starts_with("version https://git-lfs.github.com/") {
        return wrong("seems to be a git-lfs pointer, not the data itself; fetch the data with `git lfs pull`");
    }
    let tag = |tag: &str| start.get(..tag.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(tag));
    if tag("<!doctype") || tag("<html") || tag("<head") {
        return wrong("seems to be a web page, perhaps of a failed download; fetch the data again");
    }
    if tag("<?xml") {
        return wrong(match task {
            TaskName::Cloze => format!("seems to be XML, {USE_PLAIN}"),
            TaskName::Seq2seq => "seems to be XML; write it as lines of {\"source\", \"target\"} (format `pairs`)".to_owned(),
            TaskName::Text => "seems to be XML; write its text as lines of {\"text\"} (format `jsonl`)".to_owned(),
        });
    }
    if start.starts_with(['{', '[']) { json::classify(task, start) } else { lines(task, text, file_name) }
}

const USE_PLAIN: &str =
    "not cloze data in a known format; write it as lines of {\"context\", \"choices\", \"answer\"} (format `plain`)";

const USE_PATTERN: &str = "which only patterns read; name its columns in a pattern file and give --pattern FILE, or name a task that \
                           `glm-prep patterns` lists with --task";

fn wrong(what: impl Into<String>) -> Recognised {
    Recognised::Wrong(what.into())
}

/// Classifies text that is not JSON by its lines.
fn lines(task: TaskName, text: &str, file_name: &str) -> Recognised {
    // The last line may be truncated, so it counts only if it is the only one.
    let whole = match text.rsplit_once('\n') {
        Some((whole, _)) if !whole.trim().is_empty() => whole,
        _ => text,
    };
    let head = Head::Lines(whole.lines().filter(|line| !line.trim().is_empty()).collect());
    if let Some(name) = FormatName::detect(task, &head) {
        return Recognised::Format(name);
    }
    let Head::Lines(lines) = head else { return Recognised::Unknown };
    let named = |extension: &str| {
        let end = file_name.len().checked_sub(extension.len()).and_then(|at| file_name.get(at..));
        end.is_some_and(|end| end.eq_ignore_ascii_case(extension))
    };
    if named(".tsv") || is_table(&lines, '\t') {
        return wrong(format!("seems to be a tab-separated table (TSV), {USE_PATTERN}"));
    }
    if named(".csv") || is_table(&lines, ',') {
        return wrong(format!("seems to be a comma-separated table (CSV), {USE_PATTERN}"));
    }
    Recognised::Unknown
}

/// Returns true if all lines have the same number of fields and the first one can be a header.
fn is_table(lines: &[&str], separator: char) -> bool {
    let Some(header) = lines.first() else { return false };
    let is_name =
        |field: &str| field.len() <= MAX_KEY_BYTES && field.chars().all(|c| c.is_alphanumeric() || "_-.\" #".contains(c));
    let separators = header.matches(separator).count();
    let fields = if separator == '\t' {
        lines.iter().all(|line| line.matches(separator).count() == separators)
    } else {
        // Prose has commas too, so only a header whose names have no spaces indicates a table.
        !header.trim().contains(' ')
    };
    separators > 0 && lines.len() > 1 && fields && (separator == '\t' || header.split(separator).all(is_name))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LAMBADA: &str = "the baker set a loaf on the sill . soon there came rosa\n";

    fn cbt() -> String {
        let sentences = (1..21).map(|number| format!("{number} The fox met a hare .\n"));
        format!("{}21 Run , XXXXX !\thare\t\tfox|hare\n\n1 Next", sentences.collect::<String>())
    }

    fn samples() -> Vec<(FormatName, String)> {
        let named = |name| FormatName::named(name).expect("a format");
        let record = r#"{"source": "own", "passage": {"text": "Bo ran.", "entities": [{"start": 0, "end": 1}]}, "qas": [{"query": "@placeholder sat", "idx": 0}], "idx": 0}"#;
        let original =
            r#"{"version": "1.0", "data": [{"id": "0a", "passage": {"text": "Bo ran.", "entities": []}, "qas": []}]}"#;
        let cloth = "{\"article\": \"It _ .\",\n \"options\": [[\"is\", \"was\", \"did\", \"had\"]], \"answers\": [\"A\"]}";
        let plain = r#"{"context": "A [BLANK].", "choices": ["cat", "dog"], "answer": 0}"#;
        vec![
            (named("record"), format!("{record}\n{record}\n")),
            (named("original-record"), original.to_owned()),
            (named("original-record"), original.replace(", ", ",\n  ")),
            (named("cloth"), cloth.to_owned()),
            (named("lambada"), LAMBADA.repeat(3)),
            (named("lambada"), r#"{"text": "any words at all"}"#.to_owned()),
            (named("cbt"), cbt()),
            (named("plain"), format!("\u{feff}{plain}\n{plain}\n")),
        ]
    }

    fn wrong_kind(head: &[u8], file_name: &str) -> String {
        match recognise(TaskName::Cloze, head, file_name) {
            Recognised::Wrong(what) => what,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_format_is_recognised() {
        for (name, text) in samples() {
            assert_eq!(recognise(TaskName::Cloze, text.as_bytes(), "x.txt"), Recognised::Format(name), "{text}");
        }
        // Records that fill a pattern have any fields.
        let cloze = NAMES.iter().filter(|name| name.task() == TaskName::Cloze && Some(**name) != FormatName::pattern());
        assert!(cloze.clone().count() < NAMES.len());
        assert!(cloze.into_iter().all(|name| samples().iter().any(|(sample, _)| sample == name)));
    }

    #[test]
    fn a_truncated_beginning_is_enough() {
        let long = "Bo ran. Wé ran. ".repeat(4_500);
        let record = format!(r#"{{"source": "own", "passage": {{"entities": [], "text": "{long}"#);
        assert_eq!(recognise(TaskName::Cloze, &record.as_bytes()[..64 << 10], "x"), Recognised::Format(FormatName::default()));
        let original = format!(r#"{{"data": [{{"passage": {{"text": "{long}"#);
        let original_record = FormatName::named("original-record").expect("a format");
        for cut in [40, 60 << 10, (60 << 10) + 1, (60 << 10) + 2] {
            assert_eq!(recognise(TaskName::Cloze, &original.as_bytes()[..cut], "x"), Recognised::Format(original_record));
        }
    }

    #[test]
    fn names_are_unique() {
        for name in NAMES {
            assert_eq!(FormatName::from_str(&name.to_string(), false), Ok(name));
            assert_eq!(FormatName::named(name.format().name()), Some(name));
        }
        assert_eq!(FormatName::default().to_string(), "record");
    }

    #[test]
    fn other_tasks_are_recognised_by_their_keys() {
        for (line, message) in [
            (
                r#"{"question": "is it", "passage": "It is.", "idx": 0, "label": true}"#,
                "seems to be SuperGLUE BoolQ (keys idx, label, passage, question), not cloze data",
            ),
            (r#"{"premise": "a", "hypothesis": "b", "label": "neutral", "idx": 1}"#, "seems to be SuperGLUE CB, RTE or AX-g"),
            (
                r#"{"sentence1": "a", "sentence2": "b", "idx": 1, "label": "entailment", "logic": "x"}"#,
                "seems to be SuperGLUE AX-b",
            ),
            (r#"{"premise": "a", "choice1": "b", "choice2": "c", "question": "cause"}"#, "seems to be SuperGLUE COPA"),
            (
                r#"{"idx": 0, "version": 1.1, "passage": {"text": "a", "questions": [{"question": "#,
                "seems to be SuperGLUE MultiRC",
            ),
            (r#"{"word": "a", "sentence1": "b", "sentence2": "c", "start1": 0}"#, "seems to be SuperGLUE WiC"),
            (r#"{"target": {"span2_index": 1, "span1_text": "a"}, "text": "b"}"#, "seems to be SuperGLUE WSC"),
            (r#"{"data": [{"title": "a", "paragraphs": [{"qas": []}]}]}"#, "seems to be SQuAD (keys data, data[].paragraphs"),
            (r#"{"context": "a", "question": "b", "answers": {"text": [], "answer_start": []}}"#, "seems to be SQuAD"),
            (r#"{"answers": ["A"], "options": [["a"]], "questions": ["b"], "article": "c"}"#, "seems to be RACE"),
            (r#"{"data": [{"context": "a", "choices": ["b"]}]}"#, "seems to be CMRC 2019"),
            (
                r#"[{"context": "a", "choices": ["b"]}]"#,
                "seems to be `plain` data in one JSON array; write one object per line",
            ),
            ("{\"context\": \"a\",\n\"choices\": [\"b\"]}", "seems to be `plain` data, but its first object spans"),
        ] {
            let what = wrong_kind(line.as_bytes(), "train.jsonl");
            assert!(what.starts_with(message), "{what}\n{message}");
        }
        assert!(
            wrong_kind(br#"{"text": "b", "target": {"span1_text": 1}, "a": 1, "b": 1, "c": 1}"#, "")
                .contains("c, target, target.s")
        );
    }

    #[test]
    fn other_kinds_of_files_are_recognised() {
        let utf_16: Vec<u8> = "{\"context\"".encode_utf16().flat_map(u16::to_le_bytes).collect();
        for (head, message) in [
            (&b"\x1f\x8b\x08\x00"[..], "seems to hold gzip data where text was expected; decompress it"),
            (b"\x28\xb5\x2f\xfd\x00", "seems to hold zstd data"),
            (b"BZh91AY", "seems to hold bzip2 data"),
            (b"PK\x03\x04\x00", "seems to hold zip data"),
            (b"PAR1\x15\x04", "seems to be a Parquet file"),
            (b"\xff\xfe{\x00", "seems to be text in UTF-16"),
            (&utf_16, "seems to be text in UTF-16"),
            (b"a\x00b\x00\x00", "seems to be binary data"),
            (b"caf\xe9 au lait", "is not UTF-8 text (byte 3)"),
            (b" \n", "seems to be empty"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "seems to be a git-lfs pointer"),
            (b"\n<!DOCTYPE html><html>", "seems to be a web page"),
            (b"<?xml version=\"1.0\"?>", "seems to be XML"),
            (b"id\ttext\n1\ta b\n2\tc\n", "seems to be a tab-separated table (TSV)"),
            (b"id,text,label\n1,\"a, b\",0\n", "seems to be a comma-separated table (CSV)"),
        ] {
            let what = wrong_kind(head, "train.jsonl");
            assert!(what.starts_with(message), "{what}\n{message}");
        }
        assert!(wrong_kind(b"one two", "a.TSV").starts_with("seems to be a tab-separated table"));
    }

    #[test]
    fn unknown_files_are_not_guessed() {
        let unknown = [
            "Some prose in mixed case, as people write it.\nAnd one more line of it here.\n",
            "a readme without marks\n",
            r#"{"a": 1}"#,
            "[1, 2]",
            "{",
            "1 One\n2 Two\n3 Three\n",
        ];
        for text in unknown {
            assert_eq!(recognise(TaskName::Cloze, text.as_bytes(), "x"), Recognised::Unknown, "{text}");
        }
    }

    proptest! {
        #[test]
        fn it_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..80), text in "\\PC{0,40}", name in "\\PC{0,6}", at: prop::sample::Index) {
            let _ = recognise(TaskName::Cloze, &bytes, &name);
            let _ = recognise(TaskName::Cloze, text.as_bytes(), &name);
            for (_, sample) in samples() {
                let at = at.index(sample.len());
                let _ = recognise(TaskName::Cloze, &sample.as_bytes()[..at], &name);
                let _ = recognise(TaskName::Cloze, &[&sample.as_bytes()[..at], text.as_bytes(), &sample.as_bytes()[at..]].concat(), &name);
            }
        }
    }
}
