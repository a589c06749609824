//! Language-model evaluation reproduces the windows, log probabilities and figures of the published code.
//!
//! Intended differences: the published figures divide by the number of all tokens less one, ours by the tokens that were scored, which
//! is the same for a single text; texts of one token or none and strides out of range, which the published code cannot evaluate, add
//! nothing and are refused; a unidirectional passage that is too long loses its front.

use glm_schemas::vocab::{SpecialIds, TokenId};
use glm_tests::fixtures;
use glm_trainer::batch::packed::Batch;
use glm_trainer::checkpoint::weights::Weights;
use glm_trainer::data::DataError;
use glm_trainer::model::{Glm, Kernels, Pass};
use glm_trainer::task::lm::clean::Cleaning;
use glm_trainer::task::lm::perplexity::{Totals, Windows};
use glm_trainer::task::lm::{Frame, Window, lambada};
use glm_trainer::train::language_model::{WindowScorer, WindowScores};
use serde_json::Value;
use tch::{Device, Kind};

const MODELS: [(&str, &str); 2] =
    [("full-gen", "generation/full-gen.safetensors"), ("full-vocab", "model/full-vocab/blocklm-tiny")];

fn golden(name: &str) -> Value {
    let text = std::fs::read_to_string(fixtures().join("golden/lm").join(name)).expect("read");
    serde_json::from_str(&text).expect("json")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("list")
}

fn size(value: &Value) -> usize {
    value.as_u64().expect("number") as usize
}

fn numbers(value: &Value) -> Vec<f64> {
    list(value).iter().map(|number| number.as_f64().expect("number")).collect()
}

fn ids(value: &Value) -> Vec<TokenId> {
    list(value).iter().map(|id| id.as_i64().expect("id") as TokenId).collect()
}

fn flag(value: &Value) -> bool {
    value.as_bool().expect("boolean")
}

/// Special tokens of a group's windows; `end`: LAMBADA's contexts have an end.
fn frame(group: &Value, end: bool) -> Frame {
    let special = SpecialIds::BERT_UNCASED;
    let blank = if flag(&group["task_mask"]) { special.masks().document } else { special.mask };
    Frame { cls: special.cls, blank, end: end.then_some(special.pad), sop: special.sop }
}

/// A model with the settings of its passes.
struct Subject {
    name: &'static str,
    model: Glm,
    pass: Pass,
    /// Largest deviation of a log probability, relative to the published one in double precision.
    tolerance: f64,
}

/// Both models in both precisions, with both implementations of the operations. In single precision, libtorch's operators deviate more than
/// the fused ones.
fn subjects() -> Vec<Subject> {
    tch::set_num_threads(1);
    let modes = [
        (Kind::Double, Kernels::Auto, 1e-9),
        (Kind::Double, Kernels::Torch, 1e-9),
        (Kind::Float, Kernels::Auto, 1e-5),
        (Kind::Float, Kernels::Torch, 1e-4),
    ];
    let subjects = MODELS.into_iter().flat_map(|(name, path)| {
        let weights = Weights::open(&fixtures().join("golden").join(path)).expect("weights");
        modes.map(|(kind, kernels, tolerance)| {
            let model = Glm::new(&weights.model_config(Some(2)).expect("sizes"), kind, Device::Cpu).expect("model");
            weights.load_into(model.parameters()).expect("load");
            Subject { name, model, pass: Pass::evaluation(kind, kernels), tolerance }
        })
    });
    subjects.collect()
}

fn assert_close(found: f64, expected: f64, tolerance: f64, place: &str) {
    assert!((found - expected).abs() <= tolerance * expected.abs().max(1.0), "{place}: {found} instead of {expected}");
}

/// Compares a window as a row of a batch with the published encoding of it.
fn assert_encoded(window: &Window<'_>, frame: &Frame, expected: &Value, place: &str) {
    let mut batch = Batch::default();
    window.pack(0, frame, &mut batch);
    let [row] = batch.inputs.rows[..] else { panic!("one row") };
    assert_eq!(row.context, size(&expected["sep"]), "{place}");
    for (column, name) in
        [(&batch.inputs.ids, "ids"), (&batch.inputs.position, "position"), (&batch.inputs.block_position, "block_position")]
    {
        let column: Vec<TokenId> = column.iter().map(|&value| value as TokenId).collect();
        assert_eq!(column, ids(&expected[name]), "{place}: {name}");
    }
    // All tokens of the piece see each other causally: their piece begins at the start of piece.
    assert!(batch.inputs.piece_start[row.context..].iter().all(|&start| start as usize == row.context), "{place}");
    let (mut targets, mut counted) = (vec![0; row.length], vec![0; row.length]);
    for (&scored, &token) in batch.targets.scored_index.iter().zip(&batch.targets.token) {
        let at = batch.targets.scored[scored as usize] as usize;
        (targets[at], counted[at]) = (token as TokenId, 1);
    }
    assert_eq!(counted, ids(&expected["loss_mask"]), "{place}: loss_mask");
    let published: Vec<_> = ids(&expected["target"]).iter().zip(&counted).map(|(token, counts)| token * counts).collect();
    assert_eq!(targets, published, "{place}: target");
}

fn scored(subject: &Subject, frame: Frame, windows: &[Window<'_>]) -> Vec<WindowScores> {
    let Subject { model, pass, .. } = subject;
    // Several windows per batch, and several batches.
    let scorer = WindowScorer { model, pass: *pass, frame, micro_batch_tokens: 300, guesses: true };
    let mut found = vec![WindowScores::default(); windows.len()];
    scorer
        .score::<DataError>(windows, |number, scores| {
            found[number] = scores;
            Ok(())
        })
        .expect("scores");
    found
}

#[test]
fn windows_of_long_texts_and_their_figures() {
    let (golden, subjects) = (golden("perplexity.json"), subjects());
    let (mut windows_seen, mut refused) = (0, 0);
    for group in list(&golden["groups"]) {
        let (name, unidirectional) = (group["name"].as_str().expect("name"), flag(&group["unidirectional"]));
        let (seq_len, stride) = (size(&group["seq_length"]), size(&group["overlap"]));
        let Ok(cut) = Windows::try_new(seq_len, stride, unidirectional) else {
            // The published code loses a token per window here.
            assert!(name == "overlap_large" && unidirectional && stride == seq_len - 1);
            assert!(size(&group["scored_tokens"]) < size(&group["num_tokenized_tokens"]) - 1);
            refused += 1;
            continue;
        };
        let frame = frame(group, false);
        let documents: Vec<Vec<TokenId>> = list(&group["documents"]).iter().map(ids).collect();
        let mut published = list(&group["windows"]).iter();
        let (mut windows, mut expected, mut totals) = (Vec::new(), Vec::new(), Totals::default());
        for (number, (document, count)) in documents.iter().zip(list(&group["num_sequences"])).enumerate() {
            let of_document: Vec<&Value> = published.by_ref().take(size(count)).collect();
            totals += Totals::of_document(document.len(), 0);
            if document.len() < 2 {
                assert_eq!(cut.of(document).count(), 0, "{name}: nothing to predict");
                continue;
            }
            let found: Vec<_> = cut.of(document).collect();
            assert_eq!(found.len(), of_document.len(), "{name} {number}");
            for (window, published) in found.iter().zip(&of_document) {
                assert_encoded(window, &frame, published, &format!("{name} {number}"));
            }
            windows.extend(found);
            expected.extend(of_document);
        }
        windows_seen += windows.len();
        totals.scored_tokens = windows.iter().map(Window::counted).sum();
        totals.words = size(&group["num_original_tokens"]);
        assert_eq!(totals.tokens, size(&group["num_tokenized_tokens"]));
        let Some(figures) = group["published"].as_object() else { continue };
        assert_eq!(totals.scored_tokens, size(&group["scored_tokens"]), "{name}");

        for subject in &subjects {
            let &Subject { name: model, pass, tolerance, .. } = subject;
            let (scores, place) = (scored(subject, frame, &windows), format!("{name}, {model}, {pass:?}"));
            for (scores, expected) in scores.iter().zip(&expected) {
                let expected = numbers(&expected["scores"][model]);
                assert_eq!(scores.log_probs.len(), expected.len(), "{place}");
                for (found, expected) in scores.log_probs.iter().zip(expected) {
                    assert_close(*found, expected, tolerance, &place);
                }
            }
            totals.loss = scores.iter().map(|scores| -scores.log_prob()).sum();
            let total = figures[&format!("{model}_total_loss")].as_f64().expect("number");
            assert_close(totals.loss, total, tolerance, &place);
            // The published mean divides by more tokens than were scored if there are several texts, and so for words.
            let published = &figures[&format!("{model}_fp64")];
            let (mean, words) = (totals.mean_loss().expect("scored"), totals.word_perplexity().expect("words").ln());
            let published_mean = published["avg loss"].as_f64().expect("number");
            assert_close(mean * totals.scored_tokens as f64, published_mean * (totals.tokens - 1) as f64, tolerance, &place);
            let published_words = published["adjusted ppl"].as_f64().expect("number").ln();
            let published_total = published_words * (totals.words - 1) as f64;
            assert_close(words * (totals.words - totals.documents) as f64, published_total, tolerance, &place);
            if documents.len() == 1 {
                assert_close(mean, published_mean, tolerance, &place);
                assert_close(words, published_words, tolerance, &place);
            }
        }
    }
    assert_eq!((windows_seen, refused), (95, 1));
}

#[test]
fn passages_of_lambada_and_their_last_words() {
    let (golden, subjects) = (golden("lambada.json"), subjects());
    let mut rejected = 0;
    for group in list(&golden["groups"]) {
        let (unidirectional, seq_len) = (group["mode"] == "unidirectional", size(&group["seq_length"]));
        let frame = frame(group, true);
        let cases = list(&group["cases"]);
        let passages: Vec<_> = cases
            .iter()
            .map(|case| {
                let (mut tokens, answer) = (ids(&case["context_tokens"]), ids(&case["answer_tokens"]));
                tokens.extend(&answer);
                (tokens, answer)
            })
            .collect();
        let windows: Vec<_> = passages
            .iter()
            .map(|(tokens, answer)| lambada::window(tokens, answer.len(), seq_len, unidirectional).expect("fits"))
            .collect();
        for (window, case) in windows.iter().zip(cases) {
            let place = format!("{} {seq_len} {}", group["mode"], case["text"]);
            if case["error"].is_string() {
                // The published code can cut off one token only.
                assert_eq!((window.tokens.len() + 3, window.context), (seq_len, 0), "{place}");
                rejected += 1;
            } else {
                assert_encoded(window, &frame, case, &place);
            }
        }
        if !cases[0]["scores"].is_object() {
            continue;
        }
        for subject in &subjects {
            let (scores, mut correct) = (scored(subject, frame, &windows), 0);
            for ((scores, case), (_, answer)) in scores.iter().zip(cases).zip(&passages) {
                let place = format!("{}, {:?}, {}", subject.name, subject.pass, case["text"]);
                let published = &case["scores"][subject.name];
                for (found, expected) in scores.log_probs.iter().zip(numbers(&published["log_probs"])) {
                    assert_close(*found, expected, subject.tolerance, &place);
                }
                assert_eq!(scores.guesses, ids(&published["argmax"]), "{place}");
                assert_eq!(&scores.guesses == answer, flag(&published["correct"]), "{place}");
                correct += usize::from(&scores.guesses == answer);
            }
            let accuracy = 100.0 * lambada::metrics(cases.len(), correct, 0).get("accuracy").expect("accuracy");
            let published = &group["published"][subject.name]["accuracy"];
            assert_close(accuracy, published.as_f64().expect("number"), 1e-12, subject.name);
        }
    }
    assert_eq!(rejected, 24);
}

#[test]
fn clean_up_of_tokenized_text() {
    for case in list(&golden("detokenizer.json")["cases"]) {
        let [input, output] = ["input", "output"].map(|name| case[name].as_str().expect("text"));
        let cleaning = match case["name"].as_str() {
            Some("wikitext") => Cleaning::Wikitext,
            _ => Cleaning::Ptb,
        };
        assert_eq!(cleaning.clean(input), output);
    }
}
