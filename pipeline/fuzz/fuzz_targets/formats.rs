//! Parsing any text in any format returns valid passages or an error, and recognising any bytes never panics.
//!
//! `cargo +nightly fuzz run formats` in `pipeline/`.

#![no_main]

use glm_prep::source::Content;
use glm_prep::source::formats::FORMATS;
use glm_prep::source::recognise::recognise;
use glm_schemas::manifest::TaskName;
use glm_text::standard::CharOffsets;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for task in TaskName::ALL {
        let _ = recognise(task, bytes, "train.jsonl");
    }
    let Ok(record) = std::str::from_utf8(bytes) else { return };
    for format in FORMATS {
        let format = match format.content() {
            Content::Questions(format) => format,
            Content::Documents(format) => {
                for document in format.documents(record).into_iter().flatten().flatten() {
                    assert!(!document.text.trim().is_empty());
                }
                continue;
            }
        };
        for labelled in [false, true] {
            let Ok(passages) = format.parse(record, labelled) else { continue };
            for passage in passages {
                let offsets = CharOffsets::new(&passage.text);
                for &mention in &passage.mentions {
                    assert!(offsets.slice(mention).is_some_and(|text| !text.is_empty()));
                }
                assert!(passage.candidates.is_sorted());
                for question in passage.questions.iter().flatten() {
                    assert_eq!(&question.text[question.blank.clone()], format.blank());
                    assert!(question.answers.iter().all(|&answer| answer < passage.candidates.len()));
                    assert!(!labelled || !question.answers.is_empty());
                }
            }
        }
    }
});
