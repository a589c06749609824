//! Compares training on two ranks with PyTorch's DistributedDataParallel on two processes, from the same weights and questions.

use std::path::Path;
use std::process::Command;

use glm_schemas::manifest::Split;
use glm_tests::processes::several_processes_can_train;
use glm_tests::run;
use glm_tests::training::{assert_close, corpus, set, steps, trainer, trainer_from, weights_file};
use glm_trainer::data::mmap::DataSet;
use glm_trainer::data::sampler::{Entry, Order, Sampler};
use tch::Tensor;

const STEPS: usize = 4;
const BATCH_SIZE: usize = 4;

/// Returns the rows of the first steps of a run with this seed, as indices into the whole split.
fn rows_of_steps(data: &Path, seed: u64) -> Vec<Vec<usize>> {
    let data = DataSet::open(data).expect("data set");
    let group_rows = data.split(Split::Train).expect("split").group_rows();
    let first_row = |group: usize| group_rows[..group].iter().sum::<usize>();
    let sampler = Sampler::new(group_rows.clone(), None, Order::Shuffled { seed }, &data.manifest().fingerprint);
    let blocks = sampler.epoch(0);
    let rows = blocks.flat_map(|block| {
        let row = |entry: &Entry| first_row(block.groups[entry.slot as usize]) + entry.row as usize;
        block.samples.iter().map(row).collect::<Vec<_>>()
    });
    let rows: Vec<usize> = rows.take(STEPS * BATCH_SIZE).collect();
    assert_eq!(rows.len(), STEPS * BATCH_SIZE, "more than an epoch");
    rows.chunks(BATCH_SIZE).map(<[usize]>::to_vec).collect()
}

/// Removes the biases of the attention keys. They do not change the softmax, so their gradients are rounding errors, which
/// AdamW nevertheless turns into steps of normal size.
fn without_key_biases(tensors: Vec<(String, Tensor)>) -> Vec<(String, Tensor)> {
    let without = |(name, tensor): (String, Tensor)| match name.ends_with("query_key_value.bias") {
        true => {
            let thirds = tensor.chunk(3, 0);
            (name, Tensor::cat(&[&thirds[0], &thirds[2]], 0))
        }
        false => (name, tensor),
    };
    tensors.into_iter().map(without).collect()
}

#[test]
fn two_ranks_match_pytorch_ddp() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let python = repository.join(".venv/bin/python");
    let finds = "import importlib.util as u, sys; sys.exit(None in map(u.find_spec, ['torch', 'numpy', 'pyarrow']))";
    if !Command::new(&python).args(["-c", finds]).output().is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: torch is not installed in .venv; `scripts/bench train` installs it");
        return;
    }
    if !several_processes_can_train() {
        return;
    }
    let folder = tempfile::tempdir().expect("folder");
    corpus(folder.path());
    let [start, ours, steps_file, theirs] = ["start", "ours", "steps.json", "theirs.npz"].map(|name| folder.path().join(name));
    // A few steps from random weights, after which biases are not zero.
    run(trainer(folder.path(), &start).args(["--max-steps", "6"])).success();

    let mut command = trainer_from(&start, folder.path(), &ours);
    let per_step = format!("data.batch_size={BATCH_SIZE}");
    set(&mut command, &["model.dropout=0", "model.attention_dropout=0", "data.max_seq_len=128", &per_step]);
    command.args(["--max-steps", &STEPS.to_string(), "--nproc", "2"]);
    run(&mut command).success();

    let rows = serde_json::to_vec(&rows_of_steps(folder.path(), 3)).expect("json");
    std::fs::write(&steps_file, rows).expect("write");
    let mut ddp = Command::new(&python);
    ddp.arg(repository.join("scripts/bench.d/ddp_baseline.py")).env("OMP_NUM_THREADS", "1");
    ddp.arg("--data").arg(folder.path()).arg("--weights").arg(weights_file(&start)).arg("--steps").arg(&steps_file);
    ddp.args(["--heads", "2", "--sequence", "128", "--lr", "1e-3", "--decay-steps", "30"]).arg("--out").arg(&theirs);
    run(&mut ddp).success();

    let (metrics, weights): (Vec<_>, Vec<_>) = Tensor::read_npz(&theirs)
        .expect("npz")
        .into_iter()
        .partition(|(name, _)| ["loss", "gradient_norm"].contains(&name.as_str()));
    for (name, values) in metrics {
        let values = Vec::<f64>::try_from(values).expect("numbers");
        assert_eq!(values.len(), STEPS);
        for (record, value) in steps(&ours).values().zip(values) {
            let own = record[&name].as_f64().expect("number");
            assert!((own - value).abs() < 1e-4 * value, "{name}: {own}, DDP has {value}; {record}");
        }
    }
    let ours = Tensor::read_safetensors(weights_file(&ours)).expect("weights");
    assert_close(without_key_biases(ours), without_key_biases(weights), 1e-4);
}
