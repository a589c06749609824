//! Pages of `glm-prep report`, rendered in a real browser.

#[path = "support/ugly_corpus.rs"]
mod ugly_corpus;

use std::path::Path;

use glm_tests::browser::{DESKTOP, PHONE, check, in_frame, points, report};
use glm_tests::training::corpus;
use glm_tests::{command, run};
use serde_json::json;
use ugly_corpus::ugly_corpus;

#[test]
fn a_data_set_report_has_histograms_rejects_and_questions() {
    let folder = tempfile::tempdir().expect("folder");
    ugly_corpus(folder.path());
    let printed = report("glm-prep", folder.path()).success();
    let page = folder.path().join("shards/report.html");
    assert_eq!(printed.stdout(), format!("{}\n", page.display()));
    let document = check(&page);
    for chart in ["train-context", "train-mentions", "val-context"] {
        assert!(points(&page, chart) > 5, "{chart}");
    }
    check_data_page(&page);
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

/// Checks the layout of the page of a data set.
fn check_data_page(page: &Path) {
    // Train and val are side by side on one axis, and one below the other on a phone.
    let beside = "(() => { const [train, val] = ['train', 'val'].map((split) => page.querySelector(`#${split}-context`)); \
                  const [left, right] = [train, val].map((figure) => figure.getBoundingClientRect()); \
                  const labels = (figure) => [...figure.querySelectorAll('text.x')].map((label) => label.textContent).join(); \
                  return `${left.top === right.top && left.right <= right.left} ${labels(train) === labels(val)}`; })()";
    assert_eq!([DESKTOP, PHONE].map(|width| in_frame(page, width, beside)), ["true true", "false true"]);
    // The table of the splits fits a phone.
    let excess =
        "(() => { const table = page.querySelector('#contents .scroll'); return table.scrollWidth - table.clientWidth; })()";
    assert_eq!(in_frame(page, PHONE, excess), "0");
    // A bar is as long as the share next to it.
    let bars = "[...page.querySelectorAll('#sources tbody tr')].every((row) => { \
                const share = parseFloat(row.cells[2].textContent); const bar = row.querySelector('rect.bar'); \
                return Math.abs(share - bar.getAttribute('width')) < 0.11; })";
    assert_eq!(in_frame(page, DESKTOP, bars), "true");
    // One question of each split is open, and names its split.
    let open = "[...page.querySelectorAll('#questions details[open] summary .note')].map((note) => note.textContent.split(',')[0]).join()";
    assert_eq!(in_frame(page, DESKTOP, open), "train,val");
}

#[test]
fn truncation_is_told_for_the_length_of_the_data_set() {
    let folder = tempfile::tempdir().expect("folder");
    corpus(folder.path());
    run(command("glm-prep").arg("ingest").arg(folder.path()).args(["--max-seq-len", "200"])).success();
    report("glm-prep", folder.path()).success();
    let text = std::fs::read_to_string(folder.path().join("shards/report.html")).expect("page");
    for wanted in ["truncated at 200 tokens", "200 (this data set)", ">128<", ">512<"] {
        assert!(text.contains(wanted), "{wanted} is missing");
    }
}

/// Ingests two copies of these lines, as train and val, and returns the page.
fn page_of(folder: &Path, task: &str, lines: &[serde_json::Value]) -> std::path::PathBuf {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    for split in ["train", "val"] {
        std::fs::write(folder.join(format!("{split}.jsonl")), &text).expect("write");
    }
    run(command("glm-prep").arg("ingest").arg(folder).args(["--quiet", "--task", task])).success();
    report("glm-prep", folder).success();
    folder.join("shards/report.html")
}

#[test]
fn documents_and_pairs_have_tiles_cards_and_a_manifest() {
    let folder = tempfile::tempdir().expect("folder");
    let text = "Ann <b>met</b> Bob.\nThen they left.";
    let documents: Vec<_> = (0..6).map(|i| json!({"text": format!("{text} {}", "Rain fell. ".repeat(i * i))})).collect();
    let pairs: Vec<_> = (0..6)
        .map(|i| json!({"source": format!("{text} {i}"), "target": "<i>Both</i> left.", "id": format!("p {i}")}))
        .collect();
    for (task, lines, section, title) in [("text", documents, "documents", "Documents"), ("seq2seq", pairs, "pairs", "Pairs")] {
        let folder = folder.path().join(task);
        std::fs::create_dir(&folder).expect("folder");
        let page = page_of(&folder, task, &lines);
        let document = check(&page);
        assert!(document.contains("Ann &lt;b&gt;met&lt;/b&gt; Bob.\nThen they left."), "{document}");
        let desktop = |expression: &str| in_frame(&page, DESKTOP, expression);
        let tiles = "[...page.querySelectorAll('dl.tiles:not(.minor) > div')]";
        let first =
            format!("(() => {{ const tiles = {tiles}; return tiles.length + tiles[0].innerText.replace(/\\s+/g, ' '); }})()");
        assert!(desktop(&first).starts_with(&format!("4{title} 12 ")), "{}", desktop(&first));
        // Four cards of each split, of which the first is open; lines of texts are kept.
        let cards = format!("[...page.querySelectorAll('#{section} details.folding')]");
        assert_eq!(desktop(&format!("{cards}.map((card) => Number(card.open)).join('')")), "10001000");
        let lines = format!("page.defaultView.getComputedStyle({cards}[0].querySelector('.passage')).whiteSpace");
        assert!(desktop(&lines).contains("pre-line"), "{}", desktop(&lines));
        let anchors =
            format!("new Set({cards}.map((card) => page.querySelector(card.querySelector('.card > .note a').hash).id)).size");
        assert_eq!(desktop(&anchors), "8");
        assert_eq!(desktop("page.querySelectorAll('#manifest .facts dt').length > 5"), "true");
    }
}
