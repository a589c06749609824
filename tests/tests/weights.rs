//! `glm-trainer fetch`, `inspect` and `convert`, and all inputs of `--init`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use glm_test_server::{Answer, Server};
use glm_tests::processes::python_with_torch;
use glm_tests::{Finished, command, fixtures, ingest, run};
use serde_json::Value;

/// Published weights with two layers of width 16. Commands that need the number of heads get 2.
fn published() -> PathBuf {
    fixtures().join("golden/model/full-vocab/blocklm-tiny")
}

fn trainer(args: &[&str]) -> Command {
    let mut command = command("glm-trainer");
    command.args(args);
    command
}

/// Asserts that the program exited with code 1 and printed all of `texts`.
#[track_caller]
fn assert_fails(finished: &Finished, texts: &[&str]) {
    assert_eq!(finished.code(), Some(1), "{}", finished.stdout());
    for text in texts {
        assert!(finished.stderr().contains(text), "{text} in:\n{}", finished.stderr());
    }
}

fn convert(from: &Path, to: &Path, more: &[&str]) -> Finished {
    run(trainer(&["convert"]).arg(from).arg(to).args(more))
}

fn inspect(paths: &[&Path]) -> Value {
    let text = run(trainer(&["inspect", "--json"]).args(paths)).success().stdout();
    serde_json::from_str(&text).expect("json")
}

#[track_caller]
fn assert_identical(a: &Path, b: &Path) {
    let difference = inspect(&[a, b]);
    let tensors = difference["tensors"].as_array().expect("tensors");
    assert_eq!(tensors.len(), 29, "{difference}");
    assert!(tensors.iter().all(|tensor| tensor["identical"] == true), "{difference}");
    for key in ["only_in_a", "only_in_b", "shapes"] {
        assert_eq!(difference[key].as_array().map(Vec::len), Some(0), "{difference}");
    }
}

/// Builds a tar.bz2 archive of the published weights, in the layout of the published archive.
fn archive() -> Vec<u8> {
    let packed = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    let mut archive = tar::Builder::new(packed);
    archive.append_dir_all("blocklm-large-blank", published()).expect("append");
    archive.into_inner().and_then(bzip2::write::BzEncoder::finish).expect("finish")
}

/// Returns the safetensors header and the offset of the elements.
fn header(file: &[u8]) -> (serde_json::Map<String, Value>, usize) {
    let length = usize::try_from(u64::from_le_bytes(file[..8].try_into().expect("eight"))).expect("small");
    (serde_json::from_slice(&file[8..8 + length]).expect("json"), 8 + length)
}

/// Copies a safetensors file; `name` renames each tensor or drops it.
fn rewrite(from: &Path, to: &Path, name: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let file = fs::read(from).expect("read");
    let (tensors, start) = header(&file);
    let (mut kept, mut elements) = (serde_json::Map::new(), Vec::new());
    for (old, mut info) in tensors {
        let Some(name) = name(&old).filter(|_| old != "__metadata__") else { continue };
        let [from, to] = [0, 1].map(|i| start + info["data_offsets"][i].as_u64().expect("offset") as usize);
        info["data_offsets"] = serde_json::json!([elements.len(), elements.len() + to - from]);
        elements.extend_from_slice(&file[from..to]);
        kept.insert(name, info);
    }
    let json = serde_json::to_vec(&kept).expect("json");
    fs::write(to, [&(json.len() as u64).to_le_bytes()[..], &json, &elements].concat()).expect("write");
    kept.keys().cloned().collect()
}

#[test]
fn conversions_round_trip() {
    let folder = tempfile::tempdir().expect("folder");
    let [ours, theirs, single] = ["ours", "theirs", "single.safetensors"].map(|name| folder.path().join(name));
    convert(&published(), &ours, &["--heads", "2"]).success();
    assert_identical(&published(), &ours);
    // The converted file stores the number of heads.
    let output = convert(&ours, &theirs, &["--to", "published"]).success().stdout();
    let file = theirs.join("1/mp_rank_00_model_states.pt");
    assert!(output.contains("1/mp_rank_00_model_states.pt: 29 tensors, "), "{output}");
    assert_eq!(fs::read_to_string(theirs.join("latest_checkpointed_iteration.txt")).expect("read"), "1");
    assert_identical(&published(), &theirs);
    assert_identical(&published(), &file);
    // Equal weights give equal bytes.
    let before = fs::read(&file).expect("read");
    assert_fails(&convert(&ours, &theirs, &["--to", "published"]), &["already exists", "--force"]);
    convert(&ours, &theirs, &["--to", "published", "--force"]).success();
    assert!(before == fs::read(&file).expect("read"));

    convert(&theirs, &single, &["--heads", "2", "--dtype", "fp32"]).success();
    assert_identical(&published(), &single);
    let summary = inspect(&[&single]);
    assert!(summary["tensors"].as_array().expect("tensors").iter().all(|tensor| tensor["type"] == "fp32"));
    assert_eq!(summary["model"], serde_json::json!({"layers": 2, "hidden": 16, "heads": 2, "vocab": 30592, "positions": 513}));
    assert_eq!(summary["bytes"], 4 * summary["parameters"].as_u64().expect("number"));
}

#[test]
fn failed_conversions_leave_no_files() {
    let folder = tempfile::tempdir().expect("folder");
    let output = folder.path().join("out");
    assert_fails(
        &convert(&published(), &output, &[]),
        &["cannot derive the number of attention heads from weights with 2 layers of width 16", "--heads N"],
    );

    let large = folder.path().join("large.safetensors");
    convert(&published(), &large, &["--heads", "2", "--dtype", "fp32"]).success();
    let mut bytes = fs::read(&large).expect("read");
    let (tensors, start) = header(&bytes);
    let at = start + tensors["transformer.final_layernorm.bias"]["data_offsets"][0].as_u64().expect("offset") as usize;
    bytes[at..at + 4].copy_from_slice(&70_000_f32.to_le_bytes());
    fs::write(&large, &bytes).expect("write");
    assert_fails(
        &convert(&large, &output, &["--to", "published"]),
        &["`transformer.final_layernorm.bias` has the value 70000", "--dtype fp32"],
    );
    convert(&large, &output, &["--to", "published", "--dtype", "fp32"]).success();

    // A damaged byte of the elements is detected by the checksum of the member.
    let damaged = folder.path().join("damaged.pt");
    let mut bytes = fs::read(published().join("200000/mp_rank_00_model_states.pt")).expect("read");
    bytes[100_000] ^= 1;
    fs::write(&damaged, &bytes).expect("write");
    for command in [convert(&damaged, &folder.path().join("x"), &["--heads", "2"]), run(trainer(&["inspect"]).arg(&damaged))] {
        assert_fails(&command, &["damaged.pt: zip member mp_rank_00_model_states/data/0 is damaged: its CRC-32 is"]);
    }
    assert!(!folder.path().join("x/model.safetensors").exists());
}

#[test]
fn differences_are_listed_by_tensor() {
    let folder = tempfile::tempdir().expect("folder");
    let [a, b] = ["a.safetensors", "b.safetensors"].map(|name| folder.path().join(name));
    convert(&published(), &a, &["--heads", "2", "--dtype", "fp32"]).success();
    rewrite(&a, &b, |name| match name {
        "transformer.final_layernorm.weight" => Some("other.weight".to_owned()),
        _ => Some(name.to_owned()),
    });
    let mut bytes = fs::read(&b).expect("read");
    let (tensors, start) = header(&bytes);
    let at = start + tensors["transformer.final_layernorm.bias"]["data_offsets"][0].as_u64().expect("offset") as usize;
    let first = f32::from_le_bytes(bytes[at..at + 4].try_into().expect("four"));
    bytes[at..at + 4].copy_from_slice(&(first + 0.5).to_le_bytes());
    fs::write(&b, &bytes).expect("write");

    let text = run(trainer(&["inspect"]).arg(&a).arg(&b)).success().stdout();
    for expected in [
        "only in a: transformer.final_layernorm.weight\n",
        "only in b: other.weight\n",
        "27 tensors are identical, 1 differ, 2 are in one file only\n",
    ] {
        assert!(text.contains(expected), "{text}");
    }
    let row = text.lines().find(|line| line.starts_with("transformer.final_layernorm.bias ")).expect("a row");
    assert_eq!(row.split_whitespace().nth(1), Some("0.5000"), "{row}");
    let difference = inspect(&[&a, &b]);
    let changed: Vec<_> =
        difference["tensors"].as_array().expect("tensors").iter().filter(|tensor| tensor["identical"] == false).collect();
    assert_eq!((changed.len(), &changed[0]["largest"]), (1, &Value::from(0.5)));
}

#[test]
fn a_summary_fits_in_eighty_columns() {
    let text = run(trainer(&["inspect"]).arg(published())).success().stdout();
    assert!(text.contains("GLM with 2 layers, width 16, heads unknown, vocabulary 30592, 513 positions\n"), "{text}");
    assert!(text.contains("  args (argparse.Namespace)\n"), "{text}");
    // The first line is the path.
    assert!(text.lines().skip(1).all(|line| line.chars().count() <= 80), "{text}");
    let row = text.lines().find(|line| line.starts_with("word_embeddings.weight")).expect("a row");
    assert_eq!(row.split_whitespace().collect::<Vec<_>>()[1..3], ["fp16", "30592x16"]);
    let nothing = run(&mut trainer(&["inspect", "no/such"]));
    assert_fails(&nothing, &["no weights in no/such: no such file or folder"]);
}

/// Evaluates weights on the questions in `data`.
fn eval(data: &Path, init: &Path, more: &[&str]) -> Finished {
    run(trainer(&["eval", "--device", "cpu", "--json"]).arg("--data").arg(data).arg("--init").arg(init).args(more))
}

#[test]
fn all_inputs_of_init_give_the_same_answers() {
    let folder = tempfile::tempdir().expect("folder");
    let data = folder.path();
    ingest(data, &fixtures().join("golden/cloze/passages.jsonl"), &["train", "val"]);
    let answers = |init: &Path, more: &[&str]| {
        let text = eval(data, init, more).success().stdout();
        let mut result: Value = serde_json::from_str(&text).expect("json");
        result["seconds"] = Value::Null;
        result["weights"] = Value::Null;
        result
    };
    let heads = ["--set", "model.heads=2"];
    let expected = answers(&published(), &heads);

    let packed = folder.path().join("packed");
    fs::create_dir(&packed).expect("folder");
    let archive_path = packed.join("glm-large-blank.tar.bz2");
    fs::write(&archive_path, archive()).expect("write");
    let first = eval(data, &archive_path, &heads).success();
    assert!(first.stderr().contains("glm-large-blank.tar.bz2 to "), "{}", first.stderr());
    let unpacked = packed.join("blocklm-large-blank");
    for init in [&archive_path, &packed, &unpacked, &unpacked.join("200000/mp_rank_00_model_states.pt")] {
        assert_eq!(answers(init, &heads), expected, "{}", init.display());
    }
    let second = eval(data, &archive_path, &heads).success();
    assert!(!second.stderr().contains("unpacking"), "{}", second.stderr());

    // Hugging Face folders with the names of `transformers`, as one file and as two shards.
    let [whole, shards] = ["whole", "sharded"].map(|name| folder.path().join(name));
    [&whole, &shards].into_iter().for_each(|path| fs::create_dir(path).expect("folder"));
    let ours = folder.path().join("ours.safetensors");
    convert(&published(), &ours, &["--heads", "2"]).success();
    rewrite(&ours, &whole.join("model.safetensors"), |name| Some(format!("glm.{name}")));
    let mut map = serde_json::Map::new();
    for number in 0..2 {
        let file = format!("model-0000{}-of-00002.safetensors", number + 1);
        let is_here = |name: &str| usize::from(name.contains("layers.1.")) == number;
        let names = rewrite(&ours, &shards.join(&file), |name| is_here(name).then(|| format!("glm.{name}")));
        map.extend(names.into_iter().map(|name| (name, Value::from(file.clone()))));
    }
    let index = serde_json::json!({"metadata": {"total_size": 1}, "weight_map": map});
    fs::write(shards.join("model.safetensors.index.json"), index.to_string()).expect("write");
    let settings = r#"{"model_type": "glm", "hidden_size": 16, "num_attention_heads": 2, "num_layers": 2}"#;
    for path in [&whole, &shards] {
        fs::write(path.join("config.json"), settings).expect("write");
        // The config.json next to the weights specifies the number of heads.
        assert_eq!(answers(path, &[]), expected, "{}", path.display());
    }
    fs::remove_file(shards.join("model-00002-of-00002.safetensors")).expect("remove");
    assert_fails(&eval(data, &shards, &[]), &["model-00002-of-00002.safetensors is missing, one of 2 files; download it too"]);
    // Hugging Face's file of PyTorch's container.
    let torch = folder.path().join("torch");
    fs::create_dir(&torch).expect("folder");
    fs::copy(published().join("200000/mp_rank_00_model_states.pt"), torch.join("pytorch_model.bin")).expect("copy");
    fs::write(torch.join("config.json"), settings).expect("write");
    assert_eq!(answers(&torch, &[]), expected);
}

#[test]
fn an_explicit_preset_is_compared_with_the_weights() {
    let folder = tempfile::tempdir().expect("folder");
    ingest(folder.path(), &fixtures().join("golden/cloze/passages.jsonl"), &["train", "val"]);
    let other = eval(folder.path(), &published(), &["--preset", "base"]);
    assert_fails(&other, &["do not have the requested sizes", "omit --preset"]);
    let rows: Vec<Vec<String>> = other
        .stderr()
        .lines()
        .filter(|line| line.contains("layers") || line.contains("positions"))
        .map(|line| line.split_whitespace().map(str::to_owned).collect())
        .collect();
    assert_eq!(rows, [vec!["layers", "12", "2", "differs"], vec!["positions", "513", "513"]]);
}

#[test]
fn large_without_init_unpacks_the_archive_next_to_the_data() {
    let folder = tempfile::tempdir().expect("folder");
    ingest(folder.path(), &fixtures().join("golden/cloze/passages.jsonl"), &["train", "val"]);
    fs::write(folder.path().join("glm-large-blank.tar.bz2"), archive()).expect("write");
    let out = folder.path().join("run");
    let settings = ["model.heads=2", "data.batch_size=2", "data.micro_batch_tokens=900", "train.eval_every=0"];
    let mut command = trainer(&["run", "--device", "cpu", "--max-steps", "1", "--data"]);
    command.arg(folder.path().join("shards")).arg("--out").arg(&out);
    settings.iter().for_each(|setting| {
        command.args(["--set", setting]);
    });
    run(&mut command).success();
    assert!(folder.path().join("blocklm-large-blank/200000/mp_rank_00_model_states.pt").is_file());
    // The learning rate of the first step is 0, so the weights are still those of the archive.
    assert_identical(&published(), &out);
}

#[test]
fn downloads_resume_and_are_checked() {
    let folder = tempfile::tempdir().expect("folder");
    let file = archive();
    let fetch = |server: &Server, dir: &str, more: &[&str]| {
        let mut command = trainer(&["fetch", "glm-large-blank"]);
        run(command.arg(folder.path().join(dir)).args(["--url", &server.url]).args(more))
    };
    let name = "glm-large-blank.tar.bz2";
    let server = Server::start(name, vec![Answer::file(&file).cut(file.len() / 2), Answer::file(&file)]);
    let first = fetch(&server, "new", &[]).success();
    assert!(first.stdout().contains("publish no checksum"), "{}", first.stdout());
    let requests = server.requests();
    assert_eq!((requests.len(), requests[1].range.clone()), (2, Some(format!("bytes={}-", file.len() / 2))));
    assert!(fs::read(folder.path().join("new").join(name)).expect("read") == file);
    let record = fs::read_to_string(folder.path().join("new").join(format!("{name}.sha256"))).expect("record");
    let sha256 = record.split_whitespace().next().expect("digits").to_owned();
    assert!(first.stdout().contains(&sha256));
    let second = fetch(&server, "new", &[]).success();
    assert!(second.stdout().contains("already exists"), "{}", second.stdout());
    assert_eq!(server.requests().len(), 2);
    // --init accepts the folder of the download.
    assert_identical(&published(), &folder.path().join("new"));

    let known = fetch(&server, "known", &["--sha256", &sha256]).success();
    assert!(!known.stdout().contains("publish no checksum"), "{}", known.stdout());
    assert_fails(&fetch(&server, "wrong", &["--sha256", &"0".repeat(64)]), &["but --sha256 is 0000"]);
    let mut damaged = file.clone();
    damaged[file.len() / 2] ^= 1;
    let cases = [
        (Answer::file(&damaged), "is not a readable bzip2 archive"),
        (Answer::file(b"<html>please log in</html>"), "is an HTML page, not a bzip2 archive"),
        (Answer::status(404), "the server returned status 404"),
    ];
    for (number, (answer, message)) in cases.into_iter().enumerate() {
        let dir = format!("failed{number}");
        assert_fails(&fetch(&Server::start(name, vec![answer]), &dir, &[]), &[message]);
        assert_eq!(fs::read_dir(folder.path().join(dir)).expect("folder").count(), 0);
    }
}

#[test]
fn pytorch_loads_converted_weights() {
    let Some(python) = python_with_torch() else { return };
    let folder = tempfile::tempdir().expect("folder");
    let ours = folder.path().join("ours");
    convert(&published(), &ours, &["--heads", "2"]).success();
    for (dtype, to) in [("fp16", "half"), ("fp32", "single")] {
        let to = folder.path().join(to);
        convert(&ours, &to, &["--to", "published", "--dtype", dtype]).success();
        let script = "import sys, torch\n\
            theirs, ours = (torch.load(path, weights_only=only) for path, only in zip(sys.argv[1:3], (False, True)))\n\
            assert list(theirs['module']) == list(ours['module']), list(ours['module'])\n\
            for name, tensor in theirs['module'].items():\n    \
                found = ours['module'][name]\n    \
                assert found.dtype == getattr(torch, sys.argv[3]), found.dtype\n    \
                assert found.is_contiguous() and torch.equal(found, tensor.to(found.dtype)), name\n\
            mapped = torch.load(sys.argv[2], weights_only=True, mmap=True)['module']\n\
            assert all(torch.equal(mapped[name], tensor) for name, tensor in ours['module'].items())\n\
            assert (ours['iteration'], ours['global_steps'], ours['mp_world_size']) == (1, 1, 1)\n";
        let output = Command::new(&python)
            .args(["-c", script])
            .arg(published().join("200000/mp_rank_00_model_states.pt"))
            .arg(to.join("1/mp_rank_00_model_states.pt"))
            .arg(if dtype == "fp16" { "float16" } else { "float32" })
            .output()
            .expect("python");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
