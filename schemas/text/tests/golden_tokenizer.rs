//! Comparison with the published tokenizer on hard strings.

use std::path::{Path, PathBuf};

use glm_text::tokenize::Tokenizer;
use serde_json::Value;

/// Strings with code points that are missing or different in the Unicode tables of the published tokenizer.
const NEWER_CODE_POINTS: [&str; 2] = ["\u{1fae8} \u{1fae9} \u{1face}", "\u{d7ff}"];

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/golden/tokenizer").join(name)
}

#[test]
fn hard_strings_have_the_published_ids() {
    let path = golden("cases.json");
    let cases: Value = serde_json::from_slice(&std::fs::read(path).expect("cases")).expect("json");
    let tokenizer = Tokenizer::bert_uncased().expect("built in");
    let mut session = tokenizer.session();
    let mut differing = Vec::new();
    let cases = cases.as_array().expect("a list");
    assert_eq!(cases.len(), 66);
    for case in cases {
        let text = case["text"].as_str().expect("text");
        let expected: Vec<i32> =
            case["ids"].as_array().expect("ids").iter().map(|id| id.as_i64().expect("id") as i32).collect();
        if session.encode(text).expect("encode").ids != expected {
            differing.push(text);
        }
    }
    assert_eq!(differing, NEWER_CODE_POINTS);
}

#[test]
fn newer_code_points_differ_as_listed() {
    let path = golden("codepoint_differences.json");
    let listed: Value = serde_json::from_slice(&std::fs::read(path).expect("differences")).expect("json");
    let tokenizer = Tokenizer::bert_uncased().expect("built in");
    let mut session = tokenizer.session();
    let examples = listed["examples"].as_object().expect("examples");
    assert_eq!(examples.len(), 400);
    for (code_point, ids) in examples {
        // Each example is a code point inside, separate from and after letters: the published ids, then the expected ones.
        let c = char::from_u32(u32::from_str_radix(code_point, 16).expect("hexadecimal")).expect("a code point");
        let expected: Vec<i32> = ids[1].as_array().expect("ids").iter().map(|id| id.as_i64().expect("id") as i32).collect();
        assert_eq!(session.encode(&format!("a{c}b {c} x{c}")).expect("encode").ids, expected, "U+{code_point}");
    }
}
