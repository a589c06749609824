//! Weights from elsewhere with absurd names and sizes: an error of one line, without a panic and without memory for what they claim.

use std::fs;
use std::path::Path;
use std::process::Command;

use glm_tests::training::{corpus, trainer_from};
use glm_tests::{command, run};
use serde_json::json;

/// Writes a safetensors file of fp32 tensors; those with a size of 0 have no bytes.
fn write(path: &Path, tensors: &[(&str, [u64; 2])]) {
    let (mut header, mut end) = (serde_json::Map::new(), 0);
    for (name, shape) in tensors {
        let bytes = if shape.contains(&0) { 0 } else { 4 * shape.iter().product::<u64>() };
        header.insert((*name).to_owned(), json!({"dtype": "F32", "shape": shape, "data_offsets": [end, end + bytes]}));
        end += bytes;
    }
    let header = serde_json::to_vec(&header).expect("json");
    let content = [&(header.len() as u64).to_le_bytes()[..], &header, &vec![0; usize::try_from(end).expect("small")]].concat();
    fs::write(path, content).expect("write");
}

#[test]
fn absurd_names_and_sizes_are_errors_of_one_line() {
    let folder = tempfile::tempdir().expect("folder");
    corpus(folder.path());
    let path = folder.path().join("weights.safetensors");
    let (words, positions) = ("word_embeddings.weight", "transformer.position_embeddings.weight");
    let bias = "transformer.layers.9223372036854775808.input_layernorm.bias";
    let cases = [
        (vec![(words, [30592, 16]), (positions, [513, 16]), (bias, [0, 1])], "3 tensors are too few for"),
        (vec![(words, [30592, 16]), (positions, [1 << 60, 0])], "`transformer.position_embeddings.weight` is empty"),
        (vec![(words, [30592, 16]), (positions, [1 << 30, 0])], "`transformer.position_embeddings.weight` is empty"),
        (vec![(words, [0, 1 << 62]), (positions, [513, 16])], "`word_embeddings.weight` is empty"),
        (
            vec![(words, [30592, 16]), (positions, [513, 16]), ("transformer.layers.0.input_layernorm.bias", [16, 1])],
            "`transformer.block_position_embeddings.weight` is missing",
        ),
    ];
    for (tensors, text) in cases {
        write(&path, &tensors);
        let mut eval = command("glm-trainer");
        eval.args(["eval", "--device", "cpu", "--set", "model.heads=2", "--data"]).arg(folder.path()).arg("--init").arg(&path);
        let mut convert = command("glm-trainer");
        convert.arg("convert").arg(&path).arg(folder.path().join("converted")).args(["--heads", "2"]);
        let mut begin: Command = command("glm-trainer");
        begin.args(["run", "--device", "cpu", "--set", "model.heads=2", "--max-steps", "1", "--data"]).arg(folder.path());
        begin.arg("--init").arg(&path).arg("--out").arg(folder.path().join("run"));
        for mut command in [eval, convert, begin] {
            let finished = run(&mut command);
            let stderr = finished.stderr();
            let errors: Vec<&str> = stderr.lines().filter(|line| !line.contains("INFO") && !line.contains("WARN")).collect();
            assert!(finished.code() == Some(1) && errors.len() == 1 && errors[0].contains(text), "{text} in:\n{stderr}");
        }
    }
    // Truncated files and files of another kind.
    let valid = folder.path().join("model.safetensors");
    let mut from = trainer_from("random".as_ref(), folder.path(), &folder.path().join("first"));
    run(from.args(["--max-steps", "1"])).success();
    run(command("glm-trainer").arg("convert").arg(folder.path().join("first")).arg(&valid)).success();
    let whole = fs::read(&valid).expect("read");
    let junk = folder.path().join("junk.tar.bz2");
    fs::write(&junk, "junk").expect("write");
    for (content, text) in
        [(&whole[..whole.len() - 5], "it was truncated; copy or download it again"), (&whole[..5], "within its header")]
    {
        fs::write(&valid, content).expect("write");
        let refused = run(command("glm-trainer").arg("inspect").arg(&valid));
        assert!(refused.code() == Some(1) && refused.stderr().contains(text), "{}", refused.stderr());
    }
    let refused = run(command("glm-trainer").arg("inspect").arg(&junk));
    assert!(refused.stderr().contains("junk.tar.bz2 is not a bzip2 archive"), "{}", refused.stderr());
}
