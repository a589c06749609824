//! `glm-trainer generate`: filled texts, token ids with their log probabilities, and errors.

use std::io::Write;
use std::process::{Command, Stdio};

use glm_tests::{command, fixtures, run};
use serde_json::{Value, json};

fn trainer(weights: &str) -> Command {
    let mut command = command("glm-trainer");
    command.args(["generate", "--device", "cpu", "--set", "model.heads=2", "--init"]);
    command.arg(fixtures().join("golden").join(weights));
    command
}

/// A model that has learned some texts.
fn full() -> Command {
    trainer("generation/full-gen.safetensors")
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("json")).collect()
}

fn golden() -> Value {
    let text = std::fs::read_to_string(fixtures().join("golden/generation/fill.json")).expect("read");
    serde_json::from_str(&text).expect("json")
}

/// Recorded cases of a model without and with task masks.
fn cases(golden: &Value, weights: &str, task_mask: bool) -> Vec<Value> {
    let flags = if task_mask { json!(["--task-mask"]) } else { json!([]) };
    let all = golden["cases"].as_array().expect("cases").iter();
    all.filter(|case| case["model"] == weights && case["flags"] == flags).cloned().collect()
}

fn ids(value: &Value) -> Vec<i64> {
    value.as_array().expect("ids").iter().map(|id| id.as_i64().expect("id")).collect()
}

#[test]
fn texts_are_filled_with_the_published_pieces() {
    let golden = golden();
    for task_mask in [false, true] {
        for case in cases(&golden, "full-gen", task_mask) {
            let beams = case["beams"].to_string();
            let mut generate = full();
            generate.args(["--json", "--beams", &beams, "--max-tokens", &case["out_length"].to_string()]);
            if beams != "1" {
                generate.args(["--length-penalty", &case["length_penalty"].to_string()]);
            }
            if task_mask {
                generate.arg("--task-mask");
            }
            let found = lines(&run(generate.arg(case["text"].as_str().expect("text"))).success().stdout()).remove(0);
            let output = &found["outputs"][0];
            let (pieces, expected) = (output["pieces"].as_array().expect("pieces"), case["pieces"].as_array().expect("pieces"));
            assert_eq!(pieces.len(), expected.len(), "{case}");
            for (piece, expected) in pieces.iter().zip(expected) {
                assert_eq!((&piece["ids"], &piece["position"]), (&expected["tokens"], &expected["position"]), "{case}");
                if beams == "1" {
                    assert_eq!(piece["finish"], expected["stop"], "{case}");
                }
                let is_cut = piece["finish"] == "length";
                assert_eq!(piece["end_log_prob"].is_null(), is_cut, "{case}");
                assert_eq!(piece["log_probs"].as_array().map(Vec::len), Some(ids(&piece["ids"]).len()));
                if is_cut {
                    // The published memory lacks the last token of a piece that ends at the limit.
                    break;
                }
            }
            let text = output["text"].as_str().expect("text");
            assert!(pieces.iter().all(|piece| text.contains(piece["text"].as_str().expect("text"))), "{found}");
            assert!(found["weights"]["path"].as_str().is_some_and(|path| path.ends_with("full-gen.safetensors")), "{found}");
        }
    }
}

#[test]
fn arguments_a_file_and_standard_input_give_the_same_texts() {
    let folder = tempfile::tempdir().expect("folder");
    let texts = ["It was [MASK] who came.", "[MASK] and [MASK]", "once upon a time"];
    let options = ["--max-tokens", "9", "--seed", "3", "--batch-size", "2"];
    let plain = run(full().args(options).args(texts)).success().stdout();
    assert_eq!(plain.lines().count(), 3, "{plain}");
    let [first, second, third] = <[&str; 3]>::try_from(plain.lines().collect::<Vec<_>>()).expect("three");
    assert!(first.starts_with("It was ") && first.ends_with(" who came.") && !first.contains("[MASK]"), "{first}");
    assert!(second.contains(" and ") && third.starts_with("once upon a time "), "{plain}");

    let file = folder.path().join("texts.jsonl");
    let requests: String = texts.iter().zip(7..).map(|(text, id)| format!("{}\n", json!({"text": text, "id": id}))).collect();
    std::fs::write(&file, &requests).expect("write");
    assert_eq!(run(full().args(options).arg("--file").arg(&file)).success().stdout(), plain);

    let mut child = full().args(options).arg("--json").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("start");
    child.stdin.take().expect("stdin").write_all(requests.as_bytes()).expect("write");
    let output = child.wait_with_output().expect("end");
    assert!(output.status.success());
    let found = lines(&String::from_utf8(output.stdout).expect("text"));
    let filled: Vec<_> = found.iter().map(|line| line["outputs"][0]["text"].as_str().expect("text")).collect();
    assert_eq!(filled, plain.lines().collect::<Vec<_>>());
    assert_eq!(found.iter().map(|line| line["id"].clone()).collect::<Vec<_>>(), [json!(7), json!(8), json!(9)]);
    assert_eq!(found[2]["text"], "once upon a time [MASK]");

    // A text does not depend on what it is decoded with.
    let alone = run(full().args(options).args(&texts[..1])).success().stdout();
    assert_eq!(alone.trim_end(), first);
    let coloured = run(full().args(options).args(["--color", "always", texts[0]])).success().stdout();
    assert!(coloured.starts_with("It was \x1b[1;32m"), "{coloured}");
}

#[test]
fn seeds_and_numbers_of_results() {
    let text = "It was [MASK] who came.";
    let sampled = |seed: &str, number: &str| {
        let options = ["--max-tokens", "6", "--top-k", "0", "--temperature", "1.5", "--seed", seed, "--num-return", number];
        run(full().args(options).arg(text)).success().stdout()
    };
    let three = sampled("1", "3");
    assert_eq!(three.lines().count(), 3, "{three}");
    assert_eq!(three, sampled("1", "3"));
    assert_eq!(three.lines().next(), sampled("1", "1").lines().next(), "the number of results changes the first");
    assert_ne!(three, sampled("2", "3"));

    let options = ["--beams", "4", "--num-return", "3", "--max-tokens", "6", "--length-penalty", "0.5"];
    let beams = run(full().args(options).arg(text)).success().stdout();
    let found = lines(&run(full().args(options).args(["--json", text])).success().stdout()).remove(0);
    let outputs = found["outputs"].as_array().expect("outputs");
    assert_eq!(
        outputs.iter().map(|output| output["text"].as_str().expect("text")).collect::<Vec<_>>(),
        beams.lines().collect::<Vec<_>>()
    );
    assert!(outputs.is_sorted_by(|a, b| a["score"].as_f64() >= b["score"].as_f64()), "{found}");
    for output in outputs {
        let piece = &output["pieces"][0];
        let log_probs = piece["log_probs"].as_array().expect("numbers").iter().map(|number| number.as_f64().expect("number"));
        let sum = log_probs.sum::<f64>() + piece["end_log_prob"].as_f64().unwrap_or(0.0);
        // The start of piece counts.
        let length = (ids(&piece["ids"]).len() + 1) as f64;
        let score = piece["score"].as_f64().expect("score");
        assert!((score - sum / length.powf(0.5)).abs() < 1e-9, "{piece}");
    }
    let limited = ["--greedy", "--min-tokens", "8", "--max-tokens", "8", "--no-repeat-ngram", "1", "--json", text];
    let found = lines(&run(full().args(limited)).success().stdout()).remove(0);
    let mut tokens = ids(&found["outputs"][0]["pieces"][0]["ids"]);
    assert_eq!((tokens.len(), &found["outputs"][0]["pieces"][0]["finish"]), (8, &json!("length")));
    tokens.sort_unstable();
    tokens.dedup();
    assert_eq!(tokens.len(), 8, "a token was repeated");
}

#[test]
fn texts_have_settings_of_their_own() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("texts.jsonl");
    let text = "It was [MASK] who came.";
    let own = [
        (json!({}), &["--seed", "5"][..]),
        (json!({"beams": 3, "num_return": 2, "max_tokens": 4}), &["--beams", "3", "--num-return", "2", "--max-tokens", "4"]),
        (json!({"greedy": true, "max_tokens": 6}), &["--greedy", "--max-tokens", "6"]),
        (json!({"temperature": 1.5, "top_k": 0, "seed": 8}), &["--temperature", "1.5", "--top-k", "0", "--seed", "8"]),
        (json!({"beams": 2, "length_penalty": 0.5}), &["--beams", "2", "--length-penalty", "0.5"]),
    ];
    let mut requests = String::new();
    for (settings, _) in &own {
        let mut request = settings.clone();
        request["text"] = text.into();
        requests += &format!("{request}\n");
    }
    std::fs::write(&file, &requests).expect("write");
    let defaults = ["--max-tokens", "9"];
    let together = run(full().args(defaults).args(["--seed", "5", "--json", "--file"]).arg(&file)).success().stdout();
    let together = lines(&together);
    assert_eq!(together.len(), own.len());
    for (number, (found, (settings, options))) in together.iter().zip(&own).enumerate() {
        let mut alone = full();
        // The last of repeated options counts; samples depend on the number of a text.
        let max_tokens = if options.contains(&"--max-tokens") { &[][..] } else { &defaults[..] };
        let texts = vec![text; number + 1];
        let alone = run(alone.args(max_tokens).args(*options).arg("--json").args(texts)).success().stdout();
        assert_same_outputs(&found["outputs"], &lines(&alone)[number]["outputs"], &settings.to_string());
    }
    let plain = run(full().args(defaults).args(["--seed", "5", "--file"]).arg(&file)).success().stdout();
    assert_eq!(plain.lines().count(), 6, "{plain}");
}

/// Compares outputs: texts and tokens are equal, log probabilities up to rounding, which depends on the number of texts in a batch.
fn assert_same_outputs(found: &Value, expected: &Value, what: &str) {
    match (found, expected) {
        (Value::Number(found), Value::Number(expected)) if found.is_f64() => {
            let [found, expected] = [found, expected].map(|number| number.as_f64().expect("a number"));
            assert!((found - expected).abs() <= 1e-4 * expected.abs().max(1.0), "{what}: {found} instead of {expected}");
        }
        (Value::Array(found), Value::Array(expected)) => {
            assert_eq!(found.len(), expected.len(), "{what}");
            found.iter().zip(expected).for_each(|(found, expected)| assert_same_outputs(found, expected, what));
        }
        (Value::Object(found), Value::Object(expected)) => {
            assert!(found.keys().eq(expected.keys()), "{what}");
            found.values().zip(expected.values()).for_each(|(found, expected)| assert_same_outputs(found, expected, what));
        }
        _ => assert_eq!(found, expected, "{what}"),
    }
}

#[test]
fn a_precision_of_16_bits_fills_texts_as_well() {
    let options = ["--greedy", "--max-tokens", "8", "--json", "--precision"];
    let found = |precision: &str| {
        let found = lines(&run(full().args(options).args([precision, "It was [MASK] who came."])).success().stdout());
        found[0]["outputs"][0]["pieces"][0]["log_probs"][0].as_f64().expect("number")
    };
    assert!((found("fp32") - found("bf16")).abs() < 0.1);
}

#[test]
fn errors_name_the_text_and_a_remedy() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("texts.jsonl");
    let long = "word ".repeat(600);
    for (content, text) in [
        ("{\"text\": \"a\"}\n{\"text\": 1}\n".to_owned(), "texts.jsonl, line 2: `text` is not a string"),
        ("\n{\"text\" 1}\n".to_owned(), "texts.jsonl, line 2, column 9: invalid JSON: expected `:`"),
        (
            format!("{}\n{}\n", json!({"text": "a"}), json!({"text": long})),
            "texts.jsonl, line 2: the text has 603 tokens with [CLS] and the end of text, but the weights have 513 positions",
        ),
        (
            json!({"text": "It was [gMASK]"}).to_string(),
            "line 1: [gMASK] is a blank only for weights that were trained with it; write [MASK] instead, or add --task-mask",
        ),
        (
            format!("{}\n{}\n", json!({"text": "a", "seed": 4}), json!({"text": "b", "max_length": 3})),
            "texts.jsonl, line 2: unknown setting `max_length`; a text can have max_tokens, min_tokens, no_repeat_ngram, greedy,",
        ),
        (json!({"text": "a", "top_p": 2}).to_string(), "line 1: top-p is 2; it must be between 0 and 1"),
        (
            json!({"text": "a", "max_tokens": 512}).to_string(),
            "line 1: the maximum number of tokens is 512; it must be 1 to 511",
        ),
        (json!({"text": "UNMASK]"}).to_string(), "line 1: the text has `MASK]` but no blank; write [MASK]"),
        (String::new(), "texts.jsonl: contains no text"),
    ] {
        std::fs::write(&file, content).expect("write");
        let refused = run(full().arg("--file").arg(&file));
        assert_eq!((refused.code(), refused.stdout().as_str()), (Some(1), ""), "{}", refused.stderr());
        assert_eq!(refused.stderr().matches(text).count(), 1, "{}", refused.stderr());
    }
    for (options, text) in [
        (
            &["--max-tokens", "512"][..],
            "the maximum number of tokens is 512; it must be 1 to 511, because the weights have 513 block positions",
        ),
        (&["--min-tokens", "9", "--max-tokens", "3"], "the minimum number of tokens, 9, is above the maximum, 3"),
        (&["--top-p", "2"], "top-p is 2; it must be between 0 and 1"),
        (&["--temperature", "-1"], "the temperature is -1; it must be above 0"),
        (&["--beams", "2", "--num-return", "3"], "--num-return 3 is more than --beams 2; use --beams 3"),
        (&["--greedy", "--num-return", "2"], "greedy search has one result; for --num-return use sampling or --beams"),
    ] {
        let refused = run(full().args(options).arg("a"));
        assert_eq!(refused.code(), Some(1));
        assert_eq!(refused.stderr().matches(text).count(), 1, "{}", refused.stderr());
    }
    let missing = run(full().arg("--file").arg(folder.path().join("nothing")));
    assert!(missing.stderr().contains("cannot read ") && missing.code() == Some(1), "{}", missing.stderr());
    assert_eq!(run(full().args(["--greedy", "--beams", "2", "a"])).code(), Some(2));
}
