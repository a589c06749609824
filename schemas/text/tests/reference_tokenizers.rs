//! Comparison with the reference implementations in Python on 10,000 strings of many languages: `sentencepiece`, and `tokenizers` and
//! `tiktoken`, which agree.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use glm_schemas::manifest::hex;
use glm_schemas::vocab::{GPT2_VOCABULARY_SHA256, SpecialIds};
use glm_text::tokenize::{GPT2_NAME, Tokenizer, TokenizerError};
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Number of strings of a checksum.
const BLOCK: usize = 100;

/// Outputs of a reference implementation.
#[derive(Deserialize)]
struct Reference {
    /// Ids of the first strings.
    ids: Vec<Vec<i32>>,
    /// First 16 digits of the sha256 of the ids of each block of strings.
    blocks: Vec<String>,
    /// Texts of the first ids, for SentencePiece.
    #[serde(default)]
    decoded: Vec<String>,
    /// sha256 of all texts.
    decoded_sha256: Option<String>,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/golden")
}

fn unzipped(name: &str) -> Vec<u8> {
    let file = std::fs::File::open(fixtures().join("vocabularies").join(name)).expect(name);
    let mut bytes = Vec::new();
    GzDecoder::new(file).read_to_end(&mut bytes).expect(name);
    bytes
}

fn strings() -> Vec<String> {
    serde_json::from_slice(&unzipped("strings.json.gz")).expect("strings")
}

fn references() -> BTreeMap<String, Reference> {
    serde_json::from_slice(&unzipped("ids.json.gz")).expect("ids")
}

fn tokenizer(name: &str) -> Tokenizer {
    match name {
        GPT2_NAME => Tokenizer::gpt2(),
        _ if name.starts_with("sp-") => Tokenizer::from_sentencepiece(name, &unzipped(&format!("{name}.model.gz"))),
        _ => Tokenizer::from_path(&fixtures().join("vocabularies").join(name).join("vocab.json")),
    }
    .expect(name)
}

#[test]
fn strings_of_many_languages_have_the_reference_ids() {
    let strings = strings();
    assert_eq!(strings.len(), 10_000);
    let references = references();
    assert_eq!(references.len(), 8);
    for (name, reference) in &references {
        let tokenizer = tokenizer(name).without_commands();
        let mut session = tokenizer.session();
        let mut decoded = Sha256::new();
        for (block, texts) in strings.chunks(BLOCK).enumerate() {
            let mut hash = Sha256::new();
            for (text, number) in texts.iter().zip(block * BLOCK..) {
                let ids = session.encode(text).expect("encode").ids;
                if let Some(expected) = reference.ids.get(number) {
                    assert_eq!(&ids, expected, "{name}, string {number}: {text:?}");
                }
                let joined: Vec<String> = ids.iter().map(i32::to_string).collect();
                hash.update(joined.join(",") + "\n");
                let back = tokenizer.decode(&ids);
                if let Some(expected) = reference.decoded.get(number) {
                    assert_eq!(&back, expected, "{name}, string {number}");
                }
                if reference.decoded_sha256.is_none() && !text.trim().is_empty() {
                    assert_eq!(&back, text, "{name}, string {number}");
                }
                decoded.update(back + "\0");
            }
            let (found, expected) = (hex(&hash.finalize()), &reference.blocks[block]);
            assert!(found.starts_with(expected.as_str()), "{name}: strings from {} differ", block * BLOCK);
        }
        if let Some(expected) = &reference.decoded_sha256 {
            assert_eq!(&hex(&decoded.finalize()), expected, "{name}: decoded texts differ");
        }
    }
}

#[test]
fn recorded_encodings_of_gpt2_are_the_published_ones() {
    let path = fixtures().join("vocabularies/published_gpt2.json");
    let recorded: Value = serde_json::from_slice(&std::fs::read(path).expect("read")).expect("json");
    let tokenizer = Tokenizer::gpt2().expect("built in");
    let mut session = tokenizer.session();
    let mut count = 0;
    for case in recorded["encodings"].as_array().expect("encodings") {
        let text = case["text"].as_str().expect("text");
        let tokens = session.encode(text).expect("encode");
        assert_eq!(serde_json::json!(tokens.ids), case["ids"], "{text:?}");
        let names: Vec<_> = tokens.ids.iter().map(|&id| tokenizer.token(id).expect("a token")).collect();
        assert_eq!(serde_json::json!(names), case["tokens"], "{text:?}");
        for span in &tokens.spans {
            assert!(text.get(span.clone()).is_some_and(|part| !part.is_empty()), "{text:?}: {span:?}");
        }
        count += 1;
    }
    assert_eq!(count, 15);

    let all: Vec<i32> = (0..50257).collect();
    let found: Vec<i32> = tokenizer.sentence_ends(&all).into_iter().map(|end| end - 1).collect();
    assert_eq!(serde_json::json!(found), recorded["sentence_ends"]);
    assert_eq!((tokenizer.special(), tokenizer.identity().vocab_size), (SpecialIds::GPT2, 50263));
    assert_eq!(tokenizer.identity().name, "gpt2");
}

#[test]
fn a_vocabulary_is_loaded_by_path_and_by_name() {
    let folder = tempfile::tempdir().expect("folder");
    let small = fixtures().join("vocabularies/roberta-small");
    let copy = |from: &str, to: &str| std::fs::copy(small.join(from), folder.path().join(to)).expect("copy");
    copy("vocab.json", "my-vocab.json");
    let path = folder.path().join("my-vocab.json");
    let error = Tokenizer::from_path(&path).expect_err("no merges").to_string();
    assert!(error.ends_with("is a byte-level vocabulary, which needs its merges; put merges.txt next to it"), "{error}");
    copy("merges.txt", "my-merges.txt");
    let roberta = Tokenizer::from_path(&path).expect("loaded");
    let special = roberta.special();
    let named = |id: i32| roberta.token(id).expect("a token");
    assert_eq!([special.cls, special.pad, special.sep, special.unk], [0, 2, 2, 3]);
    assert_eq!((named(special.mask), named(special.sop)), ("[MASK]".to_owned(), "<|startofpiece|>".to_owned()));
    assert_eq!(special.sop, special.mask + 1);
    let ids = roberta.session().encode("[CLS] a [MASK]").expect("encode").ids;
    assert_eq!((ids[0], ids[ids.len() - 1]), (0, special.mask));

    let gpt2 = Tokenizer::load(Some(Path::new("gpt2"))).expect("built in");
    assert_eq!(Tokenizer::built_in(&gpt2.identity().sha256).expect("built in").expect("gpt2").special(), SpecialIds::GPT2);
    assert!(Tokenizer::built_in(GPT2_VOCABULARY_SHA256).expect("none").is_none());
    assert_eq!(Tokenizer::load_recorded(None, Some(gpt2.identity())).expect("gpt2").identity(), gpt2.identity());
    assert_eq!(Tokenizer::load_recorded(None, None).expect("bert").special(), SpecialIds::BERT_UNCASED);
}

#[test]
fn damaged_models_are_errors() {
    let model = unzipped("sp-identity.model.gz");
    let message = |bytes: &[u8]| match Tokenizer::from_sentencepiece("m.model", bytes) {
        Err(TokenizerError::Invalid { reason, .. }) => reason,
        Err(other) => panic!("{other}"),
        Ok(_) => "loaded".to_owned(),
    };
    assert!(message(b"").contains("not a SentencePiece model"));
    assert!(message(b"some text").contains("not a SentencePiece model"));
    for length in (0..model.len()).step_by(97) {
        // A cut between two pieces is a shorter model.
        let reason = message(&model[..length]);
        assert!(
            ["not a SentencePiece model", "no unknown piece", "loaded"].iter().any(|part| reason.contains(part)),
            "{reason}"
        );
    }
    let mut charsmap = unzipped("sp-bpe.model.gz");
    for at in (20_000..charsmap.len()).step_by(5_003) {
        charsmap[at] ^= 0x55;
        if let Ok(tokenizer) = Tokenizer::from_sentencepiece("m.model", &charsmap) {
            tokenizer.session().encode("ＡＢＣ é 한국 ½ が").expect("no panic");
        }
    }
    for (vocabulary, merges, part) in [
        ("{\"a\": 0}", "", "no token for the byte"),
        ("[1]", "", "invalid type"),
        (std::str::from_utf8(&[]).expect("empty"), "", "EOF"),
    ] {
        let error = Tokenizer::from_byte_level("vocab.json", vocabulary.as_bytes(), merges.as_bytes()).expect_err("rejected");
        assert!(error.to_string().contains(part), "{error}");
    }
}

/// Tokenizers of all families, loaded once.
fn all() -> &'static [(&'static str, Tokenizer)] {
    static ALL: std::sync::OnceLock<Vec<(&'static str, Tokenizer)>> = std::sync::OnceLock::new();
    let names =
        ["sp-unigram", "sp-unigram-bytes", "sp-bpe", "sp-bpe-bytes", "sp-identity", "gpt2", "gpt2-small", "roberta-small"];
    ALL.get_or_init(|| names.map(|name| (name, tokenizer(name))).into())
}

/// Files of SentencePiece models, unpacked once.
fn models() -> &'static [Vec<u8>] {
    static MODELS: std::sync::OnceLock<Vec<Vec<u8>>> = std::sync::OnceLock::new();
    let names = ["sp-identity", "sp-unigram", "sp-unigram-bytes", "sp-bpe", "sp-bpe-bytes"];
    MODELS.get_or_init(|| names.map(|name| unzipped(&format!("{name}.model.gz"))).into())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// The file is not trusted: whatever it holds, it is an error or a tokenizer that encodes and decodes every text.
    #[test]
    fn mutated_models_are_errors_or_tokenizers(
        which in 0_usize..5,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
        // Pieces and settings come first; most of the file is the table of characters.
        at_start in any::<bool>(),
        cut in prop::option::weighted(0.1, any::<prop::sample::Index>()),
        inserted in prop::option::weighted(0.2, (any::<prop::sample::Index>(), prop::collection::vec(any::<u8>(), 1..9))),
        text in "([a-z ]|中|渡船|\u{301}|한|ﬁ|½|▁|\\PC){0,40}",
    ) {
        let mut bytes = models()[which].clone();
        let size = if at_start { bytes.len().min(20_000) } else { bytes.len() };
        for (at, byte) in changes {
            bytes[at.index(size)] = byte;
        }
        if let Some((at, new)) = inserted {
            let at = at.index(size);
            bytes.splice(at..at, new);
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(tokenizer) = Tokenizer::from_sentencepiece("m.model", &bytes) {
            let tokens = tokenizer.session().encode(&text).expect("encode");
            prop_assert_eq!(tokens.ids.len(), tokens.spans.len());
            tokenizer.decode(&tokens.ids);
        }
    }
}

proptest! {
    #[test]
    fn texts_come_back(
        text in "([a-zA-Zé ]|[ \t\n\r\u{a0}\u{3000}]|中|文字|\u{301}|\u{200b}|한|ﬁ|İ|🙂|\\PC|'s|[.,'#]|渡船){0,60}",
        cuts in prop::collection::vec(0_usize..60, 0..4),
    ) {
        for (name, tokenizer) in all() {
            let tokens = tokenizer.session().encode(&text).expect("encode");
            prop_assert_eq!(tokens.ids.len(), tokens.spans.len());
            for span in &tokens.spans {
                prop_assert!(text.get(span.clone()).is_some_and(|part| !part.is_empty()), "{} {:?}", name, span);
            }
            for pair in tokens.spans.windows(2) {
                prop_assert!(pair[0].start <= pair[1].start && pair[0].end <= pair[1].end, "{}", name);
            }
            let decoded = tokenizer.decode(&tokens.ids);
            if !name.starts_with("sp-") && !text.trim().is_empty() && !text.contains(['[', '<']) {
                prop_assert_eq!(&decoded, &text, "{}", name);
            }
            // SentencePiece with bytes can write every character; of these, normalization changes only spaces.
            let is_plain = |c: char| c.is_ascii_graphic() || matches!(c, ' ' | '\n' | '中' | '文' | '渡');
            if name.ends_with("-bytes") && text.chars().all(is_plain) && !text.contains(['[', '<']) {
                prop_assert_eq!(decoded, text.split_whitespace().collect::<Vec<_>>().join(" "), "{}", name);
                continue;
            }
            // A stream gives the same text, wherever it is cut into tokens.
            let mut decoder = tokenizer.decoder();
            let mut stream: String = tokens.ids.iter().map(|&id| decoder.push(id)).collect();
            stream += &decoder.finish();
            prop_assert_eq!(&stream, &decoded);
            for &cut in &cuts {
                tokenizer.decode(&tokens.ids[cut.min(tokens.ids.len())..]);
            }
        }
    }

    #[test]
    fn words_encoded_apart_are_the_text_encoded_at_once(
        text in "([a-z]{1,4}|[ ]{1,2}|[\t\n\r]|中文|é|e\u{301}|\u{301}|\u{3099}|か|\u{200b}|ﬁ|½|▁|'s|[.,']|\\PC|[MASK])(([a-z]|[ ]|文){0,12})",
        words in prop::collection::vec("([a-z]{1,4}|[ ]{1,2}|[\t\n\r]|中文|é|e\u{301}|\u{301}|か|ﬁ|½|'s|[.,']|\\PC){1,6}", 0..8),
    ) {
        let text = text + &words.join(" ");
        for (name, tokenizer) in all() {
            let apart = tokenizer.session().encode(&text).expect("encode").ids;
            prop_assert_eq!(&apart, &tokenizer.encode_at_once(&text).expect("encode"), "{}", name);
        }
    }
}
