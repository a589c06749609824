//! The checks of the fuzz targets on changed copies of good inputs, without a fuzzer. `GLM_MUTANTS=10000` runs that many of each kind.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;

#[path = "../fuzz/checks.rs"]
mod checks;
#[path = "../fuzz/parquet.rs"]
mod parquet_file;

/// Number of inputs of each kind, unless the variable is set. Parquet files take longer, as each is ingested.
const INPUTS: usize = 2000;
const PARQUET_INPUTS: usize = 200;

fn inputs(default: usize) -> usize {
    std::env::var("GLM_MUTANTS").ok().and_then(|number| number.parse().ok()).unwrap_or(default)
}

/// Records of all formats.
const RECORDS: [&str; 24] = [
    r#"{"source": "The boat left.", "target": "A boat leaves.", "references": ["A boat leaves.", "It left."], "id": 7, "topic": "x"}"#,
    r#"{"source": "The [MASK] of Skerra has one [MASK].", "targets": ["island", "policeman"], "id": "a"}"#,
    r#"{"source_line": "<S_SEP> `` He did n't '' -LRB- sic -RRB- .", "target_line": "a <S_SEP> b"}"#,
    r#"{"source_line": "The [MASK] has [MASK].", "target_line": "x|y|z"}"#,
    r#"{"source_line": "UNK &lt; <unk>"}"#,
    r#"{"id": "100", "text": "[SN]FIRST-SENTENCE[SN]\nShort.\n[SN]RESTBODY[SN]\nLong one.\nAnd more.\n"}"#,
    r#"{"id": "100", "text": null}"#,
    r#"{"title": "t", "paragraphs": [{"context": "Bo lives at Lake Tarn.", "qas": [{"id": "q", "question": "Where?", "answers": [{"text": "Lake Tarn", "answer_start": 12}], "is_impossible": false}]}]}"#,
    r#"{"paragraphs": [{"context": "范廷颂是越南罗马天主教枢机。", "context_text": "范", "qas": [{"id": 1, "question": "谁？", "query_id": "T", "answers": ["范廷颂"]}]}]}"#,
    r#"{"text": "A document. It has two sentences.", "id": "d1", "source": "books", "url": "u"}"#,
    r#"{"prompt": "Q:", "text": "A."}"#,
    r#"{"title": " T ", "description": "D", "maintext": "D and a text that is long enough for the filter of the corpus, which wants a hundred characters or more."}"#,
    r#"{"text": "x", "meta": {"pile_set_name": "Github"}}"#,
    r#"{"title": "标题", "abstract": "摘要", "content": "内容"}"#,
    r#"{"q_title": "问", "q-content": "内容", "user-signature": "签", "ans-content": "答", "ans-up-num": "2,000"}"#,
    r#"{"title": "问", "content": "内容", "best_answer": {"content": "这是一个最好的答案，很长。"}, "other_answers": [{"content": "x"}]}"#,
    "Plain text in one line that is long enough to be taken for a document by anyone who looks at its length in characters.",
    "A paragraph\nof two lines.\n\nAnother one.",
    r#"{"context": "Ada keeps a dog and a cat. The [BLANK] barked.", "choices": ["cat", "dog"], "answer": 1, "id": "a"}"#,
    r#"{"article": "one _ two _", "options": [["a", "b"], ["c", "d"]], "answers": ["A", "B"], "source": "x"}"#,
    "1 A line .\n2 Another line .\n21 The XXXXX ran .\tdog\t\tcat|dog",
    "the last word of this passage is what one has to guess",
    r#"{"source": "passage", "passage": {"text": "Ada met Bo.", "entities": [{"start": 0, "end": 2}]}, "qas": [{"query": "@placeholder left", "answers": [{"start": 8, "end": 9, "text": "Bo"}], "idx": 3}], "idx": 1}"#,
    "\u{feff}{}",
];

/// Pieces of text that have a meaning somewhere.
const WORDS: [&str; 30] = [
    "[MASK]",
    "[gMASK]",
    "[SEP]",
    "<|endofpiece|>",
    "|",
    "<S_SEP>",
    "[SN]",
    "RESTBODY",
    "\"",
    "\\",
    "\\u0000",
    "\\ud800",
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "null",
    "true",
    "-1",
    "1e400",
    "18446744073709551616",
    "\n",
    "\r\n",
    "\t",
    "\u{0}",
    "\u{feff}",
    "\u{1f468}\u{200d}",
    "問題",
];

/// Random numbers that are the same in every run (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = self.0;
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((number ^ (number >> 31)) % end.max(1) as u64) as usize
    }

    /// A range of the bytes, of up to `most`.
    fn part(&mut self, bytes: &[u8], most: usize) -> std::ops::Range<usize> {
        let start = self.below(bytes.len() + 1);
        start..(start + self.below(most + 1)).min(bytes.len())
    }

    /// Changes one of the good inputs in up to six places.
    fn mutant(&mut self, good: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = good[self.below(good.len())].clone();
        for _ in 0..self.below(7) {
            let part = self.part(&bytes, 12);
            match self.below(7) {
                0 => bytes.splice(part, []).for_each(drop),
                1 => bytes.splice(part.start..part.start, WORDS[self.below(WORDS.len())].bytes()).for_each(drop),
                2 => bytes.splice(part, WORDS[self.below(WORDS.len())].bytes()).for_each(drop),
                3 => {
                    let copy = bytes[part.clone()].repeat(1 + self.below(20));
                    bytes.splice(part, copy).for_each(drop);
                }
                4 => {
                    let other = &good[self.below(good.len())];
                    let copy = other[self.part(other, 80)].to_vec();
                    bytes.splice(part, copy).for_each(drop);
                }
                5 => bytes.truncate(part.start),
                _ if part.start < bytes.len() => bytes[part.start] ^= 1 << self.below(8),
                _ => {}
            }
        }
        bytes
    }
}

fn records() -> Vec<Vec<u8>> {
    RECORDS.iter().map(|record| record.as_bytes().to_vec()).collect()
}

#[test]
fn changed_records_are_valid_or_errors() {
    let (good, mut random) = (records(), Random(1));
    for check in [checks::questions, checks::documents, checks::pairs] {
        good.iter().for_each(|record| check(record));
        for _ in 0..inputs(INPUTS) {
            check(&random.mutant(&good));
        }
    }
}

/// A Parquet file with a column of text and some others.
fn parquet(compression: Compression, pages: usize) -> Vec<u8> {
    let texts: ArrayRef = Arc::new(StringArray::from_iter((0..40).map(|row| (row % 7 > 0).then(|| format!("a a. {row}")))));
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..40));
    let batch = RecordBatch::try_from_iter([("text", Arc::clone(&texts)), ("id", ids), ("prompt", texts)]).expect("columns");
    let properties = WriterProperties::builder()
        .set_compression(compression)
        .set_data_page_row_count_limit(pages)
        .set_dictionary_enabled(pages > 10)
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).expect("writer");
    writer.write(&batch).expect("rows");
    writer.into_inner().expect("file")
}

#[test]
fn changed_parquet_files_are_ingested_or_errors() {
    let folder = tempfile::tempdir().expect("folder");
    let good = vec![
        parquet(Compression::UNCOMPRESSED, 8),
        parquet(Compression::SNAPPY, 100),
        parquet(Compression::ZSTD(Default::default()), 100),
    ];
    good.iter().for_each(|file| parquet_file::documents(folder.path(), file));
    let mut random = Random(2);
    for _ in 0..inputs(PARQUET_INPUTS) {
        let mut bytes = random.mutant(&good);
        // The end holds all that the reader believes: most changes are there.
        if random.below(2) == 0 && bytes.len() > 500 {
            let at = bytes.len() - 1 - random.below(500);
            bytes[at] ^= 1 << random.below(8);
        }
        parquet_file::documents(folder.path(), &bytes);
    }
}
