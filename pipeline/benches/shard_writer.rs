//! Speed of writing a Parquet shard to disk, including checksum and fsync, for each compression.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use glm_prep::annotate::token_span;
use glm_prep::shard::{ROWS_PER_GROUP, ShardWriter, file_name};
use glm_prep::source::ClozeFormat;
use glm_prep::source::formats::record::Record;
use glm_schemas::cloze::CharSpan;
use glm_schemas::cloze::builder::{ChoiceRow, ClozeBatchBuilder, ClozeRow, EntityRow};
use glm_schemas::cloze::encoding::Question;
use glm_schemas::manifest::Split;
use glm_schemas::origin::Origin;
use glm_text::tokenize::Tokenizer;

const ROWS: usize = 4 * ROWS_PER_GROUP;
const LINES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/golden/cloze/passages.jsonl");

fn shard_writer(criterion: &mut Criterion) {
    let lines = std::fs::read_to_string(LINES).expect("passages");
    let passages: Vec<_> = lines.lines().flat_map(|line| Record.parse(line, true).expect("a record")).collect();
    let tokenizer = Tokenizer::bert_uncased().expect("built in");
    let mut session = tokenizer.session();
    let prepared: Vec<_> = passages
        .iter()
        .map(|passage| {
            let tokens = session.encode(&passage.text).expect("encode");
            let choices: Vec<_> = passage.candidates.iter().map(|text| session.encode(text).expect("encode").ids).collect();
            (passage, tokens, choices)
        })
        .collect();

    let mut group = criterion.benchmark_group("shard_writer");
    group.throughput(Throughput::Elements(ROWS as u64)).sample_size(10);
    for compression in ["zstd:1", "zstd:3", "snappy", "none"] {
        let codec = compression.parse().expect("known");
        group.bench_function(compression, |bencher| {
            bencher.iter_batched(
                || tempfile::tempdir().expect("folder"),
                |dir| {
                    let name = file_name(Split::Val, 0, 1);
                    let mut writer = ShardWriter::<ClozeBatchBuilder>::create(dir.path(), name, tokenizer.identity(), codec)
                        .expect("create");
                    for number in 0..ROWS {
                        let (passage, tokens, choices) = &prepared[number % prepared.len()];
                        let entities: Vec<_> = passage
                            .mentions
                            .iter()
                            .map(|&CharSpan { start, end }| EntityRow {
                                text: "a name of some length",
                                chars: CharSpan { start, end },
                                tokens: token_span(&tokens.spans, start..end),
                            })
                            .collect();
                        let choices: Vec<_> = passage
                            .candidates
                            .iter()
                            .zip(choices)
                            .enumerate()
                            .map(|(at, (text, ids))| ChoiceRow { text, ids, correct: at == 0, index: at, name: None })
                            .collect();
                        let row = ClozeRow {
                            example_id: &format!("dev-p{number}-q{number}"),
                            origin: Origin::NONE,
                            passage_id: number as i64,
                            question_id: number as i64,
                            group_id: None,
                            idx: None,
                            source: "bench",
                            passage: &passage.text,
                            query: "@placeholder agreed.",
                            tokens: &Question::about(&tokens.ids, &[], &[2056, 2061, 1012]),
                            entities: &entities,
                            choices: &choices,
                            labelled: true,
                            label_name: None,
                            end_of_piece: true,
                        };
                        writer.append(&row).expect("append");
                    }
                    (writer.finish().expect("finish"), dir)
                },
                criterion::BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, shard_writer);
criterion_main!(benches);
