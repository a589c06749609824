//! Properties that hold for every input of the parsers, shared by the fuzz targets and by `tests/mutants.rs`.

use std::sync::OnceLock;

use glm_prep::source::Content;
use glm_prep::source::formats::FORMATS;
use glm_prep::source::recognise::recognise;
use glm_schemas::manifest::TaskName;
use glm_schemas::seq2seq::encoding::{PairEncoder, PairLayout};
use glm_text::pair::{PART_END, PairText, Template};
use glm_text::standard::CharOffsets;
use glm_text::tokenize::Tokenizer;

/// Recognising any bytes never panics; parsing any text as questions gives valid passages or an error.
pub(crate) fn questions(bytes: &[u8]) {
    for task in TaskName::ALL {
        let _ = recognise(task, bytes, "train.jsonl");
    }
    let Ok(record) = std::str::from_utf8(bytes) else { return };
    for format in FORMATS {
        let Content::Questions(format) = format.content() else { continue };
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
}

/// Parsing any text as documents gives documents with a text, or an error.
pub(crate) fn documents(bytes: &[u8]) {
    let Ok(record) = std::str::from_utf8(bytes) else { return };
    for format in FORMATS {
        let Content::Documents(documents) = format.content() else { continue };
        // Further fields are read of records without an error only.
        let Ok(documents) = documents.documents(record) else { continue };
        for document in documents.into_iter().flatten() {
            assert!(!document.text.trim().is_empty(), "{}", format.name());
        }
        if format.has_extra_fields()
            && let Some(extra) = format.extra_fields(record)
        {
            assert!(serde_json::from_str::<serde_json::Map<_, _>>(&extra).is_ok(), "{}: {extra}", format.name());
        }
    }
}

/// Parsing any text as pairs gives pairs that can be encoded for any length, or an error.
pub(crate) fn pairs(bytes: &[u8]) {
    static TOKENIZER: OnceLock<Tokenizer> = OnceLock::new();
    let tokenizer = TOKENIZER.get_or_init(|| Tokenizer::bert_uncased().expect("built in"));
    let Ok(record) = std::str::from_utf8(bytes) else { return };
    for format in FORMATS {
        let Content::Pairs(pairs) = format.content() else { continue };
        for labelled in [false, true] {
            for pair in pairs.pairs(record, labelled).into_iter().flatten() {
                let name = format.name();
                let target = pair.target.as_deref().unwrap_or_default();
                if pair.template == Template::Blanks && pair.target.is_some() {
                    assert_eq!(target.split(PART_END).count(), pair.source.matches("[MASK]").count(), "{name}: {pair:?}");
                }
                let text = PairText { source: &pair.source, prompt: &pair.prompt, target };
                let Ok(tokens) = pair.template.tokens(&mut tokenizer.session(), &text) else { continue };
                for (max_source, max_target) in [(512, 64), (16, 3), (4, 1)] {
                    for layout in [PairLayout::Compact, PairLayout::Published] {
                        let encoder = PairEncoder::new(tokenizer.special(), max_source, max_target, layout);
                        let pair = tokens.as_pair();
                        let Ok(input) = encoder.encode(&pair) else { continue };
                        let size = encoder.size(&pair).expect("it was encoded");
                        assert_eq!((input.sep, input.targets.len()), (size.context, size.targets), "{name}");
                        assert!(input.sep <= max_source && (1..=max_target).contains(&input.targets.len()), "{name}");
                        for &position in &input.position[input.sep..] {
                            assert_eq!(input.ids[position as usize], tokenizer.special().mask, "{name}");
                        }
                    }
                }
            }
        }
    }
}
