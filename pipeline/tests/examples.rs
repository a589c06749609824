//! The examples of every `--help` run, in folders as their names suggest, and print what they promise.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;

const COMMANDS: [&str; 11] =
    ["", "ingest", "merge", "fetch", "inspect", "verify", "stats", "report", "sample", "completions", "man"];

/// Examples that are not run: they need a network, or write gigabytes.
const NOT_RUN: [&str; 5] = [
    "glm-prep fetch record data",
    "glm-prep fetch superglue/boolq data/boolq",
    "glm-prep fetch record data --url https://mirror.example/ReCoRD.zip",
    "glm-prep ingest s3://bucket/raw --out s3://bucket/record",
    "glm-prep sample --out big --passages 1000000 --seed 7",
];

/// Examples in the order in which they are run, and text that they print.
const RUN: [(&str, &[&str]); 35] = [
    ("glm-prep ingest data", &["train ", "val ", "written to data/shards"]),
    ("glm-prep inspect data --rows 1", &["data\n", "  train ", "  passage  ", "  query    ", "  choices  * "]),
    ("glm-prep verify data", &["questions", "data/shards is sound, checked in "]),
    ("glm-prep sample --out s --passages 3000", &["s/ReCoRD"]),
    ("glm-prep sample --out sample --passages 3000", &["sample/ReCoRD"]),
    ("glm-prep ingest data/record", &["written to data/record/shards"]),
    ("glm-prep ingest data/record --dry-run --limit 1000", &["dry run: nothing written"]),
    ("glm-prep ingest out --train 'raw/train-*.jsonl.zst' --val raw/dev.jsonl", &["train ", "val ", "written to out/shards"]),
    ("zcat big.jsonl.gz | glm-prep ingest out --train - --format plain", &["train          1", "written to out/shards"]),
    ("glm-prep ingest own --train own/data.jsonl --val-fraction 0.1", &["train ", "val ", "written to own/shards"]),
    ("glm-prep ingest books --task text --val-fraction 0.01", &["documents", "format lines", "written to books/shards"]),
    ("glm-prep ingest books --task text --tokenizer gpt2", &["documents", "written to books/shards"]),
    ("glm-prep ingest data/MNLI --task glue/mnli", &["train ", "val ", "written to data/MNLI/shards"]),
    ("glm-prep ingest data/boolq --task superglue/boolq", &["train ", "val ", "written to data/boolq/shards"]),
    ("glm-prep ingest own --pattern my.toml", &["train ", "written to own/shards"]),
    ("glm-prep ingest data/record --partition 0/8", &["part 0/8: "]),
    ("glm-prep ingest data/record --partition 0/2", &["part 0/2: "]),
    ("glm-prep ingest data/record --partition 1/2", &["part 1/2: ", "run `glm-prep merge` when all parts are complete"]),
    ("glm-prep merge data/record", &["written to data/record/shards"]),
    ("glm-prep inspect data/record", &["data/record\n", "  choices  * "]),
    (
        "glm-prep inspect data/record --split val --where 'num_choices > 20' --rows 2",
        &["data/record, questions where num_choices > 20\n"],
    ),
    ("glm-prep inspect data/record --sample 3 --json", &["{\"example_id\":", "\"split\":\""]),
    ("glm-prep inspect data/record --split val --rows all --format csv", &["example_id,split,", "@placeholder"]),
    ("glm-prep inspect data/record --schema", &["fingerprint  ", "  example_id       str\n"]),
    ("glm-prep inspect data/record --id train-p0-q0-a0", &["train train-p0-q0-a0\n", "tokens of the passage ("]),
    ("glm-prep inspect data/record --sql 'select count(*) from shards'", &["len\n---\n"]),
    ("glm-prep inspect data/record --split val --rows 1 --model-input", &["{\"split\":\"val\",\"order\":0,"]),
    ("glm-prep verify data/record", &["data/record/shards is sound"]),
    ("glm-prep verify data/record --json", &["\"sound\":true", "\"questions\":"]),
    ("glm-prep stats data/record", &["train: ", "context, in tokens", "at 512 tokens 0 questions"]),
    ("glm-prep stats data/record --max-seq-len 256 --json", &["\"max_seq_len\":256"]),
    ("glm-prep report sample", &["sample/shards/report.html\n"]),
    ("glm-prep report sample --out sample.html", &["sample.html\n"]),
    ("glm-prep sample --out sample/text --kind text --passages 20000", &["sample/text"]),
    ("glm-prep man ~/.local/share/man/man1", &["glm-prep"]),
];

/// Examples without output of their own.
const SILENT: [&str; 2] =
    ["glm-prep completions fish > ~/.config/fish/completions/glm-prep.fish", "source <(glm-prep completions bash)"];

fn bash(folder: &Path, command: &str) -> Output {
    let program = Path::new(env!("CARGO_BIN_EXE_glm-prep"));
    let path = format!("{}:{}", program.parent().expect("a folder").display(), std::env::var("PATH").expect("PATH"));
    let mut bash = Command::new("bash");
    bash.args(["-euo", "pipefail", "-c", command]).current_dir(folder).env("PATH", path).env("HOME", folder);
    bash.output().expect("bash")
}

fn success(folder: &Path, command: &str) -> String {
    let output = bash(folder, command);
    assert!(output.status.success(), "{command}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// The examples of a help text, without comments.
fn examples(help: &str) -> Vec<String> {
    let list = |text: &'_ str| text.strip_prefix("Examples:\n").or_else(|| text.strip_prefix("Example:\n")).map(str::to_owned);
    let lists: Vec<String> = help.split("\n\n").filter_map(list).collect();
    let lines = lists.iter().flat_map(|list| list.lines());
    lines.map(|line| line.split(" #").next().unwrap_or_default().trim().to_owned()).collect()
}

/// Raw data in the folders of the examples.
fn prepare(folder: &Path) {
    success(folder, "glm-prep sample --out data --passages 40 --val-passages 10 --seed 3");
    fs::create_dir(folder.join("data/record")).expect("folder");
    success(folder, "cp -r data/ReCoRD data/record && mkdir -p .config/fish/completions .local/share/man");
    fs::create_dir(folder.join("raw")).expect("folder");
    success(folder, "cp data/ReCoRD/val.jsonl raw/dev.jsonl");
    success(folder, "mkdir own && cp data/ReCoRD/train.jsonl own/data.jsonl");
    fs::create_dir(folder.join("data/boolq")).expect("folder");
    let question = r#"{"question": "is rain wet", "passage": "Rain is water.", "idx": 0, "label": true}"#;
    for split in ["train", "val"] {
        fs::write(folder.join(format!("data/boolq/{split}.jsonl")), format!("{question}\n")).expect("write");
    }
    fs::create_dir(folder.join("data/MNLI")).expect("folder");
    let table = "index\tsentence1\tsentence2\tgold_label\n0\tIt rains.\tIt is wet.\tentailment\n";
    for file in ["train.tsv", "dev_matched.tsv"] {
        fs::write(folder.join("data/MNLI").join(file), table).expect("write");
    }
    fs::write(folder.join("own/train.jsonl"), "{\"review\": \"Stale cake.\", \"stars\": 1}\n").expect("write");
    let pattern = "[label]\nfield = \"stars\"\nnames = [\"1\", \"5\"]\n\n[[patterns]]\ncontext = \"{review*} It was {blank}.\"\nwords = [\"bad\", \"good\"]\n";
    fs::write(folder.join("my.toml"), pattern).expect("write");
    let train = fs::read(folder.join("data/ReCoRD/train.jsonl")).expect("read");
    let packed = zstd::encode_all(train.as_slice(), 1).expect("packed");
    fs::write(folder.join("raw/train-0.jsonl.zst"), packed).expect("write");
    fs::create_dir(folder.join("books")).expect("folder");
    let articles: String = (0..500).map(|n| format!("{}\n", format!("Article {n} has words. ").repeat(9))).collect();
    fs::write(folder.join("books/articles.txt"), articles).expect("write");
    let mut big = GzEncoder::new(fs::File::create(folder.join("big.jsonl.gz")).expect("create"), Compression::fast());
    big.write_all(b"{\"context\": \"The [BLANK] barked.\", \"choices\": [\"cat\", \"dog\"], \"answer\": 1}\n").expect("write");
    big.finish().expect("packed");
}

#[test]
fn every_example_runs_and_prints_what_it_promises() {
    let folder = tempfile::tempdir().expect("folder");
    let folder = folder.path();
    let mut found = BTreeSet::new();
    for command in COMMANDS {
        found.extend(examples(&success(folder, &format!("glm-prep {command} --help"))));
    }
    let known = RUN.iter().map(|(example, _)| example).chain(&SILENT).chain(&NOT_RUN).map(ToString::to_string);
    assert_eq!(found, known.collect(), "the examples of all commands");

    prepare(folder);
    for (example, expected) in RUN {
        if example == "glm-prep report sample" {
            success(folder, "glm-prep ingest sample");
        }
        if example == "glm-prep ingest data/record --partition 0/2" {
            fs::remove_dir_all(folder.join("data/record/.shards.parts")).expect("the parts of another number");
        }
        let printed = success(folder, example);
        for text in expected {
            assert!(printed.contains(text), "{example} does not print {text:?}: {printed}");
        }
        if example.ends_with("--json") {
            let lines: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
            assert_eq!(lines.len(), if example.contains("--sample 3") { 3 } else { 1 }, "{printed}");
        }
    }
    let count = success(folder, "glm-prep inspect data/record --sql 'select count(*) from shards'");
    let manifest = support::manifest(&folder.join("data/record"));
    let rows: usize = manifest.splits.values().map(|split| split.rows).sum();
    assert_eq!(count, format!("len\n---\n{rows}\n"));
    SILENT.iter().for_each(|example| assert_eq!(success(folder, example), "", "{example}"));
    for file in [
        "sample.html",
        "sample/shards/report.html",
        ".config/fish/completions/glm-prep.fish",
        ".local/share/man/man1/glm-prep.1",
    ] {
        assert!(fs::metadata(folder.join(file)).is_ok_and(|file| file.len() > 100), "{file}");
    }
}
