//! Recorded outputs of the published code's generation, and the models that made them.

use glm_schemas::vocab::SpecialIds;
use glm_tests::fixtures;
use glm_trainer::checkpoint::weights::Weights;
use glm_trainer::generate::{BeamSettings, Context, Filter};
use glm_trainer::model::Glm;
use serde_json::Value;
use tch::{Device, Kind};

/// Reads a file of recorded outputs.
pub(crate) fn golden(name: &str) -> Value {
    let path = fixtures().join("golden/generation").join(name);
    serde_json::from_str(&std::fs::read_to_string(&path).expect("read")).expect("json")
}

/// Cases of a file.
pub(crate) fn cases(value: &Value) -> &[Value] {
    value["cases"].as_array().expect("cases")
}

/// A number.
pub(crate) fn number(value: &Value) -> f64 {
    value.as_f64().expect("number")
}

/// A size.
pub(crate) fn size(value: &Value) -> usize {
    value.as_u64().expect("size") as usize
}

/// Token ids.
pub(crate) fn ids(value: &Value) -> Vec<i32> {
    value.as_array().expect("ids").iter().map(|id| id.as_i64().expect("id") as i32).collect()
}

/// Settings of a case of beam search.
pub(crate) fn settings(case: &Value) -> BeamSettings {
    BeamSettings {
        beams: size(&case["beams"]),
        length_penalty: number(&case["length_penalty"]),
        ngram: size(&case["ngram"]),
        min_length: size(&case["min_length"]),
        max_length: size(&case["max_length"]),
        count_start: false,
        filter: Filter { top_k: case.get("top_k").map_or(0, size), ..Filter::NONE },
    }
}

/// Special ids of the models.
pub(crate) fn special(model: &str) -> SpecialIds {
    match model {
        "full-gen" | "full-vocab" => SpecialIds::BERT_UNCASED,
        _ => SpecialIds { sop: 314, eop: 315, ..SpecialIds::BERT_UNCASED },
    }
}

/// Loads a model for activations of this kind.
pub(crate) fn model(name: &str, kind: Kind, device: Device) -> Glm {
    let (path, heads) = match name {
        "tiny" => ("model/tiny".to_owned(), 4),
        "full-vocab" => ("model/full-vocab".to_owned(), 2),
        "tiny-gen" => ("generation/tiny-gen.safetensors".to_owned(), 4),
        _ => (format!("generation/{name}.safetensors"), 2),
    };
    let weights = Weights::open(&fixtures().join("golden").join(path)).expect("weights");
    let kind = if kind == Kind::Double { Kind::Double } else { Kind::Float };
    let model = Glm::new(&weights.model_config(Some(heads)).expect("sizes"), kind, device).expect("model");
    weights.load_into(model.parameters()).expect("load");
    model
}

/// Context of a case of beam search, with the padding that the published model saw.
pub(crate) fn context(case: &Value) -> Context {
    let special = special(case["model"].as_str().expect("model"));
    let mut ids = ids(&case["context"]);
    let blank = ids.iter().position(|&id| id == special.mask).expect("blank");
    if case["mask_pad"] != true {
        ids.resize(size(&case["src"]), special.pad);
    }
    Context { ids, blanks: vec![blank] }
}
