//! Published outputs of the tasks of SuperGLUE.

use glm_tests::fixtures;
use serde_json::Value;

/// Content of a file of published outputs.
pub(crate) fn golden(name: &str) -> Vec<Value> {
    let path = fixtures().join("golden/superglue").join(name);
    serde_json::from_str(&std::fs::read_to_string(path).expect("read")).expect("json")
}

pub(crate) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("{key} in {value}"))
}

pub(crate) fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("a number instead of {value}"))
}

pub(crate) fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap_or_else(|| panic!("a list instead of {value}")).iter().map(number).collect()
}

/// Folder of the raw data of a run.
pub(crate) fn raw(published: &Value) -> &str {
    match published["folder"].as_str() {
        Some(folder) => folder,
        None => match (text(published, "task"), text(published, "mode")) {
            ("boolq", _) => "BoolQ",
            ("cb", _) => "CB",
            ("copa", _) => "COPA",
            ("multirc", _) => "MultiRC",
            ("rte", _) => "RTE",
            ("wic", _) => "WiC",
            (_, "candidates") => "WSC-negative",
            _ => "WSC",
        },
    }
}
