//! The output bytes depend only on the input and the settings.

mod support;

use std::fs::{self, File};
use std::io::Write;
use std::num::NonZeroUsize;

use glm_prep::ingest::{IngestOptions, RejectLimit};
use glm_schemas::manifest::{Manifest, Split};

#[test]
fn the_output_does_not_depend_on_the_number_of_threads() {
    let passages = std::fs::read(support::repository().join("tests/fixtures/golden/cloze/passages.jsonl")).expect("passages");
    // Enough lines for many batches, with bad lines in between.
    let lines = support::renumbered(&passages, 40);
    let train: Vec<u8> = lines
        .split_inclusive(|&b| b == b'\n')
        .enumerate()
        .flat_map(|(number, line)| if number % 24 == 23 { [line, b"bad\n"].concat() } else { line.to_vec() })
        .collect();
    let written = |threads: usize| {
        let dir = support::raw_folder(&[(Split::Train, &train), (Split::Val, &passages), (Split::Test, &passages)]);
        let options = IngestOptions {
            threads: NonZeroUsize::new(threads).expect("some"),
            rows_per_shard: NonZeroUsize::new(700).expect("some"),
            max_rejects: RejectLimit::Count(40),
            ..IngestOptions::new(dir.path())
        };
        let summary = support::run(&options).expect("ingest");
        assert_eq!(summary.rejected_records(), 40);
        support::contents(&dir.path().join("shards"))
    };
    let one = written(1);
    let names: Vec<_> = one.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names.len(), 7, "{names:?}");
    assert_eq!(
        names[..3],
        ["data/test-00000-of-00001.parquet", "data/train-00000-of-00003.parquet", "data/train-00001-of-00003.parquet"]
    );
    for threads in [2, 7] {
        for ((name, bytes), (other, expected)) in written(threads).iter().zip(&one) {
            assert!(name == other && bytes == expected, "{name} differs with {threads} threads");
        }
    }
}

#[test]
fn shards_contain_the_rows_in_published_order() {
    let passages = std::fs::read(support::repository().join("tests/fixtures/golden/cloze/passages.jsonl")).expect("passages");
    let rows = |per_shard: usize| {
        let dir = support::raw_folder(&[(Split::Train, &passages)]);
        let rows_per_shard = NonZeroUsize::new(per_shard).expect("some");
        support::run(&IngestOptions { rows_per_shard, ..IngestOptions::new(dir.path()) }).expect("ingest");
        let manifest = support::manifest(dir.path());
        assert!(manifest.splits[&Split::Train].shards.iter().rev().skip(1).all(|shard| shard.rows == per_shard));
        let batches = support::batches(dir.path(), Split::Train);
        batches
            .iter()
            .flat_map(|batch| support::texts(batch, "example_id").into_iter().zip(support::numbers(batch, "num_choices")))
            .collect::<Vec<_>>()
    };
    let whole = rows(8192);
    assert!(whole.windows(2).all(|pair| pair[0].1 <= pair[1].1));
    assert_eq!(rows(7), whole);
    assert_eq!(rows(1), whole);
}

#[test]
fn an_archive_gives_the_same_shards_as_its_files() {
    let passages = std::fs::read(support::repository().join("tests/fixtures/golden/cloze/passages.jsonl")).expect("passages");
    let unpacked = support::raw_folder(&[(Split::Train, &passages), (Split::Val, &passages)]);
    support::ingest_with(unpacked.path(), 2).expect("ingest");

    let packed = tempfile::tempdir().expect("folder");
    let mut archive = zip::ZipWriter::new(File::create(packed.path().join("ReCoRD.zip")).expect("create"));
    for split in ["train", "val"] {
        archive.start_file(format!("ReCoRD/{split}.jsonl"), zip::write::SimpleFileOptions::default()).expect("member");
        archive.write_all(&passages).expect("write");
    }
    archive.finish().expect("finish");
    support::ingest_with(packed.path(), 2).expect("ingest");

    assert!(support::rows_without_places(packed.path()) == support::rows_without_places(unpacked.path()));
    let (unpacked, packed) = (support::manifest(unpacked.path()), support::manifest(packed.path()));
    assert_eq!(packed.raw_files[0].file, "ReCoRD.zip/ReCoRD/train.jsonl");
    assert_eq!(
        (packed.raw_files[0].bytes, &packed.raw_files[0].sha256),
        (unpacked.raw_files[0].bytes, &unpacked.raw_files[0].sha256)
    );
}

#[test]
fn data_sets_of_questions_keep_their_bytes() {
    let passages = fs::read(support::repository().join("tests/fixtures/golden/cloze/passages.jsonl")).expect("passages");
    let dir = support::raw_folder(&[(Split::Train, &passages), (Split::Val, &passages)]);
    support::ingest_with(dir.path(), 2).expect("ingested");
    // The fingerprint covers all bytes of the shards; a new version of the Parquet library may change it.
    let manifest = support::manifest(dir.path());
    assert_eq!(manifest.fingerprint, "a45ec6ea2cf4af4290035ac818a1f69b97ab7e1d6cf2288f2588925793357465");
    // The name of the program includes the git revision.
    let text = Manifest { tool: "glm-prep 0.1.0".into(), ..manifest }.to_json().expect("json");
    let sha256 = glm_support::files::checksum::digest(text.as_bytes()).expect("digest").sha256;
    assert_eq!(sha256, "6ab52a9b1277d4edcdcd6d8f7e9136d8fb5fe7299ccf6f9c1fdb02891530ac77", "no key was added or changed");
}
