//! Faults of the manifest and of files.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::{Command, Output};

use glm_prep::verify::{VerifyError, check};
use glm_schemas::manifest::{Manifest, Split, SplitManifest};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::data_set::{
    TEST, TRAIN_0, TRAIN_1, VAL, VOCAB, adopt, assert_manifest_fault, changed_batch, changed_manifest, changed_rows,
    first_fault, read_manifest, report, row, sound_rows, sound_set, train, write_set,
};
use crate::support;

fn glm_prep(dir: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_glm-prep")).arg("verify").arg(dir).args(more).output().expect("run")
}

#[test]
fn a_sound_set_is_sound() {
    let dir = sound_set();
    let whole = report(dir.path());
    assert_eq!(whole.fault, None);
    assert!(whole.sound);
    assert_eq!(whole.fingerprint, Some(read_manifest(dir.path()).fingerprint));
    let counted: Vec<_> =
        whole.splits.iter().map(|split| (split.split, split.shards, split.questions, split.choices)).collect();
    assert_eq!(counted, [(Split::Train, 2, 5, 14), (Split::Val, 1, 2, 7), (Split::Test, 1, 1, 3)]);
    assert!(whole.splits.iter().all(|split| split.ok == Some(true)));
    // The path may be the folder of the shards.
    assert!(report(&dir.path().join("shards")).sound);
    assert!(report(&dir.path().join("shards/data")).sound);
    // A report and a shard without rows are allowed.
    let mut rows = sound_rows();
    rows.insert(Split::Test, vec![vec![]]);
    let dir = write_set(&rows);
    fs::write(dir.path().join("shards/report.html"), "").expect("write");
    assert_eq!(report(dir.path()).fault, None);
}

#[test]
fn what_ingest_writes_is_sound() {
    let raw = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/golden/cloze/passages.jsonl");
    let raw = fs::read(raw).expect("passages");
    let dir = tempfile::tempdir().expect("folder");
    fs::create_dir(dir.path().join("ReCoRD")).expect("folder");
    for split in Split::ALL {
        fs::write(dir.path().join(format!("ReCoRD/{split}.jsonl")), &raw).expect("write");
    }
    let ingest = Command::new(env!("CARGO_BIN_EXE_glm-prep"))
        .args(["ingest", "--quiet", "--rows-per-shard", "7"])
        .arg(dir.path())
        .status()
        .expect("run");
    assert!(ingest.success());
    let report = report(dir.path());
    assert_eq!(report.fault, None);
    assert!(report.splits.iter().all(|split| split.shards > 1));
}

#[test]
fn the_program_reports_by_exit_code_and_names_the_location() {
    let dir = sound_set();
    let sound = glm_prep(dir.path(), &[]);
    assert_eq!(sound.status.code(), Some(0), "{sound:?}");
    let text = String::from_utf8(sound.stdout).expect("text");
    assert!(text.lines().next().expect("a table").starts_with("split") && text.contains(" is sound, checked in "), "{text}");
    assert!(text.lines().nth(1).is_some_and(|line| line.starts_with("train ") && line.ends_with("yes")), "{text}");

    let dir = changed_rows(|rows| train(rows).left[0] = VOCAB as i32);
    let unsound = glm_prep(dir.path(), &[]);
    assert_eq!(unsound.status.code(), Some(4), "{unsound:?}");
    let text = String::from_utf8(unsound.stdout).expect("text");
    let place = format!(
        "{TRAIN_0}, row group 0, row 1 (\"train-p1-q1\"), column `segments.ids`: found segment 1: id 40 at position 0, \
         expected ids from 0 to below vocab_size = 40; ingest the raw data again"
    );
    assert_eq!(text.lines().last(), Some(place.as_str()));
    let json = glm_prep(dir.path(), &["--json"]);
    assert_eq!(json.status.code(), Some(4), "{json:?}");
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("one object");
    assert_eq!(
        (&json["sound"], &json["fault"]["row"], &json["fault"]["column"]),
        (&false.into(), &1.into(), &"segments.ids".into())
    );
    assert_eq!((&json["splits"][0]["ok"], &json["splits"][1]["ok"]), (&false.into(), &serde_json::Value::Null));

    let empty = tempfile::tempdir().expect("folder");
    let nothing = glm_prep(empty.path(), &[]);
    assert_eq!(nothing.status.code(), Some(1), "{nothing:?}");
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("is not a data set"), "{nothing:?}");
    let shard = dir.path().join("shards/data").join(VAL);
    let of_shard = glm_prep(&shard, &[]);
    assert_eq!(of_shard.status.code(), Some(1), "{of_shard:?}");
    let message = format!("is a file; specify the folder of its data set, {}, or show the file with", dir.path().display());
    assert!(String::from_utf8_lossy(&of_shard.stderr).contains(&message), "{of_shard:?}");
    let help = glm_prep(empty.path(), &["--help"]);
    assert!(String::from_utf8_lossy(&help.stdout).contains("4  the data set is not sound; "));
}

#[test]
fn every_flipped_byte_of_a_shard_is_found() {
    let rows = BTreeMap::from([(Split::Val, vec![vec![row(Split::Val, 0, 2), row(Split::Val, 1, 3)]])]);
    let dir = write_set(&rows);
    let path = dir.path().join("shards/data").join(VAL);
    let good = fs::read(&path).expect("read");
    let mut broken = 0;
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        fs::write(&path, &bad).expect("write");
        let fault = first_fault(&dir);
        assert_eq!((fault.file.as_str(), fault.split), (VAL, Some(Split::Val)), "byte {at}: {fault}");
        assert!(fault.found.starts_with("sha256 "), "byte {at}: {fault}");
        broken += usize::from(fault.row_group == Some(0));
    }
    assert!(broken > good.len() / 10, "of {} flipped bytes, {broken} break the row group", good.len());
    fs::write(&path, &good).expect("write");
    assert!(report(dir.path()).sound);
}

#[test]
fn every_flipped_byte_of_the_manifest_is_found() {
    let dir = sound_set();
    let path = dir.path().join("shards/manifest.json");
    let good = fs::read(&path).expect("read");
    assert!(good.len() > 1000);
    for at in 0..good.len() {
        for bit in [at % 8, (at + 5) % 8] {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            fs::write(&path, &bad).expect("write");
            let fault = first_fault(&dir);
            assert_eq!(fault.file, "manifest.json", "bit {bit} of byte {at}: {fault}");
        }
    }
    // Raw files, program and settings are not part of the fingerprint.
    for (from, to) in [("ReCoRD/train.jsonl", "ReCoRD/train.jsonk"), ("glm-prep test", "glm-prep tess"), ("zstd:3", "zstd:1")] {
        let text = String::from_utf8(good.clone()).expect("text").replace(from, to);
        fs::write(&path, text).expect("write");
        let fault = first_fault(&dir);
        assert!(fault.found.starts_with("sha256 ") && fault.advice.contains("copy the file again"), "{from}: {fault}");
    }
    fs::write(&path, &good[..good.len() - 1]).expect("write");
    assert_manifest_fault(&dir, "no checksum at its end", "the checksum that `ingest` writes");
    fs::write(&path, &good).expect("write");
    assert!(report(dir.path()).sound);
}

#[test]
fn every_change_of_the_list_of_rejects_is_found() {
    let raw = fs::read(support::repository().join("tests/fixtures/golden/cloze/passages.jsonl")).expect("passages");
    let dir = support::raw_folder(&[(Split::Train, &[raw.as_slice(), b"bad\n"].concat())]);
    support::ingest_with(dir.path(), 1).expect("ingest");
    let path = dir.path().join("shards/rejects.jsonl");
    let good = fs::read(&path).expect("rejects");
    assert!(report(dir.path()).sound);
    let fault = |content: &[u8]| {
        fs::write(&path, content).expect("write");
        let fault = first_fault(&dir);
        assert_eq!((fault.file.as_str(), fault.split), ("rejects.jsonl", None), "{fault}");
        fault.found
    };
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        assert!(fault(&bad).starts_with("sha256 "), "byte {at}");
    }
    assert_eq!(fault(&good[..good.len() - 1]), format!("{} bytes", good.len() - 1));
    fs::remove_file(&path).expect("remove");
    assert_eq!(first_fault(&dir).found, "no such file");

    // A list that the manifest does not name belongs to another data set.
    let dir = sound_set();
    fs::write(dir.path().join("shards/rejects.jsonl"), &good).expect("write");
    let fault = first_fault(&dir);
    assert_eq!((fault.file.as_str(), fault.found.as_str()), ("rejects.jsonl", "a file that is not in the manifest"));
}

#[test]
fn a_damaged_row_group_is_named() {
    let dir = changed_batch(TRAIN_0, 1, |batch| batch);
    assert_eq!(report(dir.path()).fault, None);
    let path = dir.path().join("shards/data").join(TRAIN_0);
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(&path).expect("open")).expect("parquet");
    let (start, length) = reader.metadata().row_group(1).column(0).byte_range();
    let mut bytes = fs::read(&path).expect("read");
    bytes[start as usize..(start + length) as usize].fill(0xff);
    fs::write(&path, &bytes).expect("write");
    let fault = first_fault(&dir);
    assert_eq!(fault.row_group, Some(1), "{fault}");
    assert!(fault.found.contains("row group 1 is the first that does not decode"), "{fault}");
    assert!(fault.advice.contains("copy the file again"), "{fault}");

    // With the checksum of the damaged file, the decoder finds the damage.
    adopt(dir.path(), TRAIN_0);
    let fault = first_fault(&dir);
    assert_eq!((fault.file.as_str(), fault.row_group), (TRAIN_0, Some(1)), "{fault}");
    assert!(fault.found.contains("does not decode"), "{fault}");

    bytes.truncate(bytes.len() - 3);
    fs::write(&path, &bytes).expect("write");
    let fault = first_fault(&dir);
    assert_eq!(fault.found, format!("{} bytes", bytes.len()), "{fault}");
    fs::write(&path, b"not Parquet").expect("write");
    adopt(dir.path(), TRAIN_0);
    assert!(first_fault(&dir).found.contains("does not decode"));
}

#[test]
fn every_inconsistency_of_the_manifest_is_found() {
    let text_changed = |from: &str, to: &str| {
        let dir = sound_set();
        let path = dir.path().join("shards/manifest.json");
        let text = fs::read_to_string(&path).expect("read");
        assert!(text.contains(from));
        fs::write(&path, text.replacen(from, to, 1)).expect("write");
        dir
    };
    assert_manifest_fault(&text_changed("{", ""), "not a manifest", "JSON");
    assert_manifest_fault(&text_changed("\"schema_version\": 3", "\"schema_version\": 7"), "schema version 7", "3");
    let fingerprint = sound_set();
    let manifest = Manifest { fingerprint: "00".into(), ..read_manifest(fingerprint.path()) };
    fs::write(fingerprint.path().join("shards/manifest.json"), manifest.to_json().expect("json")).expect("write");
    assert_manifest_fault(&fingerprint, "fingerprint", "the fingerprint of the listed shards");
    let dir = sound_set();
    fs::write(dir.path().join("shards/manifest.json"), [0xff, b'{']).expect("write");
    assert_manifest_fault(&dir, "invalid UTF-8", "JSON");

    let content = |manifest: &mut Manifest, split| manifest.splits.get_mut(&split).expect("split").clone();
    let change = |split: Split, change: &dyn Fn(&mut SplitManifest)| {
        changed_manifest(|manifest| change(manifest.splits.get_mut(&split).expect("split")))
    };
    assert_manifest_fault(&change(Split::Train, &|train| train.rows = 6), "splits.train.rows = 6", "5");
    assert_manifest_fault(
        &change(Split::Val, &|val| val.choices = val.choices.map(|choices| choices + 1)),
        "splits.val.choices = 8",
        "7, as its shards",
    );
    assert_manifest_fault(&change(Split::Test, &|test| test.tokens -= 1), "splits.test.tokens", "as its shards hold");
    assert_manifest_fault(&change(Split::Train, &|train| train.shards.reverse()), TRAIN_1, TRAIN_0);
    assert_manifest_fault(&change(Split::Val, &|val| val.shards[0].sha256.push('0')), "with sha256", "64 hexadecimal");
    assert_manifest_fault(
        &change(Split::Val, &|val| val.shards[0].file = "../x.parquet".into()),
        "../x.parquet",
        "same folder",
    );
    assert_manifest_fault(&change(Split::Val, &|val| val.shards[0].file = "val.csv".into()), "val.csv", ".parquet");
    assert_manifest_fault(&change(Split::Val, &|val| val.shards[0].file = TEST.into()), TEST, VAL);
    assert_manifest_fault(&change(Split::Train, &|train| train.shards[0].rows = 4), "with 4 rows", "rows_per_shard = 3");
    assert_manifest_fault(&changed_manifest(|m| m.special_ids.sop = VOCAB as i32), "special id 40", "vocab_size = 40");
    assert_manifest_fault(&changed_manifest(|m| m.special_ids.eop = m.special_ids.mask), "both [MASK] and", "distinct ids");
    assert_manifest_fault(&changed_manifest(|m| m.raw_files[0].rejects = 4), "4 rejects of 3 records", "no more");
    let twice = changed_manifest(|manifest| {
        let mut train = content(manifest, Split::Train);
        train.shards.iter_mut().for_each(|shard| shard.file = "one.parquet".into());
        manifest.splits.insert(Split::Train, train);
    });
    assert_manifest_fault(&twice, "listed twice", "once");
    // Numbers in the manifest that differ from the shard.
    let rows = change(Split::Val, &|val| (val.rows, val.shards[0].rows) = (1, 1));
    let fault = first_fault(&rows);
    assert_eq!((fault.file.as_str(), fault.found.as_str()), (VAL, "2 rows"), "{fault}");
    let size = first_fault(&change(Split::Val, &|val| val.shards[0].bytes += 1));
    assert!(size.file == VAL && size.found.ends_with(" bytes"), "{size}");
    let checksum = first_fault(&change(Split::Val, &|val| val.shards[0].sha256 = "0".repeat(64)));
    assert!(checksum.file == VAL && checksum.found.contains("all row groups still decode"), "{checksum}");
}

#[test]
fn missing_and_additional_files_are_named() {
    let dir = sound_set();
    fs::remove_file(dir.path().join("shards/data").join(TRAIN_1)).expect("remove");
    let fault = first_fault(&dir);
    assert_eq!((fault.file.as_str(), fault.found.as_str()), (TRAIN_1, "no such file"));
    let dir = sound_set();
    fs::write(dir.path().join("shards/data/train-00002-of-00003.parquet"), "").expect("write");
    let fault = first_fault(&dir);
    assert_eq!((fault.file.as_str(), fault.split), ("train-00002-of-00003.parquet", None));
    // Readers of Parquet open the folder as a whole, so it must not contain other files.
    let dir = sound_set();
    fs::write(dir.path().join("shards/data/notes.txt"), "").expect("write");
    assert_eq!(first_fault(&dir).found, "a file that is not in the manifest");
    let dir = sound_set();
    fs::write(dir.path().join("shards/old.parquet"), "").expect("write");
    let fault = first_fault(&dir);
    assert_eq!((fault.file.as_str(), fault.found.as_str()), ("old.parquet", "a Parquet file next to the manifest"));
    let dir = sound_set();
    let path = dir.path().join("shards/data").join(VAL);
    fs::remove_file(&path).expect("remove");
    fs::create_dir(&path).expect("folder");
    assert_eq!(first_fault(&dir).found, "something that is not a file");
    // A file that cannot be opened is an error, not a fault.
    fs::remove_dir(&path).expect("remove");
    std::os::unix::fs::symlink(&path, &path).expect("link");
    let error = check(dir.path(), NonZeroUsize::MIN).expect_err("not readable");
    assert!(matches!(&error, VerifyError::Read { path: at, .. } if *at == path), "{error}");
    assert_eq!(glm_prep(dir.path(), &[]).status.code(), Some(1));
}
