//! Any text is either good passages of a format or an error, and any bytes are recognised as something; never a panic.
//!
//! `cargo +nightly fuzz run formats` in `pipeline/`.

#![no_main]

use clap::ValueEnum;
use glm_prep::source::recognise::{FormatName, recognise};
use glm_text::standard::CharOffsets;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = recognise(bytes, "train.jsonl");
    let Ok(record) = std::str::from_utf8(bytes) else { return };
    for format in FormatName::value_variants() {
        for labelled in [false, true] {
            let Ok(passages) = format.format().parse(record, labelled) else { continue };
            for passage in passages {
                let offsets = CharOffsets::new(&passage.text);
                for &mention in &passage.mentions {
                    assert!(offsets.slice(mention).is_some_and(|text| !text.is_empty()));
                }
                assert!(passage.candidates.is_sorted());
                for question in passage.questions.iter().flatten() {
                    assert!(!question.text[question.blank.clone()].is_empty());
                    assert!(question.answers.iter().all(|&answer| answer < passage.candidates.len()));
                    assert!(!labelled || !question.answers.is_empty());
                }
            }
        }
    }
});
