//! Detects the format of JSON by its keys.

use glm_schemas::manifest::TaskName;
use serde::de::IgnoredAny;

use super::{FormatName, Recognised, wrong};
use crate::source::format::Framing;
use crate::source::formats::near_miss::meant_as;
use crate::source::head::{Head, Keys};

const ONE_BLANK: &str = "write one blank per line in format `plain`";
const ONE_PER_LINE: &str = "write one object per line, for example with `jq -c .`";
const ONE_PER_ELEMENT: &str = "write one object per line, for example with `jq -c '.[]'`";
/// Maximum number of lines that are looked at.
const LINES: usize = 20;

fn is_lines(name: &FormatName) -> bool {
    name.format().framing() == Framing::Lines
}

/// Returns the format that at least half of the first lines have, each an object. Lines that are not text or not JSON count as lines
/// of no format.
pub(super) fn format_of_lines(task: TaskName, head: &[u8]) -> Option<FormatName> {
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    if begins_a_list(head) || std::str::from_utf8(head).is_ok_and(spreads_over_lines) {
        return None;
    }
    let lines: Vec<_> =
        head.split_inclusive(|&byte| byte == b'\n').filter(|line| !line.trim_ascii().is_empty()).take(LINES).collect();
    let formats: Vec<_> = lines.iter().map(|line| format_of_line(task, line)).collect();
    let votes = |name: FormatName| formats.iter().filter(|&&format| format == Some(name)).count();
    let mut best: Option<(FormatName, usize)> = None;
    for &name in formats.iter().flatten() {
        let votes = votes(name);
        if best.is_none_or(|(_, most)| votes > most) {
            best = Some((name, votes));
        }
    }
    best.filter(|(_, votes)| 2 * votes >= lines.len()).map(|(name, _)| name)
}

/// Returns true if the file is a list; a list on a line of its own is only a bad line.
fn begins_a_list(head: &[u8]) -> bool {
    let head = head.trim_ascii_start();
    let first = head.split(|&byte| byte == b'\n').next().unwrap_or(head);
    head.starts_with(b"[") && (first.len() == head.len() || serde_json::from_slice::<IgnoredAny>(first).is_err())
}

fn format_of_line(task: TaskName, line: &[u8]) -> Option<FormatName> {
    let text = match std::str::from_utf8(line) {
        Ok(text) => text,
        // The beginning of the file may end within a character.
        Err(error) if error.error_len().is_none() => std::str::from_utf8(&line[..error.valid_up_to()]).unwrap_or_default(),
        Err(_) => return None,
    };
    // The beginning of the file may end within a line; all lines before it are complete.
    let is_cut_off = text.ends_with('\n') && serde_json::from_str::<IgnoredAny>(text).is_err();
    if !text.trim_start().starts_with('{') || is_cut_off {
        return None;
    }
    let keys = Keys::of_first_value(text);
    if task == TaskName::Cloze && other_task(&keys).is_some() {
        return None;
    }
    FormatName::detect(task, &Head::Json(keys)).filter(is_lines)
}

/// Returns true if the first value begins on the first line and ends, or is cut off, on a later one.
fn spreads_over_lines(text: &str) -> bool {
    let text = text.trim_start();
    let Some((first, rest)) = text.split_once('\n') else { return false };
    let mut whole = serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>();
    // A line that was cut off is followed by another value, which is a syntax error in the middle of the first.
    let is_one_value = whole.next().is_some_and(|value| value.map_or_else(|error| error.is_eof(), |_| true));
    !rest.trim().is_empty() && is_one_value && serde_json::from_str::<IgnoredAny>(first).is_err_and(|error| error.is_eof())
}

/// Returns the fields to rename if the keys are those of plain data under other names: choices, and a context or an answer.
fn near_misses(keys: &Keys) -> Vec<String> {
    let renamed: Vec<_> = keys.top().filter_map(|key| Some((key, meant_as(key)?))).collect();
    let has = |field: &str| keys.has(field) || renamed.iter().any(|&(_, meant)| meant == field);
    if !has("choices") || !(has("context") || has("answer")) {
        return Vec::new();
    }
    let mut named = Vec::new();
    let mut fields = Vec::new();
    for (key, field) in renamed.into_iter().filter(|(_, field)| !keys.has(field)) {
        if !fields.contains(&field) {
            fields.push(field);
            let note = if field == "context" { " (with one [BLANK])" } else { "" };
            named.push(format!("`{key}` to `{field}`{note}"));
        }
    }
    named
}

/// Classifies JSON by the keys of its first value.
pub(super) fn classify(task: TaskName, text: &str) -> Recognised {
    let keys = Keys::of_first_value(text);
    if let Some(name) = FormatName::detect(task, &Head::Json(keys.inside("[]."))).filter(is_lines) {
        return wrong(format!("seems to be `{name}` data in one JSON array; {ONE_PER_ELEMENT}"));
    }
    match task {
        TaskName::Cloze => {}
        TaskName::Text => return classify_as(task, keys, text, "documents", "the field of the text to `text`"),
        TaskName::Seq2seq => {
            let rename = "the fields of the texts to `source` and `target`";
            return classify_as(task, keys, text, "pairs", rename);
        }
    }
    if keys.has_all(&["data[].context", "data[].choices"]) {
        return wrong(format!("seems to be CMRC 2019, which has several blanks per text and is not supported; {ONE_BLANK}"));
    }
    if let Some(other) = other_task(&keys) {
        let by_pattern = "not cloze data by itself; give --task NAME if `glm-prep patterns` lists the task";
        return wrong(format!("seems to be {other} ({}), {by_pattern}", keys.summary()));
    }
    let near_misses = near_misses(&keys);
    match FormatName::detect(task, &Head::Json(keys)) {
        Some(name) if is_lines(&name) && spreads_over_lines(text) => {
            wrong(format!("seems to be `{name}` data, but its first object spans several lines; {ONE_PER_LINE}"))
        }
        Some(name) => Recognised::Format(name),
        None if !near_misses.is_empty() => {
            wrong(format!("seems to be meant as `plain` data; rename {}", near_misses.join(", ")))
        }
        None => Recognised::Unknown,
    }
}

/// Classifies JSON that is to hold `rows` of a task; `rename` has the fields to rename if it does not.
fn classify_as(task: TaskName, keys: Keys, text: &str, rows: &str, rename: &str) -> Recognised {
    let summary = keys.summary();
    match FormatName::detect(task, &Head::Json(keys)) {
        Some(name) if is_lines(&name) && spreads_over_lines(text) => {
            wrong(format!("seems to be `{name}` data, but its first object spans several lines; {ONE_PER_LINE}"))
        }
        Some(name) => Recognised::Format(name),
        None => wrong(format!("seems to be JSON without {rows} ({summary}); rename {rename}")),
    }
}

/// Returns the task of data that is not cloze, by keys that no cloze data has.
fn other_task(keys: &Keys) -> Option<&'static str> {
    const TASKS: [(&[&str], &str); 11] = [
        (&["passage.questions"], "SuperGLUE MultiRC"),
        (&["premise", "choice1", "choice2"], "SuperGLUE COPA"),
        (&["premise", "hypothesis"], "SuperGLUE CB, RTE or AX-g, or another entailment task"),
        (&["word", "sentence1", "sentence2"], "SuperGLUE WiC"),
        (&["text", "target.span1_text"], "SuperGLUE WSC"),
        (&["sentence1", "sentence2"], "SuperGLUE AX-b, or another sentence-pair task"),
        (&["data[].paragraphs"], "SQuAD"),
        (&["context", "question", "answers.answer_start"], "SQuAD"),
        (&["article", "questions"], "RACE"),
        (&["article", "question", "options"], "RACE"),
        (&["sentence", "option1", "option2"], "WinoGrande"),
    ];
    // The passage of BoolQ is a string, that of MultiRC and ReCoRD an object.
    if keys.has_all(&["passage", "question"]) && keys.inside("passage.").has_only(&[]) {
        return Some("SuperGLUE BoolQ");
    }
    TASKS.iter().find(|(paths, _)| keys.has_all(paths)).map(|&(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = "{\"context\": \"A [BLANK].\", \"choices\": [\"a\", \"b\"], \"answer\": 0}\n";

    #[test]
    fn a_bad_line_does_not_matter() {
        let plain = FormatName::named("plain");
        for bad in
            [&b"{\"context\": \"A [BLANK"[..], b"garbage", b"{\"context\": \"caf\xe9\"}", b"{}", b"[1]", b"\xff", b"{\"a\": 1}"]
        {
            let good = PLAIN.repeat(3);
            assert_eq!(
                format_of_lines(TaskName::Cloze, &[bad, b"\n", good.as_bytes()].concat()),
                plain,
                "{}",
                String::from_utf8_lossy(bad)
            );
            assert_eq!(format_of_lines(TaskName::Cloze, &[PLAIN.as_bytes(), bad, b"\n"].concat()), plain);
            assert_eq!(format_of_lines(TaskName::Cloze, &[PLAIN.as_bytes(), bad, b"\n", bad, b"\n"].concat()), None);
        }
        let cut = &PLAIN.as_bytes()[..PLAIN.len() - 5];
        assert_eq!(format_of_lines(TaskName::Cloze, cut), plain, "the only line may be cut off");
        assert_eq!(format_of_lines(TaskName::Cloze, format!("[{PLAIN},{PLAIN}]").as_bytes()), None);
        assert_eq!(format_of_lines(TaskName::Cloze, PLAIN.replace(", \"answer\"", ",\n\"answer\"").as_bytes()), None);
    }

    #[test]
    fn other_names_of_the_fields_are_named() {
        for (line, message) in [
            (
                r#"{"question": "a", "options": ["b"], "label": 0}"#,
                "rename `label` to `answer`, `options` to `choices`, `question` to `context` (with one [BLANK])",
            ),
            (r#"{"context": "a", "options": ["b"], "answer": 0}"#, "rename `options` to `choices`"),
            (r#"{"Context": "a", "choices": ["b"], "label": 0}"#, "rename `Context` to `context` (with one [BLANK])"),
        ] {
            let Recognised::Wrong(what) = classify(TaskName::Cloze, line) else { panic!("{line}") };
            assert!(what.starts_with(&format!("seems to be meant as `plain` data; {message}")), "{what}");
        }
        assert_eq!(classify(TaskName::Cloze, r#"{"text": "a", "label": 1}"#), Recognised::Unknown);
    }
}
