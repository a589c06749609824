//! Tests of loading tokenizers.

use super::*;

#[test]
fn the_built_in_vocabulary_has_the_published_ids() {
    let tokenizer = Tokenizer::bert_uncased().expect("built in");
    assert_eq!(tokenizer.special(), SpecialIds::BERT_UNCASED);
    assert_eq!(tokenizer.identity().name, BERT_UNCASED_NAME);
    assert_eq!(tokenizer.identity().sha256, BERT_UNCASED_SHA256);
    assert_eq!(tokenizer.identity().vocab_size, 30524);
    assert_eq!(tokenizer.token(30522).as_deref(), Some("<|startofpiece|>"));
}

#[test]
fn a_vocabulary_without_special_tokens_is_rejected() {
    let error = Tokenizer::from_vocabulary("v.txt", b"[PAD]\n[UNK]\n[SEP]\nthe\n").expect_err("rejected").to_string();
    assert_eq!(
        error,
        "the vocabulary v.txt lacks the special tokens [CLS], [MASK]; use one with [PAD], [UNK], [CLS], [SEP] and [MASK]"
    );
    assert!(matches!(Tokenizer::from_vocabulary("v.txt", b"\xff\xfe"), Err(TokenizerError::NotText { .. })));
    assert!(matches!(Tokenizer::from_json("t.json", b"{\"model\": 1}"), Err(TokenizerError::Invalid { .. })));
    assert!(matches!(Tokenizer::from_json("t.json", b"[cut"), Err(TokenizerError::Invalid { .. })));
}

#[test]
fn other_files_folders_and_names_of_models_are_errors_with_a_remedy() {
    let message = |path: &Path| Tokenizer::from_path(path).expect_err("rejected").to_string();
    let missing = message(Path::new("bert-base-uncased"));
    assert!(missing.starts_with("there is no file bert-base-uncased; ") && missing.ends_with("are not looked up"), "{missing}");
    let dir = tempfile::tempdir().expect("folder");
    assert!(message(dir.path()).ends_with("SentencePiece .model, and it holds none by these names"));
    let vocabulary = dir.path().join("vocab.txt");
    std::fs::write(&vocabulary, "[PAD]\n").expect("write");
    assert!(message(dir.path()).ends_with(&format!("is a folder; use {}", vocabulary.display())));
    let config = dir.path().join("config.json");
    std::fs::write(&config, "{\"model_type\": \"bert\", \"architectures\": []}").expect("write");
    assert!(
        message(&config).ends_with(
            "config.json is not a tokenizer.json: it has no `model`, but `architectures`, `model_type`; \
             files such as config.json belong to a model, use the tokenizer.json next to them"
        ),
        "{}",
        message(&config)
    );
}

#[test]
fn ids_are_line_numbers_also_of_repeated_lines() {
    let tokenizer =
        Tokenizer::from_vocabulary("v.txt", b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\nthe\r\n##m\n").expect("vocabulary");
    assert_eq!(tokenizer.session().encode("The THEM").expect("encode").ids, [6, 6, 7]);
    assert_eq!((tokenizer.special().sop, tokenizer.special().eop), (8, 9));
    assert_eq!(tokenizer.identity().vocab_size, 10);
}

#[test]
fn a_tokenizer_json_gives_the_same_tokens_as_its_vocabulary() {
    let reference = Tokenizer::bert_uncased().expect("built in");
    let json = reference.pipeline.as_ref().expect("pipeline").to_string(false).expect("json");
    let tokenizer = Tokenizer::from_json("bert.json", json.as_bytes()).expect("json");
    assert_eq!(tokenizer.special(), reference.special());
    assert_eq!(tokenizer.identity().vocab_size, 30524);
    let text = "Amélie Rousselot’s team\nin Zürich [MASK] 中文x";
    assert_eq!(tokenizer.session().encode(text).expect("encode"), reference.session().encode(text).expect("encode"));
    let without = json.replace("[MASK]", "[HOLE]");
    assert!(matches!(Tokenizer::from_json("bert.json", without.as_bytes()), Err(TokenizerError::MissingSpecial { .. })));
}
