//! Which format a file has, by its beginning.
//!
//! JSON is told apart by the keys of its first value, collected as paths such as `passage.text` and `data[].passage`; everything
//! else by its shape. Where a file is of a known kind that is no cloze data, [`Recognised::Wrong`] says which.

mod bytes;
mod keys;

use std::fmt;

use bytes::{begins_with_a_good_line, not_text};
use clap::ValueEnum;
use keys::Keys;
use serde::de::IgnoredAny;

use super::Format;
use super::cbt::{self, Cbt};
use super::cloth::Cloth;
use super::lambada::Lambada;
use super::original_record::OriginalRecord;
use super::plain::Plain;
use super::record::Record;

/// Longer keys are no field names.
const MAX_KEY_BYTES: usize = 60;
/// Fewer words make no passage of LAMBADA.
const MIN_PROSE_WORDS: usize = 8;

/// The formats that can be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, ValueEnum)]
pub enum FormatName {
    /// ReCoRD as SuperGLUE publishes it, one object a line
    #[default]
    Record,
    /// ReCoRD as its authors publish it, one document
    OriginalRecord,
    /// CLOTH, one document a file
    Cloth,
    /// LAMBADA, one passage a line
    Lambada,
    /// Children's Book Test, blocks of 21 lines
    Cbt,
    /// One {"context", "choices", "answer"} a line
    Plain,
}

impl FormatName {
    /// How it is read.
    pub fn format(self) -> &'static dyn Format {
        match self {
            Self::Record => &Record,
            Self::OriginalRecord => &OriginalRecord,
            Self::Cloth => &Cloth,
            Self::Lambada => &Lambada,
            Self::Cbt => &Cbt,
            Self::Plain => &Plain,
        }
    }
}

/// As it is written on the command line.
impl fmt::Display for FormatName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Record => "record",
            Self::OriginalRecord => "original-record",
            Self::Cloth => "cloth",
            Self::Lambada => "lambada",
            Self::Cbt => "cbt",
            Self::Plain => "plain",
        })
    }
}

/// What a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recognised {
    /// Data of a format that can be read.
    Format(FormatName),
    /// Something known that cannot: what it seems to be, and what to do about it. The words follow the name of the file.
    Wrong(String),
    /// Nothing known.
    Unknown,
}

/// Tells what a file is. `head` is its beginning, unpacked: the whole file, or better 64 KiB of it; what is cut off at its end
/// does not matter.
pub fn recognise(head: &[u8], file_name: &str) -> Recognised {
    if let Some(wrong) = not_text(head) {
        return Recognised::Wrong(wrong);
    }
    // The beginning may end in the middle of a character.
    let valid = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(e) if e.error_len().is_none() => std::str::from_utf8(&head[..e.valid_up_to()]).unwrap_or_default(),
        // A bad line among good ones is rejected by itself, with its number.
        Err(e) if begins_with_a_good_line(&head[..e.valid_up_to()]) => {
            std::str::from_utf8(&head[..e.valid_up_to()]).unwrap_or_default()
        }
        Err(e) => {
            let position = e.valid_up_to();
            return wrong(format!("is not UTF-8 text (byte {position}); convert it to UTF-8, if it is text at all"));
        }
    };
    let text = valid.strip_prefix('\u{feff}').unwrap_or(valid);
    let start = text.trim_start();
    if start.is_empty() {
        return wrong("seems to be empty".to_owned());
    }
    if start.starts_with("version https://git-lfs.github.com/") {
        return wrong("seems to be a pointer of git-lfs, not the data itself; fetch the data with `git lfs pull`".to_owned());
    }
    let tag = |tag: &str| start.get(..tag.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(tag));
    if tag("<!doctype") || tag("<html") || tag("<head") {
        return wrong("seems to be a web page, perhaps the page of a failed download; fetch the data again".to_owned());
    }
    if tag("<?xml") {
        return wrong(format!("seems to be XML, {INSTEAD}"));
    }
    if start.starts_with(['{', '[']) { json(start) } else { lines(text, file_name) }
}

/// What can be done about data of another kind.
const INSTEAD: &str =
    "not cloze data in a known format; write it as lines of {\"context\", \"choices\", \"answer\"} (format `plain`)";

fn wrong(what: String) -> Recognised {
    Recognised::Wrong(what)
}

/// What JSON is, by the keys of its first value.
fn json(text: &str) -> Recognised {
    let keys = Keys::of_first_value(text);
    let one_object = |name: FormatName| {
        if spreads_over_lines(text) {
            return wrong(format!(
                "seems to be `{name}` data, but its first object is spread over several lines; {ONE_A_LINE}"
            ));
        }
        Recognised::Format(name)
    };
    if let Some(name) = keys.inside("[].").line_format() {
        return wrong(format!("seems to be `{name}` data in one JSON list; {ONE_EACH}"));
    }
    if keys.has("data[].passage") || keys.has("data[].qas") {
        return Recognised::Format(FormatName::OriginalRecord);
    }
    if keys.all(&["data[].context", "data[].choices"]) {
        return wrong(format!("seems to be CMRC 2019, which has many blanks in a text and is not read; {ONE_BLANK}"));
    }
    if let Some(other) = keys.other_task() {
        return wrong(format!("seems to be {other} ({}), not cloze data", keys.shown()));
    }
    if keys.has("article") && keys.has("options") {
        return Recognised::Format(FormatName::Cloth);
    }
    keys.line_format().map_or(Recognised::Unknown, one_object)
}

const ONE_BLANK: &str = "write one blank a line in format `plain`";
const ONE_A_LINE: &str = "write one object a line, for example with `jq -c .`";
const ONE_EACH: &str = "write one object a line, for example with `jq -c '.[]'`";

/// Whether the first line is not a whole value, and there are more lines.
fn spreads_over_lines(text: &str) -> bool {
    let Some((first, _)) = text.split_once('\n') else { return false };
    serde_json::from_str::<IgnoredAny>(first).is_err_and(|e| e.is_eof())
}

/// What text that is no JSON is, by the shape of its lines.
fn lines(text: &str, file_name: &str) -> Recognised {
    // The last line may be cut, so it counts only where it is the only one.
    let whole = match text.rsplit_once('\n') {
        Some((whole, _)) if !whole.trim().is_empty() => whole,
        _ => text,
    };
    let lines: Vec<_> = whole.lines().filter(|line| !line.trim().is_empty()).collect();
    if is_cbt(&lines) {
        return Recognised::Format(FormatName::Cbt);
    }
    let named = |extension: &str| {
        let end = file_name.len().checked_sub(extension.len()).and_then(|at| file_name.get(at..));
        end.is_some_and(|end| end.eq_ignore_ascii_case(extension))
    };
    if named(".tsv") || is_table(&lines, '\t') {
        return wrong(format!("seems to be a table with tabs (TSV), {INSTEAD}"));
    }
    if named(".csv") || is_table(&lines, ',') {
        return wrong(format!("seems to be a table with commas (CSV), {INSTEAD}"));
    }
    if lines.iter().all(|line| is_tokenized_prose(line)) {
        Recognised::Format(FormatName::Lambada)
    } else {
        Recognised::Unknown
    }
}

/// Whether the lines begin with a whole block, numbers and question.
fn is_cbt(lines: &[&str]) -> bool {
    lines.get(..cbt::LINES).is_some_and(|block| {
        let numbered = block.iter().zip(1..).all(|(line, number)| cbt::without_number(line, number).is_some());
        numbered && block.last().is_some_and(|question| question.contains(cbt::BLANK) && question.contains('\t'))
    })
}

/// Whether all lines have the same number of fields and the first one could be a head of names.
fn is_table(lines: &[&str], separator: char) -> bool {
    let Some(head) = lines.first() else { return false };
    let name =
        |field: &str| field.len() <= MAX_KEY_BYTES && field.chars().all(|c| c.is_alphanumeric() || "_-.\" #".contains(c));
    let separators = head.matches(separator).count();
    let fields = if separator == '\t' {
        lines.iter().all(|line| line.matches(separator).count() == separators)
    } else {
        // Commas stand in texts too: only a head whose names have no spaces tells a table.
        !head.trim().contains(' ')
    };
    separators > 0 && lines.len() > 1 && fields && (separator == '\t' || head.split(separator).all(name))
}

/// Whether a line looks like text in lower case that is split at spaces, as LAMBADA is.
fn is_tokenized_prose(line: &str) -> bool {
    let words = line.split_whitespace();
    let lower = line.chars().any(char::is_lowercase) && !line.chars().any(char::is_uppercase);
    let marks = words.clone().any(|word| matches!(word, "." | "," | "?" | "!" | ";"));
    lower && marks && !line.contains('\t') && words.count() >= MIN_PROSE_WORDS
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LAMBADA: &str = "the baker set a loaf on the sill . soon there came rosa\n";

    fn cbt() -> String {
        let sentences = (1..cbt::LINES).map(|number| format!("{number} The fox met a hare .\n"));
        format!("{}21 Run , XXXXX !\thare\t\tfox|hare\n\n1 Next", sentences.collect::<String>())
    }

    fn samples() -> Vec<(FormatName, String)> {
        use FormatName as F;
        let record = r#"{"source": "own", "passage": {"text": "Bo ran.", "entities": [{"start": 0, "end": 1}]}, "qas": [{"query": "@placeholder sat", "idx": 0}], "idx": 0}"#;
        let original =
            r#"{"version": "1.0", "data": [{"id": "0a", "passage": {"text": "Bo ran.", "entities": []}, "qas": []}]}"#;
        let cloth = "{\"article\": \"It _ .\",\n \"options\": [[\"is\", \"was\", \"did\", \"had\"]], \"answers\": [\"A\"]}";
        let plain = r#"{"context": "A [BLANK].", "choices": ["cat", "dog"], "answer": 0}"#;
        vec![
            (F::Record, format!("{record}\n{record}\n")),
            (F::OriginalRecord, original.to_owned()),
            (F::OriginalRecord, original.replace(", ", ",\n  ")),
            (F::Cloth, cloth.to_owned()),
            (F::Lambada, LAMBADA.repeat(3)),
            (F::Lambada, r#"{"text": "any words at all"}"#.to_owned()),
            (F::Cbt, cbt()),
            (F::Plain, format!("\u{feff}{plain}\n{plain}\n")),
        ]
    }

    fn said(head: &[u8], file_name: &str) -> String {
        match recognise(head, file_name) {
            Recognised::Wrong(what) => what,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_format_is_recognised_and_parses_what_was_recognised() {
        for (name, text) in samples() {
            assert_eq!(recognise(text.as_bytes(), "x.txt"), Recognised::Format(name), "{text}");
        }
        let plain = FormatName::Plain.format().parse(r#"{"context": "A [BLANK].", "choices": ["cat"]}"#, false);
        assert_eq!(plain.map(|passages| passages.len()), Ok(1));
    }

    #[test]
    fn a_cut_beginning_is_enough() {
        let long = "Bo ran. Wé ran. ".repeat(4_500);
        let record = format!(r#"{{"source": "own", "passage": {{"entities": [], "text": "{long}"#);
        assert_eq!(recognise(&record.as_bytes()[..64 << 10], "x"), Recognised::Format(FormatName::Record));
        let original = format!(r#"{{"data": [{{"passage": {{"text": "{long}"#);
        for cut in [40, 60 << 10, (60 << 10) + 1, (60 << 10) + 2] {
            assert_eq!(recognise(&original.as_bytes()[..cut], "x"), Recognised::Format(FormatName::OriginalRecord));
        }
    }

    #[test]
    fn names_are_written_as_on_the_command_line() {
        for name in FormatName::value_variants() {
            let value = name.to_possible_value().expect("none is hidden");
            assert_eq!(value.get_name(), name.to_string());
            assert!(!name.format().name().is_empty());
        }
    }

    #[test]
    fn other_tasks_are_named_by_their_keys() {
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
            (r#"[{"context": "a", "choices": ["b"]}]"#, "seems to be `plain` data in one JSON list; write one object a line"),
            ("{\"context\": \"a\",\n\"choices\": [\"b\"]}", "seems to be `plain` data, but its first object is spread"),
        ] {
            let what = said(line.as_bytes(), "train.jsonl");
            assert!(what.starts_with(message), "{what}\n{message}");
        }
        assert!(
            said(br#"{"text": "b", "target": {"span1_text": 1}, "a": 1, "b": 1, "c": 1}"#, "").contains("c, target, target.s")
        );
    }

    #[test]
    fn what_is_no_data_is_named() {
        let utf_16: Vec<u8> = "{\"context\"".encode_utf16().flat_map(u16::to_le_bytes).collect();
        for (head, message) in [
            (&b"\x1f\x8b\x08\x00"[..], "seems to hold gzip data where text was expected; unpack it"),
            (b"\x28\xb5\x2f\xfd\x00", "seems to hold zstd data"),
            (b"BZh91AY", "seems to hold bzip2 data"),
            (b"PK\x03\x04\x00", "seems to hold zip data"),
            (b"PAR1\x15\x04", "seems to be a Parquet file"),
            (b"\xff\xfe{\x00", "seems to be text in UTF-16"),
            (&utf_16, "seems to be text in UTF-16"),
            (b"a\x00b\x00\x00", "seems to be binary data"),
            (b"caf\xe9 au lait", "is not UTF-8 text (byte 3)"),
            (b" \n", "seems to be empty"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "seems to be a pointer of git-lfs"),
            (b"\n<!DOCTYPE html><html>", "seems to be a web page"),
            (b"<?xml version=\"1.0\"?>", "seems to be XML"),
            (b"id\ttext\n1\ta b\n2\tc\n", "seems to be a table with tabs (TSV)"),
            (b"id,text,label\n1,\"a, b\",0\n", "seems to be a table with commas (CSV)"),
        ] {
            let what = said(head, "train.jsonl");
            assert!(what.starts_with(message), "{what}\n{message}");
        }
        assert!(said(b"one two", "a.TSV").starts_with("seems to be a table with tabs"));
    }

    #[test]
    fn what_is_not_known_is_not_guessed() {
        let unknown = [
            "Some prose in mixed case, as people write it.\nAnd one more line of it here.\n",
            "a readme without marks\n",
            r#"{"a": 1}"#,
            "[1, 2]",
            "{",
            "1 One\n2 Two\n3 Three\n",
        ];
        for text in unknown {
            assert_eq!(recognise(text.as_bytes(), "x"), Recognised::Unknown, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..80), text in "\\PC{0,40}", name in "\\PC{0,6}", at: prop::sample::Index) {
            let _ = recognise(&bytes, &name);
            let _ = recognise(text.as_bytes(), &name);
            for (_, sample) in samples() {
                let at = at.index(sample.len());
                let _ = recognise(&sample.as_bytes()[..at], &name);
                let _ = recognise(&[&sample.as_bytes()[..at], text.as_bytes(), &sample.as_bytes()[at..]].concat(), &name);
            }
        }
    }
}
