//! Every task that is not part of SuperGLUE: a record as each of its patterns lays it out, written by hand from the published patterns.

use glm_prep::pattern::PatternTask;
use glm_prep::pattern::example::{Example, Use};
use serde_json::{Value, json};

/// The context in one line: truncatable segments in `<…>`, `■` for the blank, `|` before group B.
fn laid_out(example: &Example) -> String {
    let mut line = String::new();
    for at in 0..=example.segments.len() {
        if at == example.group_b && at < example.segments.len() {
            line.push('|');
        }
        if at == example.blank {
            line.push('■');
        }
        match example.segments.get(at) {
            Some(segment) if segment.truncatable => line.extend(["<", segment.text.as_str(), ">"]),
            Some(segment) => line.push_str(&segment.text),
            None => {}
        }
    }
    line
}

fn examples(task: &str, pattern: usize, record: &Value) -> Vec<Example> {
    let task = PatternTask::open(task, Some(pattern), false).expect("a pattern");
    let found = task.examples(&record.to_string(), Use::Train).expect("a record");
    found.examples.into_iter().map(|example| example.expect("an example")).collect()
}

fn example(task: &str, pattern: usize, record: &Value) -> Example {
    let mut found = examples(task, pattern, record);
    assert_eq!(found.len(), 1);
    found.remove(0)
}

/// Words in the order of the labels, separated by commas.
fn choices(example: &Example) -> String {
    example.choices.iter().map(|choice| choice.text.as_str()).collect::<Vec<_>>().join(", ")
}

/// Checks the patterns of a task, each with its context and words, and the word of the right label.
fn check(task: &str, record: &Value, patterns: &[(&str, &str)], right: &[&str]) {
    let count = PatternTask::open(task, None, false).expect("a pattern").file().patterns.len();
    assert_eq!(count, patterns.len(), "{task}");
    for (number, (context, words)) in patterns.iter().enumerate() {
        let example = example(task, number, record);
        assert_eq!((laid_out(&example).as_str(), choices(&example).as_str()), (*context, *words), "{task}, pattern {number}");
        let found: Vec<_> = example.choices.iter().filter(|choice| choice.correct).map(|choice| choice.text.as_str()).collect();
        assert_eq!(found, [right[number % right.len()]], "{task}, pattern {number}");
    }
}

#[test]
fn mnli() {
    let record = json!({"index": "7", "sentence1": "It ‘rained’.", "sentence2": "It was wet.", "gold_label": "entailment"});
    // The quote in front of the full stop is punctuation as well, once it is a plain one.
    let quoted = "\"<It 'rained>\" ?|■, \"<It was wet.>\"";
    let plain = "<It 'rained>?|■, <It was wet.>";
    let (wrong, no) = ("Wrong, Right, Maybe", "No, Yes, Maybe");
    for task in ["glue/mnli", "glue/mnli-mm"] {
        check(task, &record, &[(quoted, wrong), (plain, wrong), (quoted, no), (plain, no)], &["Right", "Right", "Yes", "Yes"]);
        assert_eq!(example(task, 0, &record).ids.idx.as_deref(), Some("7"));
    }
}

#[test]
fn questions_and_sentences_of_glue() {
    let qnli = json!({"index": "0", "question": "Who – came?", "sentence": "Bo came.", "label": "not_entailment"});
    check(
        "glue/qnli",
        &qnli,
        &[
            ("<Bo came.> Question: <Who - came>? Do you know the answer? ■.", "Yes, No"),
            ("<Bo came.> Based on the previous passage, do you know the answer <Who - came>? ■.", "Yes, No"),
            ("Based on the following passage, do you know the answer <Who - came>? ■. <Bo came.>", "Yes, No"),
        ],
        &["No"],
    );
    let qqp = json!({"id": "5", "qid1": "1", "qid2": "2", "question1": "Is it?", "question2": "“Is” it?", "is_duplicate": "1"});
    check(
        "glue/qqp",
        &qqp,
        &[("<Is it?>| Do you mean <\"Is\" it?>■.", "No, Yes"), ("<Is it?>|■, <\"Is\" it?>", "No, Yes")],
        &["Yes"],
    );
    let mrpc = json!({"Quality": "0", "#1 ID": "1", "#2 ID": "2", "#1 String": "Bo ran .", "#2 String": "Bo ‘sat’ ."});
    check(
        "glue/mrpc",
        &mrpc,
        // The space in front of the full stop stays.
        &[("<Bo ran .>|■, <Bo 'sat' .>", "No, Yes"), ("<Bo ran .>| Does it mean that <Bo 'sat' >? ■", "No, Yes")],
        &["No"],
    );
}

#[test]
fn single_sentences_of_glue() {
    let record = json!({"sentence": "a “fine” film ", "label": "1"});
    let context = "<a \"fine\" film > It was ■.";
    check("glue/sst-2", &record, &[(context, "terrible, great"), (context, "bad, good")], &["great", "good"]);
    let record = json!({"source": "gj04", "label": "0", "mark": "*", "sentence": "They drank the pub."});
    check("glue/cola", &record, &[("\"<They drank the pub.>\" This is ■.", "incorrect, correct")], &["incorrect"]);
}

#[test]
fn topics() {
    let record = json!({"class": "3", "title": r"Oil\up", "description": r"At \$46 a barrel\n."});
    let words = "World, Sports, Business, Tech";
    let contexts = [
        "■: <Oil up><At  $46 a barrel n.>",
        "■ News: <Oil up><At  $46 a barrel n.>",
        "<Oil up> (■) <At  $46 a barrel n.>",
        "<Oil up><At  $46 a barrel n.> (■)",
        "[ Category: ■] <Oil up><At  $46 a barrel n.>",
        "■- <Oil up><At  $46 a barrel n.>",
    ];
    check("agnews", &record, &contexts.map(|context| (context, words)), &["Business"]);

    let record = json!({"class": "10", "title": "Who?", "content": r"a\nb", "answer": "“Bo”"});
    let words = "Society, Science, Health, Education, Computer, Sports, Business, Entertainment, Relationship, Politics";
    let contexts = [
        "■: <Who? a b><\"Bo\">",
        "■ Question: <Who? a b><\"Bo\">",
        "<Who? a b> (■) <\"Bo\">",
        "<Who? a b><\"Bo\"> (■)",
        "[ Category: ■] <Who? a b><\"Bo\">",
        "■- <Who? a b><\"Bo\">",
    ];
    check("yahoo", &record, &contexts.map(|context| (context, words)), &["Politics"]);
    // A question may have no answer.
    let record = json!({"class": "1", "title": "Who?", "content": "", "answer": ""});
    assert_eq!(laid_out(&example("yahoo", 2, &record)), "<Who? > (■) <>");
}

#[test]
fn reviews() {
    let contexts = [
        "It was ■. <So  \"good \">",
        "<So  \"good \">. All in all, it was ■.",
        "Just ■!|<So  \"good \">",
        "<So  \"good \">| In summary, the restaurant is ■.",
    ];
    for (task, class, words, right) in
        [("yelp-polarity", "1", "bad, good", "bad"), ("yelp-full", "4", "terrible, bad, okay, good, great", "good")]
    {
        let record = json!({"class": class, "text": r#"So\n\"good\""#});
        check(task, &record, &contexts.map(|context| (context, words)), &[right]);
    }
}

#[test]
fn proposals_and_comments() {
    let record =
        json!({"id": 9, "language": "de", "question": "Soll “es” sein?", "comment": "Nein – nie.", "label": "AGAINST"});
    let (quoted, plain) = ("\"<Soll \"es\" sein?>\"|■. \"<Nein - nie.>\"", "<Soll \"es\" sein?>|■. <Nein - nie.>");
    let words = ["Ja, Nein", "Yes, No", "Oui, Non"];
    let patterns: Vec<_> = words.iter().flat_map(|words| [(quoted, *words), (plain, *words)]).collect();
    check("xstance", &record, &patterns, &["Nein", "Nein", "No", "No", "Non", "Non"]);
    let task = PatternTask::open("xstance", None, false).expect("a pattern");
    assert_eq!(task.manifest().pattern.as_deref(), Some("2"));
}

#[test]
fn questions_of_exams() {
    let record = json!({
        "id": "high1.txt",
        "article": "Bo  ran .\nHe\tfell . ",
        "questions": ["Who ran?", "Bo  _ . \n And _", "He fell because _"],
        "options": [["Bo", "“Al” . \n"], ["ran", "sat"], ["of rain", "of ice"]],
        "answers": ["A", "B", "B"],
    });
    let contexts = |pattern| -> Vec<String> { examples("race", pattern, &record).iter().map(laid_out).collect() };
    assert_eq!(
        contexts(0),
        [
            "<Bo ran. He fell. >| Question: <Who ran?> Answer: ■",
            "<Bo ran. He fell. >|<Bo>■<. And _>",
            "<Bo ran. He fell. >|<He fell because>■<>",
        ]
    );
    assert_eq!(
        contexts(1),
        [
            "<Bo ran. He fell. >| Based on the previous passage, <Who ran?>■",
            "<Bo ran. He fell. >| Based on the previous passage, <Bo>■<. And _>",
            "<Bo ran. He fell. >| Based on the previous passage, <He fell because>■<>",
        ]
    );
    let found = examples("race", 0, &record);
    // Quotes stay as they are.
    assert_eq!(found.iter().map(choices).collect::<Vec<_>>(), ["Bo, “Al”. ", "ran, sat", "of rain, of ice"]);
    let ids: Vec<_> = found.iter().map(|one| (one.ids.name.as_deref(), one.ids.idx.as_deref(), one.label.as_deref())).collect();
    let id = |name, idx, label| (Some(name), Some(idx), Some(label));
    assert_eq!(
        ids,
        [
            id("high1.txt-0", "\"high1.txt-0\"", "A"),
            id("high1.txt-1", "\"high1.txt-1\"", "B"),
            id("high1.txt-2", "\"high1.txt-2\"", "B"),
        ]
    );
    let task = PatternTask::open("race", None, false).expect("a pattern").manifest();
    assert_eq!((task.end_of_piece, task.labels.join("")), (true, "ABCD".to_owned()));
    let mut uneven = record;
    uneven["answers"] = json!(["A"]);
    let task = PatternTask::open("race", None, false).expect("a pattern");
    let error = task.examples(&uneven.to_string(), Use::Train).expect_err("uneven").to_string();
    assert_eq!(error, "the lists `questions` and `answers` must have equally many items, but have 3 and 1");
}

#[test]
fn texts_with_choices_of_their_own() {
    let record = |text: &str| json!({"inputs_pretokenized": text, "choices_pretokenized": ["a dog", "two"], "label": 1});
    let laid_out_as = |text: &str| laid_out(&example("multichoice", 0, &record(text)));
    assert_eq!(laid_out_as("Bo has [MASK]. Or [MASK]?"), "<Bo has >■<. Or [MASK]?>");
    assert_eq!(laid_out_as("How many?"), "<How many?>■");
    let one = example("multichoice", 0, &record("How many?"));
    assert_eq!((choices(&one).as_str(), one.label.as_deref()), ("a dog, two", Some("1")));
    let task = PatternTask::open("multichoice", None, false).expect("a pattern").manifest();
    assert_eq!((task.end_of_piece, task.keep_end, task.labels.len()), (false, true, 0));
}
