//! Tokenizer throughput: the library alone, a new session, and a session with a warm word cache.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use glm_text::standard::{Highlighted, standardise};
use glm_text::tokenize::Tokenizer;
use serde_json::Value;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;

const VOCABULARY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/bert-large-uncased-vocab.txt");
const LINES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/golden/cloze/passages.jsonl");

fn passages() -> Vec<String> {
    let lines = std::fs::read_to_string(LINES).expect("passages");
    let raw = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("a record")["passage"]["text"].to_owned());
    raw.map(|text| Highlighted::new(&standardise(text.as_str().expect("text"))).text).collect()
}

fn tokenizer(criterion: &mut Criterion) {
    let passages = passages();
    let bytes: usize = passages.iter().map(String::len).sum();
    let mut group = criterion.benchmark_group("tokenizer");
    group.throughput(Throughput::Bytes(bytes as u64)).sample_size(20);

    let model = WordPiece::from_file(VOCABULARY).unk_token("[UNK]".to_owned()).build().expect("vocabulary");
    let mut library = tokenizers::Tokenizer::new(model);
    library.with_normalizer(Some(BertNormalizer::new(true, true, Some(true), true))).expect("normalizer");
    library.with_pre_tokenizer(Some(BertPreTokenizer));
    group.bench_function("library", |bencher| {
        bencher.iter(|| passages.iter().map(|text| library.encode(text.as_str(), false).expect("encode").len()).sum::<usize>());
    });

    let tokenizer = Tokenizer::bert_uncased().expect("built in");
    group.bench_function("session/first", |bencher| {
        bencher.iter_batched(
            || tokenizer.session(),
            |mut session| passages.iter().map(|text| session.encode(text).expect("encode").ids.len()).sum::<usize>(),
            criterion::BatchSize::PerIteration,
        );
    });
    let mut session = tokenizer.session();
    group.bench_function("session/warm", |bencher| {
        bencher.iter(|| passages.iter().map(|text| session.encode(text).expect("encode").ids.len()).sum::<usize>());
    });
    group.finish();
}

criterion_group!(benches, tokenizer);
criterion_main!(benches);
