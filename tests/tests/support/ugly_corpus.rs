//! Raw data that pages must escape, wrap and align.

use std::path::Path;

use glm_tests::training::corpus;
use glm_tests::{command, run};

/// Generates a corpus with one very long passage that requires escaping and contains right-to-left text.
pub(crate) fn ugly_corpus(folder: &Path) {
    corpus(folder);
    let raw = folder.join("ReCoRD/val.jsonl");
    let mut lines = std::fs::read_to_string(&raw).expect("raw data");
    let start = "Zed <script>alert('x')</script> & \"Bo\" met שלום. ";
    let text = format!("{start}{}", "A verylongwordwithoutanybreak".repeat(40));
    let record = serde_json::json!({
        "source": "<b>ugly</b>",
        "idx": 9999,
        "passage": {"text": text, "entities": [{"start": 0, "end": 2}, {"start": 35, "end": 36}]},
        "qas": [{"query": "<i>@placeholder</i> met שלום", "idx": 99_999, "answers": [{"start": 0, "end": 2, "text": "Zed"}]}],
    });
    lines.push_str(&record.to_string());
    lines.push_str("\nnot a record <script>alert('raw')</script>\n");
    std::fs::write(&raw, lines).expect("write");
    let again = run(command("glm-prep").arg("ingest").arg(folder));
    assert_eq!(again.code(), Some(3), "{}", again.stderr());
}
