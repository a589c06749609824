//! Versions: what both programs say of themselves, and what they record with their results.

use std::path::Path;

use glm_tests::training::{corpus, trainer as training, weights_file};
use glm_tests::{command, json_lines, run};
use serde_json::Value;

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("read")).expect("json")
}

/// The first line of `--version`, such as `glm-prep 0.1.0 (1a2b3c4d5e)`, after a check of the others.
fn version(program: &str, others: &[&str]) -> String {
    let long = run(command(program).arg("--version")).success().stdout();
    let short = run(command(program).arg("-V")).success().stdout();
    let mut lines = long.lines();
    let first = lines.next().expect("a line").to_owned();
    assert_eq!(short, format!("{first}\n"));
    assert!(first.starts_with(&format!("{program} 0.")) && first.ends_with(')'), "{first}");
    assert_eq!(lines.collect::<Vec<_>>(), others);
    first
}

#[test]
fn programs_say_and_record_what_they_are() {
    let prep = version("glm-prep", &["schema version 3"]);
    let trainer = version("glm-trainer", &["libtorch 2.11.0", "features: network", "schema version 3"]);

    let folder = tempfile::tempdir().expect("folder");
    let data = folder.path();
    corpus(data);
    let shards = data.join("shards");
    assert_eq!(json(&shards.join("manifest.json"))["tool"], Value::from(prep.clone()));
    let ingest = json(&shards.join("provenance.json"));
    assert_eq!(ingest["program"], Value::from(prep));
    assert_eq!(ingest["command"][1], "ingest");
    assert_eq!(ingest["schema_version"], 3);
    assert!(ingest["threads"].as_u64().is_some_and(|threads| threads > 0), "{ingest}");
    assert!(ingest.get("libtorch").is_none(), "{ingest}");

    let out = folder.path().join("run");
    run(&mut training(data, &out)).success();
    let session = &json_lines(&out.join("sessions.jsonl"))[0]["provenance"];
    assert_eq!([&session["program"], &session["libtorch"]], [&Value::from(trainer.clone()), &Value::from("2.11.0")]);
    assert_eq!(session["command"][1], "run");
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("host");
    assert_eq!(session["host"], host.trim());
    // Of the machine, nothing is in the weights: equal weights are equal files.
    let stored = std::fs::read(weights_file(&out)).expect("weights");
    let header = String::from_utf8_lossy(&stored[8..8 + u64::from_le_bytes(stored[..8].try_into().expect("length")) as usize]);
    assert!(header.contains(&format!("\"glm.program\":\"{trainer}, libtorch 2.11.0\"")), "{header}");
    let inspected = run(command("glm-trainer").arg("inspect").arg(weights_file(&out))).success().stdout();
    assert!(inspected.contains(&format!("written by {trainer}, libtorch 2.11.0\n")), "{inspected}");
    run(command("glm-trainer").arg("report").arg(&out)).success();
    let page = std::fs::read_to_string(out.join("report.html")).expect("report");
    assert!(page.contains(&trainer) && page.contains("libtorch 2.11.0, network, schema version 3"));
    assert!(page.contains(host.trim()));
}
