//! `docs/data-contract.md` lists every column and every key of the manifest.

use std::collections::{BTreeMap, BTreeSet};

use arrow_schema::{DataType, Field, Fields};
use glm_schemas::SCHEMA_VERSION;
use glm_schemas::manifest::{
    ClozeManifest, IngestSettings, Manifest, RawFile, RejectsFile, Shard, Split, SplitManifest, TaskName, Tokenizer,
};
use glm_schemas::seq2seq::encoding::Keep;
use glm_schemas::vocab::SpecialIds;
use serde_json::Value;

fn page() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/data-contract.md");
    std::fs::read_to_string(path).expect("docs/data-contract.md")
}

/// Returns the rows of the table under a heading, as cells without backquotes.
fn table(heading: &str) -> Vec<Vec<String>> {
    let page = page();
    let section = page.split("\n## ").find(|section| section.starts_with(heading)).expect("the section");
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect();
    rows.map(cells).collect()
}

fn describe(kind: &DataType) -> String {
    match kind {
        DataType::Utf8 => "utf8".into(),
        DataType::Int32 => "int32".into(),
        DataType::Int64 => "int64".into(),
        DataType::Boolean => "bool".into(),
        DataType::Struct(_) => "struct".into(),
        DataType::Dictionary(key, value) => format!("dictionary<{}, {}>", describe(key), describe(value)),
        DataType::List(item) => format!("list<{}>", describe(item.data_type())),
        other => format!("{other}, which has no name on the page"),
    }
}

/// Returns name, type and nullability of a field, followed by those of the fields of its entries.
fn rows(prefix: &str, field: &Field) -> Vec<[String; 3]> {
    let name = format!("{prefix}{}", field.name());
    let null = if field.is_nullable() { "yes" } else { "no" };
    let mut all = vec![[name.clone(), describe(field.data_type()), null.to_owned()]];
    if let DataType::List(item) = field.data_type()
        && let DataType::Struct(fields) = item.data_type()
    {
        all.extend(all_rows(&format!("{name}."), fields));
    }
    all
}

fn all_rows(prefix: &str, fields: &Fields) -> Vec<[String; 3]> {
    fields.iter().flat_map(|field| rows(prefix, field)).collect()
}

#[test]
fn the_page_lists_the_columns_of_a_shard() {
    for (heading, task) in [
        ("Columns of `cloze`", TaskName::Cloze),
        ("Columns of `text`", TaskName::Text),
        ("Columns of `seq2seq`", TaskName::Seq2seq),
    ] {
        let listed: Vec<Vec<String>> = table(heading).into_iter().map(|row| row[..3].to_vec()).collect();
        let expected: Vec<Vec<String>> = all_rows("", task.schema().fields()).into_iter().map(|row| row.to_vec()).collect();
        assert_eq!(listed, expected);
    }
    assert!(page().contains(&format!("`schema_version` is {SCHEMA_VERSION}.")));
}

/// Collects the paths of all leaves as on the page: any split is `*`, lists end in `[]`.
fn paths(prefix: &str, value: &Value, all: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (key, inner) in object {
                let key = if prefix == "splits" { "*" } else { key };
                let path = if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") };
                match inner {
                    // The page has one row for all of these.
                    Value::Object(_) if key == "special_ids" => {}
                    Value::Object(_) | Value::Array(_) => {
                        paths(&path, inner, all);
                        continue;
                    }
                    _ => {}
                }
                all.insert(path);
            }
        }
        // A list of texts is a leaf.
        Value::Array(items) if !items.is_empty() && items.iter().all(Value::is_string) => {
            all.insert(prefix.to_owned());
        }
        Value::Array(items) => items.iter().for_each(|item| paths(&format!("{prefix}[]"), item, all)),
        _ => {}
    }
}

#[test]
fn the_page_lists_the_keys_of_the_manifest() {
    let shard = Shard { file: "f".into(), rows: 1, bytes: 1, sha256: "00".into() };
    let raw = RawFile { file: "r".into(), split: Split::Val, bytes: 1, sha256: "00".into(), records: 1, rejects: 0 };
    let manifest = Manifest {
        schema_version: SCHEMA_VERSION,
        task: TaskName::Cloze,
        tool: "t".into(),
        fingerprint: "00".into(),
        tokenizer: Tokenizer { name: "t".into(), sha256: "00".into(), vocab_size: 1 },
        special_ids: SpecialIds::BERT_UNCASED,
        blank: "[BLANK]".into(),
        cloze: Some(ClozeManifest {
            pattern: Some("0".into()),
            keep_end: true,
            labels: vec!["no".into()],
            ..ClozeManifest::record("plain")
        }),
        splits: BTreeMap::from([(Split::Val, SplitManifest { rows: 1, choices: Some(1), tokens: 1, shards: vec![shard] })]),
        raw_files: vec![raw],
        rejects: Some(RejectsFile { bytes: 1, sha256: "00".into() }),
        settings: IngestSettings {
            max_seq_len: Some(1),
            rows_per_shard: 1,
            rows_per_group: 1,
            compression: "none".into(),
            limit: Some(1),
            max_record_bytes: Some(1),
            format: "plain".into(),
            max_distractors: Some(1),
            distractor_seed: Some(1),
            column: Some("text".into()),
            dedup: Some("exact".into()),
            keep: Some(Keep::End),
            task_mask: true,
            val_fraction: Some(0.5),
            val_seed: Some(1),
            pattern: Some("00 pattern 0".into()),
            keep_fields: true,
        },
    };
    let mut expected = BTreeSet::from(["splits".to_owned()]);
    paths("", &serde_json::from_str(&manifest.to_json().expect("json")).expect("a value"), &mut expected);
    let rows = table("manifest.json");
    assert_eq!(rows.iter().map(|row| row[0].clone()).collect::<BTreeSet<_>>(), expected);
    let special = rows.iter().find(|row| row[0] == "special_ids").expect("special_ids");
    let names = serde_json::to_value(SpecialIds::BERT_UNCASED).expect("json");
    for name in names.as_object().expect("names").keys() {
        assert!(special[1].split([' ', ',']).any(|word| word == name), "special id {name} is not on the page");
    }
}
