//! Comparison with recorded outputs of the published code, which are in `tests/fixtures/golden/infilling`: spans, sentences, samples and
//! their layout, for recorded draws.

use std::collections::VecDeque;
use std::path::Path;

use glm_kernels::attention::Visibility;
use glm_schemas::vocab::{SpecialIds, TokenId};
use serde_json::Value;

use super::layout::{Blanks, Row};
use super::spans::{place, place_in_documents, sentences};
use super::text::{Span, Text};
use super::window::{Document, pieces};
use crate::batch::packed::Batch;
use crate::batch::work::Work;

/// Settings of variants that no published run uses.
const VARIANTS: [&str; 4] = ["shuffle_blocks", "block_position_encoding", "random_position", "context_mask_ratio"];

pub(super) fn golden(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/golden/infilling").join(name);
    serde_json::from_str(&std::fs::read_to_string(path).expect("read")).expect("json")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

fn numbers<T: TryFrom<i64, Error: std::fmt::Debug>>(value: &Value) -> Vec<T> {
    list(value).iter().map(|number| T::try_from(number.as_i64().expect("a number")).expect("in range")).collect()
}

fn spans(value: &Value) -> Vec<Span> {
    list(value).iter().map(numbers::<usize>).map(|pair| Span::new(pair[0], pair[1])).collect()
}

/// Special tokens of a recorded vocabulary, and its mask tokens by name.
struct Profile {
    special: SpecialIds,
    ids: Value,
}

impl Profile {
    fn of(vocabularies: &Value, name: &str) -> Self {
        let (vocabulary, fixed) = name.strip_suffix("_fixed").map_or((name, false), |name| (name, true));
        let is_it = |profile: &&Value| profile["vocabulary"] == vocabulary && profile["fix_command_token"] == fixed;
        let ids = list(&vocabularies["profiles"]).iter().find(is_it).expect("profile")["ids"].clone();
        let id = |name: &str| TokenId::try_from(ids[name].as_i64().expect("id")).expect("id");
        let special = SpecialIds {
            pad: id("eos"),
            unk: id("unk"),
            cls: id("ENC"),
            sep: id("sep"),
            mask: id("MASK"),
            sop: id("sop"),
            eop: id("eop"),
        };
        Self { special, ids }
    }

    fn id(&self, name: &str) -> TokenId {
        TokenId::try_from(self.ids[name].as_i64().expect("id")).expect("id")
    }

    fn mask(&self, task: &str, task_mask: bool) -> TokenId {
        self.id(match task {
            "gap_sentence" | "sentence" if task_mask => "sMASK",
            "generation" | "prefix" | "document" if task_mask => "gMASK",
            _ => "MASK",
        })
    }
}

pub(super) fn tiny() -> SpecialIds {
    Profile::of(&golden("vocabularies.json"), "tiny").special
}

/// Exclusive ends of sentences in tokens of the tiny vocabulary, by the names of the rules.
fn marks(ids: &[TokenId], rules: &[&str]) -> Vec<usize> {
    let of_rules = golden("vocabularies.json")["sentence_ends"]["tiny"].clone();
    let ends: Vec<TokenId> = rules.iter().flat_map(|rule| numbers::<TokenId>(&of_rules[*rule])).collect();
    (0..ids.len()).filter(|index| ends.contains(&ids[*index])).map(|index| index + 1).collect()
}

const MASKING: [&str; 2] = ["sampling", "masking_only"];

/// Lays out a row and compares it with recorded columns, which may be padded with zeros.
#[track_caller]
fn check_row(
    name: &str,
    profile: &Profile,
    row: &Row<'_>,
    flags: &[i64],
    replaced: &[usize],
    expected: [&Value; 5],
    sep: usize,
) {
    let mut batch = Batch::default();
    let predicted = |index: usize| flags[index] == 1;
    let hidden = |index| replaced.contains(&index).then(|| profile.id("dBLOCK"));
    row.push(profile.special, 0, predicted, hidden, &mut batch);
    batch.end_row(7, 0);
    batch.end_example(0, 0, 1);
    let (inputs, targets) = (&batch.inputs, &batch.targets);
    let (length, context) = (inputs.ids.len(), inputs.rows[0].context);
    assert_eq!(context, sep, "{name}: context");
    let padded = |values: &[i64]| [values, &vec![0; list(expected[0]).len() - length]].concat();
    assert_eq!(padded(&inputs.ids), numbers::<i64>(expected[0]), "{name}: ids");
    assert_eq!(padded(&inputs.position), numbers::<i64>(expected[1]), "{name}: position");
    assert_eq!(padded(&inputs.block_position), numbers::<i64>(expected[2]), "{name}: block position");
    assert!(inputs.piece_start[..context].iter().all(|start| *start == -1), "{name}");
    assert!(inputs.piece_start[context..].iter().all(|start| *start == context as i32), "{name}: one piece");
    assert_eq!(targets.scored, (context as i64..length as i64).collect::<Vec<_>>(), "{name}: scored");
    // Target and loss by place in the row.
    let (target, loss) = (numbers::<i64>(expected[3]), numbers::<i64>(expected[4]));
    let recorded: Vec<_> =
        (0..target.len()).filter(|place| loss[*place] == 1).map(|place| (place as i64, target[place])).collect();
    let found: Vec<_> =
        targets.scored_index.iter().map(|&index| targets.scored[index as usize]).zip(targets.token.iter().copied()).collect();
    assert_eq!(found, recorded, "{name}: targets");
    let work = Work { examples: 1, groups: 1, padded: length, ..row.work(predicted) };
    assert_eq!(work, Work::of(&batch), "{name}: work");
}

#[test]
fn layouts_are_the_published_ones() {
    let vocabularies = golden("vocabularies.json");
    let mut checked = 0;
    for case in list(&golden("layout.json")["cases"]) {
        let (task, settings) = (case["task"].as_str().expect("task"), &case["settings"]);
        if task == "mlm" || VARIANTS.iter().any(|variant| settings.get(variant).is_some()) {
            continue;
        }
        let profile = Profile::of(&vocabularies, case["profile"].as_str().expect("profile"));
        let ids = numbers::<TokenId>(&case["tokens"]);
        let blanks = match task {
            "prefix" => Blanks::Suffix(case["generation_length"].as_u64().expect("length") as usize),
            _ => Blanks::Spans(spans(&case["spans"])),
        };
        // A longer suffix than this has been cut before.
        let blanks = match blanks {
            Blanks::Suffix(length) => Blanks::Suffix(length.min(ids.len() - 2)),
            spans => spans,
        };
        let mask = profile.mask(task, settings["task_mask"] == true);
        let replaced = case.get("replaced").map(numbers::<usize>).unwrap_or_default();
        let expected = &case["expected"];
        let columns = ["ids", "position", "block_position", "target", "loss_mask"].map(|column| &expected[column]);
        let sep = expected["sep"].as_u64().expect("sep") as usize;
        let flags = numbers(&case["data_loss_mask"]);
        let name = case["name"].as_str().expect("name");
        check_row(name, &profile, &Row { ids: &ids, blanks: &blanks, mask }, &flags, &replaced, columns, sep);
        checked += 1;
    }
    assert_eq!(checked, 67);
}

#[test]
fn mask_tokens_are_those_of_the_vocabularies() {
    let vocabularies = golden("vocabularies.json");
    for name in ["bert", "gpt2", "roberta", "chinese_fixed", "tiny"] {
        let profile = Profile::of(&vocabularies, name);
        let masks = profile.special.masks();
        let found = (masks.document, masks.sentence, masks.block);
        assert_eq!(found, (profile.id("gMASK"), profile.id("sMASK"), profile.id("dBLOCK")), "{name}");
    }
}

#[test]
fn batches_are_the_published_ones() {
    let profile = Profile::of(&golden("vocabularies.json"), "tiny");
    let mut checked = 0;
    for file in ["batches.json", "model/batch_cases.json"] {
        for case in list(&golden(file)["cases"]) {
            let (name, drawn, expected) = (case["name"].as_str().expect("name"), &case["drawn"], &case["expected"]);
            let mask = profile.mask(drawn["mode"].as_str().expect("mode"), case["settings"]["task_mask"] == true);
            let mut row = 0;
            for (sample, drawn_sample) in list(&case["samples"]).iter().zip(list(&drawn["samples"])) {
                let ids = numbers::<TokenId>(&sample["tokens"]);
                let blanks = match (drawn_sample.get("suffix"), drawn_sample.get("spans")) {
                    (Some(length), _) => Blanks::Suffix(length.as_u64().expect("length") as usize),
                    (None, Some(found)) => Blanks::Spans(spans(found)),
                    (None, None) => continue,
                };
                let replaced = drawn.get("replaced").map(|of_rows| numbers::<usize>(&of_rows[row])).unwrap_or_default();
                let columns = ["ids", "position", "block_position", "target", "loss_mask"].map(|column| &expected[column][row]);
                let sep = expected["sep"][row].as_u64().expect("sep") as usize;
                let laid_out = Row { ids: &ids, blanks: &blanks, mask };
                check_row(name, &profile, &laid_out, &numbers(&sample["loss_mask"]), &replaced, columns, sep);
                row += 1;
                checked += 1;
            }
            assert_eq!(row, list(&expected["ids"]).len(), "{name}");
        }
    }
    assert!(checked > 60, "{checked}");
}

/// Recorded draws, in order; the bounds are those of the published code.
fn recorded(draws: &Value) -> impl FnMut(usize) -> usize + use<> {
    let mut draws: VecDeque<usize> = numbers::<usize>(draws).into();
    move |bound| {
        let draw = draws.pop_front().unwrap_or(0);
        assert!(draw < bound, "{draw} of {bound}");
        draw
    }
}

#[test]
fn spans_are_placed_as_published() {
    let golden = golden("placement.json");
    for case in list(&golden["spans"]) {
        let [start, room] = ["document_start", "document_length"].map(|key| case[key].as_u64().expect("number") as usize);
        let mut draws = recorded(&case["draws"]);
        let mut below = |bound| {
            assert_eq!(bound as u64, case["draw_range"].as_u64().expect("range"));
            draws(bound)
        };
        assert_eq!(
            place(&numbers::<usize>(&case["lengths"]), start, room, &mut below),
            spans(&case["spans"]),
            "{}",
            case["name"]
        );
    }
    let (mut kept, mut dropped) = (0, 0);
    for case in list(&golden["documents"]) {
        let ids = numbers::<TokenId>(&case["tokens"]);
        let (lengths, share) = (numbers::<usize>(&case["lengths"]), case["ratio"].as_f64().expect("ratio"));
        let text = Text { ids: &ids, before: 1, special: tiny() };
        let found = place_in_documents(&text, &lengths, share, &mut recorded(&case["draws"]));
        if case["dropped"] == false {
            assert_eq!(found, spans(&case["spans"]), "{}", case["name"]);
            kept += 1;
            continue;
        }
        // What fits is kept: spans with the first of the lengths, apart from each other, and no special token.
        let mut sorted = found.clone();
        sorted.sort_unstable();
        assert!(sorted.windows(2).all(|pair| pair[0].end < pair[1].start), "{}: {sorted:?}", case["name"]);
        let is_text = |span: &Span| ids[span.start..span.end].iter().all(|id| ![tiny().pad, tiny().cls].contains(id));
        assert!(found.iter().all(is_text) && found.len() <= lengths.len(), "{}: {found:?}", case["name"]);
        assert!(found.iter().zip(&lengths).all(|(span, length)| span.len() <= *length), "{}", case["name"]);
        dropped += 1;
    }
    assert!(kept > 15 && dropped > 3, "{kept} {dropped}");
}

#[test]
fn sentences_are_chosen_as_published() {
    for case in list(&golden("placement.json")["sentences"]) {
        let ids = numbers::<TokenId>(&case["tokens"]);
        let text = Text { ids: &ids, before: 1, special: tiny() };
        let marks = marks(&ids, &MASKING);
        // Unlike the published code's, our sentences do not begin with the head of a document.
        let without_head = |value: &Value| -> Vec<Span> {
            let own = |span: Span| Span::new(span.start + usize::from(ids[span.start] == tiny().cls), span.end);
            spans(value).into_iter().map(own).filter(|span| span.len() > 0).collect()
        };
        assert_eq!(text.sentences(&marks), without_head(&case["sentences"]), "{}", case["name"]);
        let order = without_head(&case["order"]);
        if order != spans(&case["order"]) {
            continue;
        }
        let mut shuffle = |found: &mut [Span]| found.copy_from_slice(&order);
        let mut chosen = sentences(&text, &marks, case["ratio"].as_f64().expect("ratio"), &mut shuffle);
        chosen.sort_unstable();
        assert_eq!(chosen, spans(&case["chosen"]), "{}", case["name"]);
    }
}

#[test]
fn windows_of_long_documents_are_the_published_ones() {
    let golden = golden("samples.json");
    let mut checked = 0;
    for case in list(&golden["cases"]) {
        let draws = &case["draws"];
        let documents = numbers::<usize>(&draws["documents"]);
        if documents.len() > 1 {
            // Packing of several documents into a sample, which we do not do.
            continue;
        }
        let stored = &golden["corpora"][case["corpus"].as_str().expect("corpus")][documents[0]];
        let (prompt, text) = (numbers::<TokenId>(&stored["prompt"]), numbers::<TokenId>(&stored["text"]));
        let ends: Vec<i32> = marks(&text, &["sampling"]).into_iter().map(|end| end as i32).collect();
        let document = Document { prompt: &prompt, text: &text, ends: &ends };
        let length = case["seq_length"].as_u64().expect("length") as usize;
        let (drawn, to_the_left) = (draws["start"].as_u64(), draws["direction"] == "left");
        let range = match drawn {
            // It fits.
            None => document.window(length, &mut |_| panic!("nothing to draw")),
            Some(0) if !to_the_left => {
                // Ours does not skip the first sentence.
                assert_eq!(document.aligned(0, false, length / 2), 0);
                continue;
            }
            Some(start) => {
                let start = match draws["sentence_start"] == true {
                    true => document.aligned(start as usize, to_the_left, length / 2),
                    false => start as usize,
                };
                start..document.cut(start, length)
            }
        };
        let all: Vec<TokenId> = [&prompt[..], &text, &[tiny().pad]].concat();
        let found: Vec<TokenId> = [&[tiny().cls], &all[range]].concat();
        assert_eq!(found, numbers::<TokenId>(&case["tokens"]), "{}", case["name"]);
        checked += 1;
    }
    assert!(checked >= 15, "{checked}");
}

#[test]
fn short_pieces_are_the_published_ones() {
    for case in list(&golden("samples.json")["short_sequences"]) {
        let mut results = list(&case["result"]).iter();
        let length = case["target_length"].as_u64().expect("length") as usize;
        let count = (case["seq_length"].as_u64().expect("length") as usize - 1) / length;
        for (sample, starts) in list(&case["samples"]).iter().zip(list(&case["starts"])) {
            let sample = numbers::<TokenId>(sample.get("tokens").unwrap_or(sample));
            let tokens = &sample[1..];
            let mut ends = marks(tokens, &MASKING);
            ends.extend((0..tokens.len()).filter(|index| tokens[*index] == tiny().pad).map(|index| index + 1));
            ends.sort_unstable();
            let none = Value::Array(Vec::new());
            let mut below = recorded(if starts.is_null() { &none } else { starts });
            for range in pieces(tokens, tiny().pad, &ends, length, count, &mut below) {
                let expected = results.next().expect("a piece");
                let found: Vec<TokenId> = [&[tiny().cls], &tokens[range]].concat();
                let expected = numbers::<TokenId>(expected.get("tokens").unwrap_or(expected));
                assert_eq!(found, expected, "{}", case["name"]);
            }
        }
        assert!(results.next().is_none(), "{}", case["name"]);
    }
}

#[test]
fn tokens_see_what_they_see_in_the_published_code() {
    for case in list(&golden("masks.json")["cases"]) {
        let length = case["length"].as_u64().expect("length") as usize;
        for (sep, expected) in numbers::<usize>(&case["sep"]).into_iter().zip(list(&case["can_see"])) {
            // All spans of a row are one piece that starts where the context ends.
            let from: Vec<i32> = (0..length).map(|token| if token < sep { -1 } else { sep as i32 }).collect();
            let visibility = Visibility { context: sep, from: &from };
            for (query, expected) in list(expected).iter().enumerate() {
                let (shared, own) = visibility.of(query);
                let sees = |key: usize| if key < shared || own.contains(&key) { '1' } else { '0' };
                assert_eq!(
                    (0..length).map(sees).collect::<String>(),
                    expected.as_str().expect("text"),
                    "{} {query}",
                    case["name"]
                );
            }
        }
    }
}
