//! The tasks of SuperGLUE are encoded as by the published code, with every pattern, in every split, at every sequence length.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use arrow::array::{AsArray, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use glm_prep::ingest::{IngestOptions, RejectLimit};
use glm_prep::pattern::PatternTask;
use glm_schemas::cloze::ClozeView;
use glm_schemas::cloze::encoding::EncodingError;
use glm_schemas::manifest::Split;

/// A row of the published tables.
#[derive(Debug)]
struct Golden {
    split: Split,
    order: i32,
    guid: String,
    labelled: bool,
    fits: bool,
    label: i32,
    max_len: usize,
    /// Number and text of the choice; `None` if all choices share a sequence.
    choice: Option<(usize, String)>,
    num_choices: usize,
    sep: i32,
    ids: Vec<i32>,
    position: Vec<i32>,
    block_position: Vec<i32>,
    target: Vec<i32>,
    loss_mask: Vec<i32>,
}

/// Rows by task, mode and pattern, without prompts and without COPA's pattern 2, which has a context for each choice.
type Tables = BTreeMap<(String, String, usize), Vec<Golden>>;

fn golden() -> PathBuf {
    support::repository().join("tests/fixtures/golden/superglue")
}

fn texts(batch: &RecordBatch, name: &str) -> StringArray {
    cast(batch.column_by_name(name).expect("column"), &DataType::Utf8).expect("texts").as_string::<i32>().clone()
}

fn tables() -> Tables {
    let mut tables = Tables::new();
    for file in ["single_token.parquet", "multi_token.parquet"] {
        for batch in support::read_parquet(&golden().join(file)) {
            let text = |name| texts(&batch, name);
            let (task, mode, split, guid, status) = (text("task"), text("mode"), text("split"), text("guid"), text("status"));
            let list = |name| support::numbers(&batch, name);
            let labelled = cast(batch.column_by_name("labelled").expect("column"), &DataType::Boolean).expect("truth values");
            let (order, label, pattern) = (list("order"), list("label"), list("pattern"));
            let (max_len, sep) = (list("max_len"), batch.column_by_name("sep").expect("column"));
            let sep = cast(sep, &DataType::Int32).expect("numbers");
            let lists = ["ids", "position", "block_position", "target", "loss_mask"].map(list);
            let choices = batch.column_by_name("choice").map(|_| (text("choice"), list("choice_no"), list("num_choices")));
            for row in 0..batch.num_rows() {
                let pattern = pattern[row][0] as usize;
                if mode.value(row).contains("prompt") || (task.value(row), pattern) == ("copa", 2) {
                    continue;
                }
                let key = (task.value(row).to_owned(), mode.value(row).to_owned(), pattern);
                let fits = status.value(row) == "ok";
                let of_choice = choices.as_ref().filter(|_| fits);
                let choice =
                    of_choice.map(|(text, number, _)| (number[row][0] as usize, text.value(row).trim_start().to_owned()));
                let [ids, position, block_position, target, loss_mask] = lists.each_ref().map(|lists| lists[row].clone());
                tables.entry(key).or_default().push(Golden {
                    split: split.value(row).parse().expect("a split"),
                    order: order[row][0],
                    guid: guid.value(row).to_owned(),
                    labelled: labelled.as_boolean().value(row),
                    fits,
                    label: label[row][0],
                    max_len: max_len[row][0] as usize,
                    num_choices: of_choice.map_or(0, |(_, _, count)| count[row][0] as usize),
                    choice,
                    sep: sep.as_primitive::<arrow::datatypes::Int32Type>().value(row),
                    ids,
                    position,
                    block_position,
                    target,
                    loss_mask,
                });
            }
        }
    }
    tables
}

/// Examples whose texts hold a `[MASK]` after the blank, which the published code takes for it.
fn has_other_mask(task: &str, guid: &str, pattern: usize) -> bool {
    match (task, guid) {
        ("boolq", "dev-6") => [4, 5].contains(&pattern),
        ("rte", "dev-6") | ("cb", "dev-8") => pattern < 4,
        ("multirc", "dev-p5-q11-a26") => pattern == 3,
        _ => false,
    }
}

#[test]
fn every_pattern_is_encoded_as_published() {
    let (mut rows, mut masks, mut unlabelled, mut too_long) = (0, BTreeSet::new(), BTreeSet::new(), 0);
    for ((task, mode, number), expected) in tables() {
        let (name, folder) = match (task.as_str(), mode.as_str()) {
            ("wsc", "candidates") => ("wsc-candidates", "WSC-negative"),
            ("boolq", _) => ("boolq", "BoolQ"),
            ("cb", _) => ("cb", "CB"),
            ("copa", _) => ("copa", "COPA"),
            ("multirc", _) => ("multirc", "MultiRC"),
            ("rte", _) => ("rte", "RTE"),
            ("wic", _) => ("wic", "WiC"),
            ("wsc", _) => ("wsc", "WSC"),
            other => panic!("{other:?}"),
        };
        let at = format!("{task} {mode} {number}");
        let pattern = PatternTask::open(&format!("superglue/{name}"), Some(number), mode == "multi").expect("a pattern");
        let dir = tempfile::tempdir().expect("folder");
        let raw = dir.path().join(folder);
        fs::create_dir(&raw).expect("folder");
        for split in ["train", "val", "test"] {
            let file = format!("{split}.jsonl");
            fs::copy(golden().join("raw").join(folder).join(&file), raw.join(&file)).expect("copied");
        }
        let max_rejects = RejectLimit::Percent(100.0);
        let options = IngestOptions { max_rejects, ..support::pattern_options(dir.path(), pattern) };
        support::run(&options).unwrap_or_else(|error| panic!("{at}: {error}"));
        let manifest = support::manifest(dir.path());
        let cloze = manifest.cloze.clone().expect("a task");
        assert_eq!((cloze.task.as_str(), cloze.first_mask), (format!("superglue/{name}").as_str(), false), "{at}");
        let batches: BTreeMap<Split, Vec<RecordBatch>> =
            Split::ALL.into_iter().map(|split| (split, support::batches(dir.path(), split))).collect();
        let mut groups = BTreeMap::<(Split, usize, String, usize), usize>::new();
        for golden in expected {
            // Groups of candidates have a name of their own here.
            let mut guid = golden.guid.clone();
            if mode == "candidates" && golden.split == Split::Train {
                let orders = groups.entry((golden.split, golden.max_len, guid.clone(), 0)).or_insert(golden.order as usize);
                let group = golden.order as usize - *orders;
                if group > 0 {
                    guid = format!("{guid}-{group}");
                }
            }
            // An id that is a text names its example, which the published code numbers by its line.
            if (task.as_str(), guid.as_str()) == ("rte", "dev-9") {
                guid = "dev-dev-x9".to_owned();
            }
            let at = format!("{at} {guid} at {}", golden.max_len);
            let batches = &batches[&golden.split];
            let views: Vec<_> = batches.iter().map(|batch| ClozeView::try_new(batch).expect("columns")).collect();
            let found = views.iter().find_map(|view| {
                let row = (0..view.len()).find(|&row| view.example_id(row) == guid)?;
                Some((view, row))
            });
            let (view, row) = found.unwrap_or_else(|| panic!("{at}: no such row"));
            // Mirrored examples follow their original here, and all others in the published code.
            let is_mirrored = task == "copa" && golden.split == Split::Train;
            if mode != "candidates" && !is_mirrored {
                assert_eq!(row as i32, golden.order, "{at}: order");
            }
            rows += 1;
            let encoder = cloze.encoder(manifest.special_ids, golden.max_len);
            let choices: Vec<_> = view.choices(row).collect();
            if !golden.fits {
                let failed = |choice: &glm_schemas::cloze::ChoiceView<'_>| encoder.encode(&view.question(row), choice.ids);
                assert!(
                    choices.iter().map(failed).any(|result| matches!(result, Err(EncodingError::DoesNotFit { .. }))),
                    "{at}: fits"
                );
                too_long += 1;
                continue;
            }
            let label = view.label_name(row).map(|name| cloze.labels.iter().position(|label| label == name).expect("a label"));
            match label {
                Some(label) if mode == "candidates" && golden.split == Split::Train => {
                    assert_eq!((label, view.label(row), golden.label), (1, Some(0), 0), "{at}");
                }
                Some(label) => assert_eq!((label as i32, true), (golden.label, golden.labelled), "{at}: label"),
                None => {
                    assert!(golden.split != Split::Train && golden.label == 0, "{at}: label");
                    // The published code takes an example without a label for one with the first.
                    if golden.labelled {
                        unlabelled.insert(format!("{task} {guid}"));
                    }
                }
            }
            let choice = golden.choice.as_ref().map_or(0, |(number, _)| *number);
            let input =
                encoder.encode(&view.question(row), choices[choice].ids).unwrap_or_else(|error| panic!("{at}: {error}"));
            match &golden.choice {
                None => {
                    let words: Vec<i32> = choices.iter().flat_map(|choice| choice.ids.iter().copied()).collect();
                    assert_eq!(words, golden.target, "{at}: words");
                }
                Some((number, text)) => {
                    assert_eq!(choices.len(), golden.num_choices, "{at}: choices");
                    // The published code lower-cases first letters; the tokens are the same.
                    let own = choices[*number].text.map(str::to_lowercase);
                    assert_eq!(own, Some(text.to_lowercase()), "{at}: choice {number}");
                    assert_eq!(input.target, golden.target, "{at}: target");
                }
            }
            assert_eq!(input.sep as i32, golden.sep, "{at}: sep");
            assert_eq!(input.ids, golden.ids, "{at}: ids");
            assert_eq!(input.block_position, golden.block_position, "{at}: block position");
            assert_eq!(input.loss_mask, golden.loss_mask, "{at}: loss mask");
            if input.position != golden.position {
                assert!(has_other_mask(&task, &golden.guid, number), "{at}: position");
                let (ours, theirs) = (input.position[input.sep] as usize, golden.position[input.sep] as usize);
                assert_eq!((input.ids[ours], input.ids[theirs]), (103, 103), "{at}: position");
                assert_eq!(input.position[..input.sep], golden.position[..input.sep], "{at}: position");
                assert!(ours < theirs, "{at}: the published code takes the last [MASK]");
                masks.insert(format!("{task} {number} {}", golden.guid));
            }
        }
    }
    println!("{rows} rows, {too_long} do not fit, other masks {masks:?}, unlabelled {unlabelled:?}");
    assert!(rows > 3000 && too_long > 0, "{rows} rows, {too_long} do not fit");
    assert_eq!(masks.len(), 7, "{masks:?}");
    assert!(unlabelled.iter().all(|row| row.starts_with("wic ")) && !unlabelled.is_empty(), "{unlabelled:?}");
}
