//! Pages of `glm-trainer report` and `glm-prep report`, rendered in a real browser.

use std::collections::BTreeSet;
use std::path::Path;

use glm_tests::browser::{in_frame, show};
use glm_tests::processes::several_processes_can_train;
use glm_tests::training::{corpus, trainer};
use glm_tests::{Finished, command, run};
use serde_json::Value;

/// Window width of a phone.
const PHONE: u32 = 390;
/// Width of a page in excess of the visible width, which excludes the scroll bar.
const EXCESS: &str = "page.scrollingElement.scrollWidth - page.scrollingElement.clientWidth";

fn report(program: &str, folder: &Path) -> Finished {
    run(command(program).arg("report").arg(folder))
}

/// Checks that a page makes no network requests, writes nothing to the console, and fits a phone. Returns the document.
fn check(page: &Path) -> String {
    let text = std::fs::read_to_string(page).expect("page");
    for forbidden in ["http://", "https://", " src=", "url(", "@import"] {
        assert!(!text.contains(forbidden), "{} contains {forbidden}", page.display());
    }
    let shown = show(page, 1280);
    assert_eq!(shown.console, [] as [&str; 0]);
    assert_eq!(in_frame(page, PHONE, EXCESS), "0", "{} is wider than a phone", page.display());
    let headings = in_frame(page, PHONE, "[...page.querySelectorAll('h1,h2,h3')].map((h) => h.tagName[1]).join('')");
    assert!(headings.starts_with("12") && !headings[1..].contains('1'), "headings out of order: {headings}");
    shown.document
}

/// Returns the number of points with hover values in a chart.
fn points(page: &Path, chart: &str) -> usize {
    let count = format!("page.querySelector('#{chart} [data-x]').dataset.x.split(' ').filter(Boolean).length");
    in_frame(page, PHONE, &count).parse().expect("a number")
}

/// Generates a corpus with one very long passage that requires escaping and contains right-to-left text.
fn ugly_corpus(folder: &Path) {
    corpus(folder);
    let raw = folder.join("ReCoRD/val.jsonl");
    let mut lines = std::fs::read_to_string(&raw).expect("raw data");
    let start = "Zed <script>alert('x')</script> & \"Bo\" met שלום. ";
    let text = format!("{start}{}", "A verylongwordwithoutanybreak".repeat(40));
    let record = serde_json::json!({
        "source": "<b>ugly</b>",
        "idx": 9999,
        "passage": {"text": text, "entities": [{"start": 0, "end": 2}, {"start": 35, "end": 36}]},
        "qas": [{"query": "<i>@placeholder</i> met שלום", "idx": 99_999, "answers": [{"start": 0, "end": 2, "text": "Zed"}]}],
    });
    lines.push_str(&record.to_string());
    lines.push_str("\nnot a record <script>alert('raw')</script>\n");
    std::fs::write(&raw, lines).expect("write");
    let again = run(command("glm-prep").arg("ingest").arg(folder));
    assert_eq!(again.code(), Some(3), "{}", again.stderr());
}

#[test]
fn a_run_report_has_charts_and_hardest_questions() {
    let folder = tempfile::tempdir().expect("folder");
    ugly_corpus(folder.path());
    let out = folder.path().join("run");
    run(trainer(folder.path(), &out).args(["--max-steps", "6", "--eval-every", "16"])).success();
    run(trainer(folder.path(), &out).args(["--max-steps", "8", "--eval-every", "16", "--resume"])).success();
    let printed = report("glm-trainer", &out).success();
    let page = out.join("report.html");
    assert_eq!(printed.stdout(), format!("{}\n", page.display()));
    let document = check(&page);
    assert_eq!((points(&page, "loss"), points(&page, "quality")), (8, 4));
    for wanted in ["Best accuracy", "optim.lr", "resumed", "✓ right", "✗ chosen", "<mark class=\"right\">"] {
        assert!(document.contains(wanted), "{wanted} is missing");
    }
    assert!(document.contains("Finished: 64 of 64 questions."), "{document}");
    // Hover values.
    let hover = "(() => { const chart = page.querySelector('#loss svg'); const box = chart.getBoundingClientRect(); \
                 const at = { clientX: box.right - 2, clientY: box.top + 9, bubbles: true }; \
                 chart.dispatchEvent(new (page.defaultView.PointerEvent)('pointermove', at)); \
                 return page.querySelector('#loss .hover').textContent; })()";
    assert!(in_frame(&page, PHONE, hover).starts_with("step 8: loss "));

    // Without the data set, the page shows ids and scores, and the reason.
    std::fs::rename(folder.path().join("shards"), folder.path().join("gone")).expect("rename");
    report("glm-trainer", &out).success();
    let document = check(&page);
    assert!(document.contains("ids and scores only") && document.contains("there is no data set in"), "{document}");
    let elsewhere = folder.path().join("gone");
    run(command("glm-trainer").arg("report").arg(&out).arg("--data").arg(&elsewhere)).success();
    assert!(std::fs::read_to_string(&page).expect("page").contains("<mark class=\"right\">"));
}

#[test]
fn incomplete_runs_have_a_report() {
    let folder = tempfile::tempdir().expect("folder");
    let out = folder.path().join("run");
    std::fs::create_dir(&out).expect("folder");
    let nothing = report("glm-trainer", &out);
    assert_eq!(nothing.code(), Some(1));
    assert!(nothing.stderr().contains("is not a run folder: it contains neither"), "{}", nothing.stderr());
    let nowhere = report("glm-trainer", &folder.path().join("nowhere"));
    assert!(nowhere.stderr().contains("does not exist"), "{}", nowhere.stderr());

    std::fs::write(out.join("metrics.jsonl"), "").expect("write");
    report("glm-trainer", &out).success();
    let document = check(&out.join("report.html"));
    for wanted in ["No step has been logged", "No evaluation yet", "no evaluation yet", "The settings cannot be shown"] {
        assert!(document.contains(wanted), "{wanted} is missing");
    }

    let mut lines = String::new();
    for step in 1..=5000_u32 {
        let loss = if step % 100 == 0 { "null".to_owned() } else { (3.0 / f64::from(step).sqrt()).to_string() };
        lines += &format!("{{\"kind\":\"train\",\"step\":{step},\"samples\":{},\"loss\":{loss},\"lr\":1e-5}}\n", 32 * step);
    }
    lines += "{\"kind\":\"skipped\",\"step\":77,\"loss\":null,\"gradient_norm\":null,\"example_ids\":[\"<u>id</u>\"]}\n{\"kind\":\"tr";
    std::fs::write(out.join("metrics.jsonl"), lines).expect("write");
    report("glm-trainer", &out).success();
    let page = out.join("report.html");
    let document = check(&page);
    // Fewer than logged, but enough to preserve the shape.
    assert!((200..1300).contains(&points(&page, "loss")), "{}", points(&page, "loss"));
    assert!(!document.contains("NaN") && document.contains("&lt;u&gt;id&lt;/u&gt;") && document.contains("cannot be read"));
    assert!(std::fs::metadata(&page).expect("page").len() < 400_000);
}

/// Returns the counts of `answers.jsonl` and the ids of the listed questions.
fn answers(out: &Path) -> (Value, BTreeSet<String>) {
    let text = std::fs::read_to_string(out.join("answers.jsonl")).expect("answers");
    let mut lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("json"));
    let counts = lines.next().expect("counts");
    (counts, lines.map(|line| line["example_id"].as_str().expect("id").to_owned()).collect())
}

#[test]
fn rank_0_writes_the_answers_of_all_ranks() {
    if !several_processes_can_train() {
        return;
    }
    let folder = tempfile::tempdir().expect("folder");
    corpus(folder.path());
    let [one, two] = ["one", "two"].map(|name| folder.path().join(name));
    run(trainer(folder.path(), &one).args(["--max-steps", "2"])).success();
    run(trainer(folder.path(), &two).args(["--max-steps", "2", "--nproc", "2"])).success();
    let (one, two) = (answers(&one), answers(&two));
    assert_eq!((&one.0["by_choices"], &one.0["hits"]), (&two.0["by_choices"], &two.0["hits"]));
    assert_eq!(one.1, two.1);
    assert_eq!(Some(one.1.len() as u64), one.0["questions"].as_u64());
}

#[test]
fn a_data_set_report_has_histograms_rejects_and_questions() {
    let folder = tempfile::tempdir().expect("folder");
    ugly_corpus(folder.path());
    let printed = report("glm-prep", folder.path()).success();
    let page = folder.path().join("shards/report.html");
    assert_eq!(printed.stdout(), format!("{}\n", page.display()));
    let document = check(&page);
    for chart in ["train-context", "train-choice", "train-choices", "train-mentions", "val-context"] {
        assert!(points(&page, chart) > 1, "{chart}");
    }
    for wanted in
        ["&lt;b&gt;ugly&lt;/b&gt;", "not a record &lt;script&gt;", "<mark class=\"mention\">", "<mark class=\"blank\"", "bert"]
    {
        assert!(document.contains(wanted), "{wanted} is missing");
    }
    assert!(!document.contains("<script>alert"));
    // The page belongs to the shards, and does not prevent ingest from replacing them.
    run(command("glm-prep").arg("verify").arg(folder.path())).success();
    std::fs::write(
        folder.path().join("ReCoRD/val.jsonl"),
        std::fs::read(folder.path().join("ReCoRD/train.jsonl")).expect("read"),
    )
    .expect("write");
    run(command("glm-prep").arg("ingest").arg(folder.path())).success();
    let shared = report("glm-prep", folder.path()).success();
    assert!(std::fs::read_to_string(shared.stdout().trim_end()).expect("page").contains("passages are in train and in val"));
    let nothing = report("glm-prep", &folder.path().join("ReCoRD"));
    assert_eq!(nothing.code(), Some(1));
    assert!(nothing.stderr().contains("is not a data set"), "{}", nothing.stderr());
}
