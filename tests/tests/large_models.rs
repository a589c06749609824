//! Weights of large models: model-parallel parts, shards of Hugging Face, and their vocabularies.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use glm_tests::processes::python_with_torch;
use glm_tests::training::{set, small_model};
use glm_tests::{Finished, command, fixtures, run};
use serde_json::Value;

/// Published weights with two layers of width 16 and two heads, 29 tensors.
fn published() -> PathBuf {
    fixtures().join("golden/model/full-vocab/blocklm-tiny")
}

/// Asserts that the program exited with code 1 and printed all of `texts`.
#[track_caller]
fn assert_fails(finished: &Finished, texts: &[&str]) {
    assert_eq!(finished.code(), Some(1), "{}{}", finished.stdout(), finished.stderr());
    for text in texts {
        assert!(finished.stderr().contains(text), "{text} in:\n{}", finished.stderr());
    }
}

fn convert(from: &Path, to: &Path, more: &[&str]) -> Finished {
    run(command("glm-trainer").arg("convert").arg(from).arg(to).args(more))
}

fn inspect(path: &Path) -> Finished {
    run(command("glm-trainer").args(["inspect", "--json"]).arg(path))
}

/// Asserts that two weights have the same tensors.
#[track_caller]
fn assert_identical(a: &Path, b: &Path) {
    let finished = run(command("glm-trainer").args(["inspect", "--json"]).args([a, b])).success();
    let difference: Value = serde_json::from_str(&finished.stdout()).expect("json");
    let tensors = difference["tensors"].as_array().expect("tensors");
    assert_eq!(tensors.len(), 29, "{difference}");
    assert!(tensors.iter().all(|tensor| tensor["identical"] == true), "{difference}");
}

fn files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("list").flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn parts_are_joined_and_divided() {
    let folder = tempfile::tempdir().expect("folder");
    let [two, one] = ["two", "one"].map(|name| folder.path().join(name));
    let printed = convert(&published(), &two, &["--to", "published", "--parts", "2"]).success().stdout();
    assert!(printed.contains("two: 29 tensors in 2 files"), "{printed}");
    let parts = two.join("200000");
    assert_eq!(files(&parts), ["mp_rank_00_model_states.pt", "mp_rank_01_model_states.pt"]);
    for path in [&two, &parts, &parts.join("mp_rank_00_model_states.pt"), &parts.join("mp_rank_01_model_states.pt")] {
        assert_identical(&published(), path);
    }
    // Again into one part; old parts do not remain.
    assert_fails(&convert(&published(), &two, &["--to", "published"]), &["mp_rank_00_model_states.pt already exists"]);
    convert(&two, &one, &["--to", "published"]).success();
    assert_identical(&published(), &one);
    convert(&one, &two, &["--to", "published", "--force"]).success();
    assert_eq!(files(&parts), ["mp_rank_00_model_states.pt"]);
    assert_identical(&published(), &two);

    let to = folder.path().join("three");
    let three = convert(&published(), &to, &["--to", "published", "--parts", "3"]);
    assert_fails(
        &three,
        &["`word_embeddings.weight` of shape [30592, 16] cannot be divided into 3 parts; use another --parts"],
    );
    assert_fails(&convert(&published(), &to, &["--parts", "2"]), &["--parts needs --to published and a folder"]);
}

#[test]
fn parts_that_do_not_fit_together_are_errors() {
    let folder = tempfile::tempdir().expect("folder");
    let make = |name: &str| {
        let to = folder.path().join(name);
        convert(&published(), &to, &["--to", "published", "--parts", "2"]).success();
        to.join("200000")
    };
    let (first, second) = ("mp_rank_00_model_states.pt", "mp_rank_01_model_states.pt");
    let lacks = |name: &str, file: &str| {
        let parts = make(name);
        fs::remove_file(parts.join(file)).expect("remove");
        inspect(&parts)
    };
    assert_fails(&lacks("a", first), &[second, "mp_rank_00_model_states.pt is missing, one of 2 or more model-parallel parts"]);
    assert_fails(&lacks("b", second), &[first, "one of 2 model-parallel parts; mp_rank_01_model_states.pt is missing"]);
    // A whole model as the second part, and another number of layers.
    let parts = make("c");
    let whole = published().join("200000").join(first);
    fs::copy(&whole, parts.join(second)).expect("copy");
    assert_fails(&inspect(&parts), &[second, "of shape [30592, 16], but fp16 of shape [15296, 16] in the first part"]);
    let tiny = fixtures().join("golden/model/tiny/200000").join(first);
    fs::copy(tiny, parts.join(second)).expect("copy");
    assert_fails(&inspect(&parts), &[second, "use the parts of one checkpoint"]);
    // A damaged part.
    let parts = make("d");
    let bytes = fs::read(parts.join(second)).expect("read");
    fs::write(parts.join(second), &bytes[..bytes.len() / 2]).expect("write");
    assert_fails(&inspect(&parts), &[second]);
}

#[test]
fn hugging_face_folders_have_shards_and_settings() {
    let folder = tempfile::tempdir().expect("folder");
    let to = folder.path().join("hf");
    convert(&published(), &to, &["--to", "hugging-face", "--heads", "2"]).success();
    assert_eq!(files(&to), ["config.json", "model.safetensors"]);
    assert_identical(&published(), &to);
    let shards = ["--to", "hugging-face", "--heads", "2", "--shard-size", "0.00002"];
    assert_fails(&convert(&published(), &to, &shards), &["already exists"]);
    convert(&published(), &to, &[&shards[..], &["--force"]].concat()).success();
    let names = files(&to);
    assert!(names.len() > 4 && !names.contains(&"model.safetensors".to_owned()), "{names:?}");
    assert!(names.contains(&"model.safetensors.index.json".to_owned()), "{names:?}");
    assert_identical(&published(), &to);
    let config: Value = serde_json::from_slice(&fs::read(to.join("config.json")).expect("read")).expect("json");
    let number = |key: &str| config[key].as_u64().expect(key);
    assert_eq!((number("num_layers"), number("num_attention_heads"), number("max_sequence_length")), (2, 2, 512));
    let index: Value = serde_json::from_slice(&fs::read(to.join("model.safetensors.index.json")).expect("read")).expect("json");
    assert!(index["weight_map"]["glm.word_embeddings.weight"].is_string(), "{index}");
    // The settings give the number of heads.
    let back = folder.path().join("back.safetensors");
    convert(&to, &back, &[]).success();
    assert_identical(&published(), &back);
}

/// Ingests documents with a tokenizer.
fn documents(folder: &Path, tokenizer: &str, text: impl Fn(usize) -> String) {
    fs::create_dir_all(folder).expect("folder");
    for (split, count) in [("train", 24), ("val", 4)] {
        let lines: Vec<String> = (0..count).map(|n| serde_json::json!({"text": text(n)}).to_string()).collect();
        fs::write(folder.join(format!("{split}.jsonl")), lines.join("\n") + "\n").expect("write");
    }
    run(command("glm-prep").arg("ingest").arg(folder).args(["--task", "text", "--tokenizer", tokenizer])).success();
}

fn english(n: usize) -> String {
    let animals = ["dog", "cat", "cow", "duck"];
    format!("The {} sleeps near the naïve café — at nine. It isn't far from the lake, said nobody. ", animals[n % 4]).repeat(2)
}

/// Trains a small model on documents for two steps.
fn train(data: &Path, out: &Path, init: &str) -> Command {
    let mut train = small_model(data, out);
    train.args(["--task", "infill", "--seed", "3", "--init", init, "--max-steps", "2", "--lr", "1e-3"]);
    set(&mut train, &["data.max_seq_len=64", "data.batch_size=4", "optim.warmup=0", "train.eval_every=100"]);
    train
}

fn generate(init: &Path, more: &[&str]) -> Finished {
    let mut generate = command("glm-trainer");
    generate.args(["generate", "--device", "cpu", "--max-tokens", "5", "--init"]).arg(init).args(more);
    run(generate.arg("It was [MASK] who came."))
}

#[test]
fn a_byte_level_vocabulary_from_ingest_to_generation() {
    let folder = tempfile::tempdir().expect("folder");
    let [data, bert, out] = ["data", "bert", "out"].map(|name| folder.path().join(name));
    documents(&data, "gpt2", english);
    let manifest: Value = serde_json::from_slice(&fs::read(data.join("shards/manifest.json")).expect("read")).expect("json");
    assert_eq!((&manifest["tokenizer"]["name"], &manifest["tokenizer"]["vocab_size"]), (&"gpt2".into(), &50263.into()));
    assert_eq!((&manifest["special_ids"]["pad"], &manifest["special_ids"]["mask"]), (&50256.into(), &50260.into()));
    run(command("glm-prep").arg("verify").arg(&data)).success();
    let shown = run(command("glm-prep").arg("inspect").arg(&data)).success().stdout();
    assert!(shown.contains("naïve café — at nine"), "{shown}");
    run(&mut train(&data, &out, "random")).success();
    // The weights say which vocabulary they have.
    let text = generate(&out, &[]).success().stdout();
    assert!(text.starts_with("It was") && text.trim_end().ends_with(" who came."), "{text}");
    documents(&bert, "bert-large-uncased", english);
    let refused = run(&mut train(&bert, &folder.path().join("other"), out.to_str().expect("text")));
    assert_fails(&refused, &["vocabulary gpt2 (sha256 ", "vocabulary bert-large-uncased (sha256 "]);
    assert_fails(&generate(&out, &["--tokenizer", "bert-large-uncased"]), &["gpt2 (sha256", "bert-large-uncased (sha256"]);
    // Published weights do not record it, but have their sizes.
    let mut train = train(&data, &folder.path().join("other"), published().to_str().expect("text"));
    let refused = run(set(&mut train, &["model.hidden=16"]));
    assert_fails(
        &refused,
        &["have the sizes of published ones with the vocabulary bert-large-uncased", "vocabulary gpt2 (sha256"],
    );
}

#[test]
fn a_sentencepiece_vocabulary_from_ingest_to_generation() {
    let folder = tempfile::tempdir().expect("folder");
    let [data, out, model] = ["data", "out", "own.model"].map(|name| folder.path().join(name));
    let packed = fs::File::open(fixtures().join("golden/vocabularies/sp-unigram-bytes.model.gz")).expect("fixture");
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(packed).read_to_end(&mut bytes).expect("unpacked");
    fs::write(&model, bytes).expect("write");
    let path = model.to_str().expect("text");
    documents(&data, path, |n| format!("渡船九点开走了，没有人告诉那两个职员。所以他们一直在等 {n}！ ").repeat(3));
    run(&mut train(&data, &out, "random")).success();
    let text = generate(&out, &["--tokenizer", path]).success().stdout();
    assert!(text.starts_with("It was") && text.trim_end().ends_with(" who came."), "{text}");
    assert_fails(&generate(&out, &[]), &["vocabulary own.model (sha256", "bert-large-uncased (sha256", "--tokenizer"]);
}

/// Writes a checkpoint of the layout of GLM-2B, with two narrow layers, in two parts, and whole; or compares parts with a whole.
const SCRIPT: &str = r#"
import sys, os, torch
PER_HEAD, ROWS, COLUMNS = "query_key_value", ("word_embeddings", "dense_h_to_4h"), ("attention.dense.weight", "dense_4h_to_h.weight")
def part(name, tensor, rank):
    if PER_HEAD in name:
        return torch.cat([block.chunk(2)[rank] for block in tensor.chunk(3)]).clone()
    if any(word in name for word in ROWS):
        return tensor.chunk(2)[rank].clone()
    if name.endswith(COLUMNS):
        return tensor.chunk(2, dim=1)[rank].clone()
    return tensor.clone()
def file(folder, rank):
    return os.path.join(folder, f"mp_rank_{rank:02}_model_states.pt")
if sys.argv[1] == "make":
    h, v, p = 64, 50304, 1025
    torch.manual_seed(1)
    shapes = {"word_embeddings.weight": (v, h), "transformer.position_embeddings.weight": (p, h),
              "transformer.block_position_embeddings.weight": (p, h)}
    for layer in range(2):
        for name, *shape in [("input_layernorm", h), ("attention.query_key_value", 3 * h, h), ("attention.dense", h, h),
                             ("post_attention_layernorm", h), ("mlp.dense_h_to_4h", 4 * h, h), ("mlp.dense_4h_to_h", h, 4 * h)]:
            shapes[f"transformer.layers.{layer}.{name}.weight"] = shape
            shapes[f"transformer.layers.{layer}.{name}.bias"] = shape[:1]
    shapes["transformer.final_layernorm.weight"] = shapes["transformer.final_layernorm.bias"] = (h,)
    whole = {name: (torch.randn(*shape) * 0.02 + ("layernorm.weight" in name)).half() for name, shape in shapes.items()}
    torch.save({"module": whole}, sys.argv[2])
    folder = os.path.join(sys.argv[3], "100000")
    os.makedirs(folder)
    open(os.path.join(sys.argv[3], "latest_checkpointed_iteration.txt"), "w").write("100000\n")
    for rank in range(2):
        module = {name: part(name, tensor, rank) for name, tensor in whole.items()}
        torch.save({"module": module, "optimizer": None, "iteration": 100000, "mp_world_size": 2}, file(folder, rank))
else:
    whole = torch.load(sys.argv[2], weights_only=True)["module"]
    if sys.argv[1] == "same":
        other = torch.load(sys.argv[3], weights_only=True)["module"]
        same = [torch.equal(tensor, other[name]) for name, tensor in whole.items()]
        assert len(whole) == len(other) and all(same), same
    elif sys.argv[1] == "changed":
        other = torch.load(sys.argv[3], weights_only=True)["module"]
        same = [name for name, tensor in whole.items() if torch.equal(tensor.float(), other[name].float())]
        assert len(same) < 5, same
    else:
        for rank in range(2):
            saved = torch.load(file(sys.argv[3], rank), weights_only=True)
            assert saved["mp_world_size"] == 2
            module = saved["module"]
            assert list(module) == list(whole)
            for name, tensor in whole.items():
                assert torch.equal(module[name], part(name, tensor, rank)), name
"#;

#[test]
fn a_checkpoint_in_two_parts_is_trained_and_written_back() {
    let Some(python) = python_with_torch() else { return };
    let folder = tempfile::tempdir().expect("folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let check = |arguments: &[&str]| {
        run(Command::new(&python).args(["-c", SCRIPT]).args(arguments)).success();
    };
    let (whole, parts) = (path("whole.pt"), path("blocklm-2b-512"));
    check(&["make", &whole, &parts]);
    // Joined on reading.
    let joined = path("joined.pt");
    convert(parts.as_ref(), joined.as_ref(), &[]).success();
    check(&["same", &whole, &joined]);
    // Trained.
    let (data, out) = (path("data"), path("run"));
    documents(data.as_ref(), "gpt2", english);
    let mut train = command("glm-trainer");
    train.args(["run", "--device", "cpu", "--precision", "fp32", "--task", "infill", "--data", &data, "--init", &parts]);
    train.args(["--out", &out, "--max-steps", "2", "--lr", "1e-3", "--set", "model.heads=4", "--set", "optim.warmup=0"]);
    run(train.args(["--set", "data.max_seq_len=64", "--set", "data.batch_size=4", "--set", "train.eval_every=100"])).success();
    // Written back, whole and in parts.
    let (single, two) = (path("single.pt"), path("two"));
    convert(out.as_ref(), single.as_ref(), &["--dtype", "fp32"]).success();
    check(&["changed", &whole, &single]);
    convert(out.as_ref(), two.as_ref(), &["--to", "published", "--parts", "2", "--dtype", "fp32"]).success();
    let iteration = fs::read_to_string(folder.path().join("two/latest_checkpointed_iteration.txt")).expect("iteration");
    check(&["parts", &single, &format!("{two}/{iteration}")]);
}
