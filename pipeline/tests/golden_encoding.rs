//! Raw ReCoRD to model input, compared with what the published recipe makes of it: every field of every choice of both splits.

mod support;

use std::fs;
use std::path::Path;

use glm_schemas::cloze::ClozeView;
use glm_schemas::encoding::{ChoiceEncoder, PUBLISHED_SEQUENCE_LENGTH};
use glm_schemas::manifest::Split;
use glm_schemas::vocab::SpecialIds;

/// One choice as `expected.parquet` has it.
#[derive(Debug, PartialEq)]
struct Choice {
    split: String,
    order: i32,
    guid: String,
    choice_no: i32,
    choice: String,
    num_choices: i32,
    answer_idx: Vec<i32>,
    sep: i32,
    ids: Vec<i32>,
    position: Vec<i32>,
    block_position: Vec<i32>,
    target: Vec<i32>,
    loss_mask: Vec<i32>,
}

fn expected(path: &Path) -> Vec<Choice> {
    let mut choices = Vec::new();
    for batch in support::read_parquet(path) {
        let numbers = |name| support::numbers(&batch, name);
        let (split, guid, choice) = ("split", "guid", "choice");
        let (split, guid, choice) =
            (support::texts(&batch, split), support::texts(&batch, guid), support::texts(&batch, choice));
        let (order, choice_no, num_choices) = (numbers("order"), numbers("choice_no"), numbers("num_choices"));
        let (answer_idx, sep, length) = (numbers("answer_idx"), numbers("sep"), numbers("length"));
        let (ids, position, block_position) = (numbers("ids"), numbers("position"), numbers("block_position"));
        let (target, loss_mask) = (numbers("target"), numbers("loss_mask"));
        for row in 0..batch.num_rows() {
            assert_eq!(length[row][0] as usize, ids[row].len());
            choices.push(Choice {
                split: split[row].clone(),
                order: order[row][0],
                guid: guid[row].clone(),
                choice_no: choice_no[row][0],
                choice: choice[row].clone(),
                num_choices: num_choices[row][0],
                answer_idx: answer_idx[row].clone(),
                sep: sep[row][0],
                ids: ids[row].clone(),
                position: position[row].clone(),
                block_position: block_position[row].clone(),
                target: target[row].clone(),
                loss_mask: loss_mask[row].clone(),
            });
        }
    }
    choices.sort_by(|a, b| (&a.split, a.order, a.choice_no).cmp(&(&b.split, b.order, b.choice_no)));
    choices
}

fn ingested(dir: &Path, split: Split, name: &str) -> Vec<Choice> {
    let encoder = ChoiceEncoder::new(SpecialIds::BERT_UNCASED, PUBLISHED_SEQUENCE_LENGTH);
    let mut choices = Vec::new();
    let mut order = 0;
    for batch in support::batches(dir, split) {
        let view = ClozeView::try_new(&batch).expect("the contract");
        for row in 0..view.len() {
            let answer_idx: Vec<_> = view.choices(row).enumerate().filter(|(_, c)| c.correct).map(|(i, _)| i as i32).collect();
            assert_eq!(view.label(row), answer_idx.first().map(|&first| first as usize));
            for (choice_no, choice) in view.choices(row).enumerate() {
                let input = encoder.encode(&view.question(row), choice.ids).expect("fits");
                choices.push(Choice {
                    split: name.to_owned(),
                    order,
                    guid: view.example_id(row).to_owned(),
                    choice_no: choice_no as i32,
                    choice: choice.text.expect("text was read").to_owned(),
                    num_choices: view.choices(row).len() as i32,
                    answer_idx: answer_idx.clone(),
                    sep: input.sep as i32,
                    ids: input.ids,
                    position: input.position,
                    block_position: input.block_position,
                    target: input.target,
                    loss_mask: input.loss_mask,
                });
            }
            order += 1;
        }
    }
    choices
}

/// Both splits are made of the same passages. Returns the number of examples and choices.
fn compare(folder: &Path) -> (usize, usize) {
    let raw = fs::read(folder.join("passages.jsonl")).expect("passages");
    let dir = support::raw_folder(&[(Split::Train, &raw), (Split::Val, &raw)]);
    let summary = support::ingest_with(dir.path(), 2).expect("ingest");
    assert_eq!(summary.rejected_records(), 0);
    let mut found = ingested(dir.path(), Split::Val, "dev");
    found.extend(ingested(dir.path(), Split::Train, "train"));
    let expected = expected(&folder.join("expected.parquet"));
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.len(), expected.len());
    (summary.splits.iter().map(|split| split.questions).sum(), found.len())
}

#[test]
fn our_own_passages_are_encoded_as_published() {
    assert_eq!(compare(&support::repository().join("tests/fixtures/golden/cloze")), (94, 826));
}

#[test]
fn real_passages_are_encoded_as_published() {
    // News text that is not ours to publish: compared where it is at hand, beside the repository.
    let folder = support::repository().join("../shared/golden/record");
    if !folder.is_dir() {
        eprintln!("not compared: there is no {}", folder.display());
        return;
    }
    assert_eq!(compare(&folder), (76, 789));
}
