//! Parsing any line as ReCoRD returns one passage with valid spans or an error, and never panics.
//!
//! `cargo +nightly fuzz run record` in `pipeline/`.

#![no_main]

use glm_prep::source::ClozeFormat;
use glm_prep::source::formats::record::Record;
use glm_text::standard::CharOffsets;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|line: &str| {
    for labelled in [false, true] {
        let Ok(passages) = Record.parse(line, labelled) else { continue };
        let [passage] = passages.as_slice() else { panic!("ReCoRD has one passage per line") };
        let offsets = CharOffsets::new(&passage.text);
        for &mention in &passage.mentions {
            assert!(offsets.slice(mention).is_some_and(|text| !text.is_empty()));
        }
        assert!(passage.candidates.is_sorted());
        for question in passage.questions.iter().flatten() {
            assert_eq!(&question.text[question.blank.clone()], glm_text::question::PLACEHOLDER);
            assert!(question.answers.iter().all(|&answer| answer < passage.candidates.len()));
            assert_eq!(question.answers.is_empty(), !labelled);
        }
    }
});
