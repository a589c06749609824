//! Pages of `glm-trainer report`, rendered in a real browser.

#[path = "support/ugly_corpus.rs"]
mod ugly_corpus;

use std::collections::BTreeSet;
use std::path::Path;

use glm_tests::browser::{DESKTOP, PHONE, check, in_frame, points, report};
use glm_tests::processes::several_processes_can_train;
use glm_tests::training::{corpus, metrics, set, trainer};
use glm_tests::{command, run};
use serde_json::Value;
use ugly_corpus::ugly_corpus;

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
    check_run_page(&page, &out);
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

/// Checks what a reader looks for first, the order of charts, and the cards of the hardest questions.
fn check_run_page(page: &Path, out: &Path) {
    let name = out.parent().and_then(Path::file_name).expect("a name").to_string_lossy().into_owned();
    let desktop = |expression: &str| in_frame(page, DESKTOP, expression);
    assert_eq!(desktop("page.title"), format!("{name}/run - Training run"));
    // Four main figures in one row; the loss is the newest one.
    let tiles = "[...page.querySelectorAll('dl.tiles:not(.minor) > div')]";
    let names = format!("{tiles}.map((tile) => tile.querySelector('dt').textContent).join('|')");
    assert_eq!(desktop(&names), "Best accuracy|Training loss|Questions trained on|Training time");
    assert_eq!(desktop(&format!("new Set({tiles}.map((tile) => tile.getBoundingClientRect().top)).size")), "1");
    let last = metrics(out).into_iter().rfind(|record| record["kind"] == "train").expect("a train record");
    let shown = desktop(&format!("{tiles}[1].querySelector('.value').textContent"));
    let difference = shown.parse::<f64>().expect("a number") - last["loss"].as_f64().expect("a loss");
    assert!(difference.abs() < 6e-4, "{shown} is not the last loss, {}", last["loss"]);
    // Model, data and device come before the charts.
    let facts = "page.querySelector('#result .facts').textContent";
    let facts = desktop(facts);
    for wanted in ["tiny, ", "CPU, fp32", "Fingerprint", "training questions"] {
        assert!(facts.contains(wanted), "{wanted} is not in {facts}");
    }
    // One curve of speed, and it is folded.
    let charts = "[...page.querySelectorAll('#charts figure')].map((figure) => figure.id).join(' ')";
    assert!(
        desktop(charts).starts_with("loss quality learning-rate gradient-norm questions utilization data-wait"),
        "{}",
        desktop(charts)
    );
    assert!(!desktop(charts).contains("tokens") && !desktop(charts).contains("flops"));
    assert_eq!(desktop("page.querySelector('#questions').closest('details').open"), "false");
    // All charts over steps start at 0, and linear ones have 0 on the y axis.
    let first = "['loss', 'quality'].map((id) => page.querySelector(`#${id} text.x`).textContent + \
                 page.querySelector(`#${id} text.y`).textContent.replace(' %', '')).join(' ')";
    assert_eq!(desktop(first), "00 00");
    // A line at 0, with its tick.
    let zero = "(() => { const x = page.querySelector('#margins .zero').getAttribute('x1'); \
                return [...page.querySelectorAll('#margins text.x')].filter((label) => label.getAttribute('x') === x) \
                .map((label) => label.textContent).join(); })()";
    assert_eq!(desktop(zero), "0");
    // Few cards are open; a link opens its own.
    assert_eq!(desktop("page.querySelectorAll('#hardest details[open]').length"), "2");
    let link = "(() => { const cards = [...page.querySelectorAll('#hardest details:not([open])')]; const card = cards.at(-1); \
                page.defaultView.location.hash = card.querySelector('.card > .note a').hash; \
                page.defaultView.dispatchEvent(new Event('hashchange')); return cards.filter((card) => card.open).length + ' ' + card.open; })()";
    assert_eq!(desktop(link), "1 true");
    // Passage and choices are side by side, but one below the other on a phone, where bars are in view.
    let beside = "(() => { const [text, answers] = ['text', 'aside'].map((part) => page.querySelector(`#hardest .${part}`).getBoundingClientRect()); \
                  return text.right <= answers.left; })()";
    assert_eq!((desktop(beside).as_str(), in_frame(page, PHONE, beside).as_str()), ("true", "false"));
    let bars = "(() => { const card = page.querySelector('#hardest .card').getBoundingClientRect(); \
                return [...page.querySelectorAll('#hardest details[open] tbody tr')].every((row) => { \
                const bar = row.querySelector('svg.bar').getBoundingClientRect(); \
                return bar.width > 20 && row.getBoundingClientRect().right <= card.right; }); })()";
    assert_eq!(in_frame(page, PHONE, bars), "true");
}

#[test]
fn a_run_that_learned_nothing_is_flagged() {
    let folder = tempfile::tempdir().expect("folder");
    let out = folder.path();
    let lines: String = (1..=40)
        .map(|step| {
            let (loss, lr) = (1.4 + f64::from(step % 3) / 100.0, f64::from(step) * 2.3e-8);
            format!(
                "{{\"kind\":\"train\",\"step\":{step},\"samples\":{},\"loss\":{loss},\"lr\":{lr},\"peak_memory_bytes\":9e8}}\n",
                30 * step
            )
        })
        .collect();
    let eval = r#"{"kind":"eval","step":40,"samples":1200,"accuracy":0.25,"f1":0.25,"exact_match":0.25,"chance":0.25,"most_frequent":0.31,"hits":15,"questions":60}"#;
    std::fs::write(out.join("metrics.jsonl"), format!("{lines}{eval}\n")).expect("write");
    std::fs::write(out.join("config.toml"), "[optim]\nlr = 1e-5\ndecay_steps = 4338\n").expect("write");
    report("glm-trainer", out).success();
    let page = out.join("report.html");
    let document = check(&page);
    let warning = in_frame(&page, DESKTOP, "page.querySelector('.warning').textContent");
    for wanted in ["(25.00 % of 60 questions) cannot be told from chance", "9.2e-7 of 1e-5", "434 steps", "optim.decay_steps"] {
        assert!(warning.contains(wanted), "{wanted} is not in {warning}");
    }
    // Equal lines are one, with both names, and the baselines have their own.
    let legend =
        in_frame(&page, DESKTOP, "[...page.querySelectorAll('#quality .legend li')].map((name) => name.textContent).join('|')");
    assert_eq!(legend, "accuracy = F1 = exact match = chance|most frequent entity");
    // So are their tiles.
    let tiles = in_frame(&page, DESKTOP, "[...page.querySelectorAll('dl.tiles dt')].map((name) => name.textContent).join('|')");
    assert_eq!(tiles, "Best accuracy|Training loss|Questions trained on|most frequent entity|Peak memory");
    let note = in_frame(&page, DESKTOP, "page.querySelector('dl.tiles .note').textContent");
    assert_eq!(note, "chance 25.00 %; 60 questions, step 40; F1 and exact match are the same");
    // Noise of a hundredth is a hundredth of the axis.
    let height = "(() => { const box = page.querySelector('#loss path').getBBox(); return box.height < 5; })()";
    assert_eq!(in_frame(&page, DESKTOP, height), "true");
    assert!(document.contains("the line never falls"), "{document}");
}

#[test]
fn a_report_names_the_questions_that_were_evaluated() {
    let folder = tempfile::tempdir().expect("folder");
    corpus(folder.path());
    let out = folder.path().join("run");
    run(set(trainer(folder.path(), &out).args(["--max-steps", "2"]), &["train.eval_questions=8", "train.eval_every=8"]))
        .success();
    report("glm-trainer", &out).success();
    let page = out.join("report.html");
    let titles = in_frame(
        &page,
        DESKTOP,
        "[...page.querySelectorAll('dl.tiles .note, #quality figcaption')].map((part) => part.textContent).join('|')",
    );
    assert_eq!(titles.matches("8 of ").count(), 2, "{titles}");
    assert!(titles.contains("all 23 questions of val, step 2"), "{titles}");
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
