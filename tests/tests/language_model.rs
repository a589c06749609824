//! `glm-trainer eval --task lm`: texts from files and data sets, figures, lines of `--scores`, and errors.

use std::path::Path;
use std::process::Command;

use glm_tests::{Finished, command, fixtures, ingest, json_lines, run};
use serde_json::{Value, json};

fn golden(name: &str) -> Value {
    let text = std::fs::read_to_string(fixtures().join("golden/lm").join(name)).expect("read");
    serde_json::from_str(&text).expect("json")
}

/// `eval --task lm` with the small model that was trained a little.
fn eval(data: &Path) -> Command {
    let mut command = command("glm-trainer");
    command.args(["eval", "--task", "lm", "--device", "cpu", "--init"]);
    command.arg(fixtures().join("golden/generation/full-gen.safetensors")).arg("--data").arg(data);
    command
}

fn result(finished: &Finished) -> Value {
    serde_json::from_str(&finished.stdout()).expect("json")
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("number")
}

#[test]
fn a_text_file_has_the_published_perplexity() {
    let folder = tempfile::tempdir().expect("folder");
    let (golden, file) = (golden("perplexity.json"), folder.path().join("wiki.test.tokens"));
    std::fs::write(&file, golden["wiki_text"].as_str().expect("text")).expect("write");
    let groups = golden["groups"].as_array().expect("groups").iter().filter(|group| group["name"] == "wiki");
    for group in groups.clone() {
        let mut eval = eval(&file);
        let (seq_len, stride) = (group["seq_length"].to_string(), group["overlap"].to_string());
        eval.args(["--clean", "wikitext", "--json", "--seq-len", &seq_len, "--stride", &stride]);
        eval.args(group["unidirectional"].as_bool().expect("flag").then_some("--unidirectional"));
        eval.args(group["task_mask"].as_bool().expect("flag").then_some("--task-mask"));
        let found = result(&run(&mut eval).success());
        let published = &group["published"]["full-gen_fp64"];
        let close = |found: f64, expected: f64| assert!((found - expected).abs() <= 1e-5 * expected, "{found}, {expected}");
        close(number(&found["loss"]), number(&published["avg loss"]));
        close(number(&found["perplexity"]).ln(), number(&published["ppl"]).ln());
        close(number(&found["word_perplexity"]).ln(), number(&published["adjusted ppl"]).ln());
        assert_eq!((&found["tokens"], &found["words"]), (&group["num_tokenized_tokens"], &group["num_original_tokens"]));
        assert_eq!(
            (&found["scored_tokens"], &found["stride"], &found["clean"]),
            (&group["scored_tokens"], &group["overlap"], &json!("wikitext"))
        );
        assert_eq!(found["data"], json!(file));
        assert_eq!(found["fingerprint"].as_str().map(str::len), Some(64));
    }
    assert_eq!(groups.count(), 6);
    let plain = run(eval(&file).args(["--clean", "wikitext"])).success().stdout();
    assert!(plain.starts_with("perplexity "), "{plain}");
    assert!(plain.contains("bidirectional, up to 512 tokens per sequence, stride 256, clean-up wikitext\n"), "{plain}");
}

#[test]
fn lambada_has_the_published_accuracy() {
    let folder = tempfile::tempdir().expect("folder");
    let golden = golden("lambada.json");
    let (file, lines) = (folder.path().join("lambada.jsonl"), folder.path().join("scores.jsonl"));
    let groups = golden["groups"].as_array().expect("groups").iter();
    for group in groups.filter(|group| group["seq_length"] == 64) {
        let cases = group["cases"].as_array().expect("cases");
        let texts: String = cases.iter().map(|case| format!("{}\n", json!({"text": case["text"]}))).collect();
        std::fs::write(&file, texts).expect("write");
        let evaluated = |seq_len: &str| {
            let mut eval = eval(&file);
            eval.args(["--metric", "lambada", "--json", "--seq-len", seq_len, "--scores"]).arg(&lines);
            result(&run(eval.args((group["mode"] == "unidirectional").then_some("--unidirectional"))).success())
        };
        // Passages that are too long lose their front, and the result counts them.
        assert!(number(&evaluated("16")["truncated"]) > 8.0);
        let found = evaluated("64");
        let published = number(&group["published"]["full-gen"]["accuracy"]);
        assert!((100.0 * number(&found["accuracy"]) - published).abs() < 1e-9);
        assert_eq!((found["texts"].as_u64(), &found["truncated"]), (Some(cases.len() as u64), &json!(0)));
        let lines = json_lines(&lines);
        for ((number, line), case) in (1..).zip(&lines).zip(cases) {
            let published = &case["scores"]["full-gen"];
            assert_eq!((&line["id"], &line["correct"]), (&json!(number), &published["correct"]), "{}", case["text"]);
            assert_eq!(line["expected"] == line["predicted"], line["correct"] == true);
            let sum: f64 = published["log_probs"].as_array().expect("list").iter().map(self::number).sum();
            assert!((self::number(&line["log_prob"]) - sum).abs() <= 1e-5 * sum.abs().max(1.0), "{}", case["text"]);
        }
    }
}

#[test]
fn lines_and_objects_are_texts_of_their_own() {
    let folder = tempfile::tempdir().expect("folder");
    let [text, objects, scores] = ["a.txt", "a.jsonl", "scores.jsonl"].map(|name| folder.path().join(name));
    let lines = ["The lamp of the lighthouse was dark.", "", "One", "She climbed  the steps."];
    std::fs::write(&text, lines.join("\n")).expect("write");
    let as_objects = lines.map(|line| format!("{}\n", json!({"text": line, "id": format!("<{line}>")})));
    std::fs::write(&objects, as_objects.concat()).expect("write");
    let by_line = result(&run(eval(&text).args(["--lines", "--json", "--scores"]).arg(&scores)).success());
    let found = json_lines(&scores);
    let column = |name: &str| found.iter().map(|line| line[name].clone()).collect::<Vec<_>>();
    assert_eq!(column("id"), [1, 2, 3, 4]);
    assert_eq!(column("tokens"), [8, 0, 1, 5]);
    assert_eq!(column("scored_tokens"), [7, 0, 0, 4]);
    assert_eq!(column("words"), [7, 1, 1, 5]);
    assert!(found[1]["loss"].is_null() && found[2]["loss"].is_null());
    let sum = 7.0 * number(&found[0]["loss"]) + 4.0 * number(&found[3]["loss"]);
    assert!((number(&by_line["loss"]) - sum / 11.0).abs() < 1e-9);
    assert_eq!((&by_line["documents"], &by_line["scored_tokens"]), (&json!(4), &json!(11)));
    assert!((number(&by_line["word_perplexity"]) - (sum / 10.0).exp()).abs() < 1e-6 * (sum / 10.0).exp());

    let by_object = result(&run(eval(&objects).args(["--json", "--scores"]).arg(&scores)).success());
    assert_eq!((&by_object["loss"], &by_object["words"]), (&by_line["loss"], &by_line["words"]));
    assert_eq!(json_lines(&scores)[3]["id"], "<She climbed  the steps.>");
    // A text alone: the empty lines separate nothing.
    let whole = result(&run(eval(&text).arg("--json")).success());
    assert_eq!((&whole["documents"], &whole["tokens"], &whole["scored_tokens"]), (&json!(1), &json!(14), &json!(13)));
}

#[test]
fn documents_of_a_data_set_are_texts() {
    let folder = tempfile::tempdir().expect("folder");
    let texts = ["The lamp of the lighthouse was dark.", "Ada climbed the steps (all of them) and lit the lamp.", "Lamp"];
    let lines = texts.map(|text| format!("{}\n", json!({"text": text})));
    let [train, val] = ["train.jsonl", "val.jsonl"].map(|name| folder.path().join(name));
    std::fs::write(&train, &lines[1]).expect("write");
    std::fs::write(&val, lines.concat()).expect("write");
    run(command("glm-prep").args(["ingest", "--task", "text"]).arg(folder.path())).success();
    let scores = folder.path().join("scores.jsonl");
    for (split, file) in [("train", &train), ("val", &val)] {
        let of_file = result(&run(eval(file).arg("--json")).success());
        let mut of_data = eval(folder.path());
        let of_data = result(&run(of_data.args(["--json", "--split", split, "--scores"]).arg(&scores)).success());
        for figure in ["loss", "word_perplexity", "documents", "tokens", "scored_tokens", "words"] {
            assert_eq!(of_data[figure], of_file[figure], "{split} {figure}");
        }
        assert_eq!((&of_data["split"], of_file.get("split")), (&json!(split), None));
        assert!(json_lines(&scores)[0]["id"].as_str().expect("id").starts_with(split));
    }
    // Another vocabulary is that of another data set.
    let vocabulary = folder.path().join("vocab.txt");
    std::fs::write(&vocabulary, "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nlamp\n").expect("write");
    let finished = run(eval(folder.path()).arg("--tokenizer").arg(&vocabulary));
    let message = "was made with the vocabulary bert-large-uncased, but this is vocab.txt; give the same file as --tokenizer\n";
    assert_eq!((finished.code(), finished.stderr().matches(message).count()), (Some(1), 1), "{}", finished.stderr());
}

#[test]
fn mistakes_are_reported_with_a_remedy() {
    let folder = tempfile::tempdir().expect("folder");
    let [text, empty, objects] = ["a.txt", "empty.txt", "a.jsonl"].map(|name| folder.path().join(name));
    std::fs::write(&text, "The lamp of the lighthouse was dark.").expect("write");
    std::fs::write(&empty, " \n").expect("write");
    std::fs::write(&objects, "{\"text\": \"She came\"}\n{\"text\": \" \"}\n").expect("write");
    let refused = |data: &Path, arguments: &[&str], message: &str| {
        let finished = run(eval(data).args(arguments));
        assert_eq!((finished.code(), finished.stderr().matches(message).count()), (Some(1), 1), "{}", finished.stderr());
    };
    refused(&text, &["--stride", "512"], "--stride 512 is out of range: with --seq-len 512 it is at least 1 and at most 511\n");
    refused(&text, &["--stride", "511", "--unidirectional"], "and --unidirectional it is at least 1 and at most 510\n");
    refused(&text, &["--seq-len", "1024"], "has 513; use --seq-len 513 or less\n");
    refused(
        &text,
        &["--metric", "bleu"],
        "--metric bleu measures generated texts; with --task lm, use perplexity or lambada\n",
    );
    refused(&empty, &[], "empty.txt has no text of two tokens or more, so there is nothing to predict\n");
    refused(&objects, &["--metric", "lambada"], "a.jsonl, text 2: the text has no word to predict\n");
    refused(&folder.path().join("none.txt"), &[], "none.txt does not exist");
    // The remedies work.
    run(eval(&text).args(["--stride", "511"])).success();
    run(eval(&text).args(["--seq-len", "513"])).success();

    ingest(folder.path(), &fixtures().join("golden/cloze/passages.jsonl"), &["val"]);
    refused(folder.path(), &[], "has the table `cloze`, but a language model is evaluated on documents");
    let mut wrong = command("glm-trainer");
    wrong.args(["eval", "--task", "infill", "--init"]).arg(fixtures().join("golden/generation/full-gen.safetensors"));
    let finished = run(wrong.arg("--data").arg(folder.path()));
    let message = "--task infill needs a data set made by `glm-prep ingest DIR --task text`";
    assert_eq!((finished.code(), finished.stderr().matches(message).count()), (Some(1), 1), "{}", finished.stderr());
    let mut cloze = command("glm-trainer");
    cloze.args(["eval", "--lines", "--init"]).arg(fixtures().join("golden/generation/full-gen.safetensors"));
    let finished = run(cloze.arg("--data").arg(folder.path()));
    assert!(finished.stderr().contains("--lines is an option of --task lm"), "{}", finished.stderr());
}
