//! The published form, for comparison: every choice of a question padded to 512 tokens, in plain PyTorch.
//!
//! The scripts of `scripts/bench.d` are part of this program, so that an installed one can run them. They need a Python with torch
//! and nothing else. Their questions are synthetic ones of ReCoRD's lengths, as those of [`super::synthetic`].

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use glm_schemas::vocab::embedding_rows;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tch::Device;
use thiserror::Error;

use super::training::{Subject, VOCABULARY};
use super::{BenchArgs, BenchError, TrainingSpeed, training};
use crate::config::{Config, SettingsError};
use crate::task::Objective;

/// The program and its modules.
const PROGRAM: &str = "padded_baseline.py";
const FILES: [(&str, &str); 3] = [
    (PROGRAM, include_str!("../../../../scripts/bench.d/padded_baseline.py")),
    ("padded_model.py", include_str!("../../../../scripts/bench.d/padded_model.py")),
    ("machine.py", include_str!("../../../../scripts/bench.d/machine.py")),
];
/// Programs that are tried where none is given, in this order.
const PYTHONS: [&str; 2] = ["python3", ".venv/bin/python"];
/// Timed and untimed questions on a GPU, which computes dozens of them per second.
const GPU_QUESTIONS: [usize; 2] = [64, 8];

/// Errors of running the published form.
#[derive(Debug, Error)]
pub enum BaselineError {
    /// No Python has torch.
    #[error(
        "cannot import torch in {}; install it with `python3 -m pip install torch==2.11.0`, or specify a Python that has it \
         with --python PATH",
        .0.join(" or ")
    )]
    NoTorch(Vec<String>),
    /// The scripts cannot be written or started.
    #[error("cannot run the baseline: {0}")]
    Io(#[from] io::Error),
    /// It failed, with messages of its own.
    #[error("the baseline ended with {0}")]
    Failed(ExitStatus),
    /// It has printed something else than a result.
    #[error("the baseline has printed no result: {0}")]
    Output(#[from] serde_json::Error),
}

/// Training speed of the published form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PublishedSpeed {
    /// Questions per second, with one optimizer step per 32 questions.
    pub questions_per_second: f64,
    /// Questions that were timed.
    pub questions: usize,
    /// Choices of a question.
    pub mean_choices: f64,
    /// Positions computed for a question, with padding.
    pub positions_computed: f64,
    /// True if each layer was computed again in the backward pass, as in the published recipe, because the memory did not
    /// suffice otherwise.
    pub recomputation: bool,
    /// Format of forward and backward pass.
    pub precision: String,
    /// The device.
    pub device: String,
    /// Version of PyTorch.
    pub torch: String,
    /// Peak memory in bytes.
    pub peak_memory_bytes: u64,
}

/// Training speed beside that of the published form on the same device.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// Of this program.
    #[serde(flatten)]
    pub ours: TrainingSpeed,
    /// Of the published form.
    pub published: PublishedSpeed,
    /// Our questions per second over those of the published form.
    pub speedup: f64,
}

/// Measures the published form, then this program.
///
/// # Errors
/// [`BenchError`].
pub(super) fn compare(config: &Config, device: Device, args: &BenchArgs) -> Result<Comparison, BenchError> {
    // First, while all memory of the device is free, and because it fails at once where Python has no torch.
    let published = measure(config, device, args)?;
    let ours = training::measure(config, Subject::Synthetic(Objective::Cloze), device, args.plan(device))?;
    let speedup = ours.questions_per_second / published.questions_per_second;
    Ok(Comparison { ours, published, speedup })
}

fn measure(config: &Config, device: Device, args: &BenchArgs) -> Result<PublishedSpeed, BenchError> {
    let arguments = arguments(config, device, args)?;
    let python = find_python(args.python.as_deref())?;
    tracing::info!("measuring the published form with {}", python.display());
    Ok(run_script(&python, PROGRAM, &FILES, &arguments)?)
}

/// Finds a Python that has torch: the given one, or one of [`PYTHONS`].
pub(super) fn find_python(given: Option<&Path>) -> Result<PathBuf, BaselineError> {
    let candidates = given.map_or_else(|| PYTHONS.map(PathBuf::from).to_vec(), |path| vec![path.to_owned()]);
    let imports_torch = |python: &&PathBuf| {
        let mut command = Command::new(python);
        command.args(["-c", "import torch"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let found = candidates.iter().find(imports_torch).cloned();
    found.ok_or_else(|| BaselineError::NoTorch(candidates.iter().map(|path| path.display().to_string()).collect()))
}

/// Arguments of the program: the same model, precision and device.
fn arguments(config: &Config, device: Device, args: &BenchArgs) -> Result<Vec<String>, SettingsError> {
    let sizes = config.random_model(embedding_rows(VOCABULARY))?;
    let precision = config.train.precision.on(device);
    let plan = args.plan(device);
    let (name, [questions, warmup]) = match device {
        Device::Cuda(index) => (format!("cuda:{index}"), GPU_QUESTIONS),
        // A question takes up to minutes there.
        _ => ("cpu".to_owned(), [plan.steps, plan.warmup.min(1)]),
    };
    let options = [
        ("--device", name),
        ("--sizes", format!("{},{},{}", sizes.layers, sizes.hidden, sizes.heads)),
        ("--precision", format!("{precision:?}").to_lowercase()),
        ("--dropout", sizes.dropout.to_string()),
        ("--questions", questions.to_string()),
        ("--warmup", warmup.to_string()),
        ("--batch-size", "32".to_owned()),
        ("--threads", tch::get_num_threads().to_string()),
    ];
    let flags = ["--synthetic", "--checkpoint-if-needed", "--json"].map(str::to_owned);
    Ok(options.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).chain(flags).collect())
}

/// Runs a program with its modules and returns its result, the last line of its output.
pub(super) fn run_script<T: DeserializeOwned>(
    python: &Path,
    program: &str,
    files: &[(&str, &str)],
    arguments: &[String],
) -> Result<T, BaselineError> {
    let folder = tempfile::Builder::new().prefix("glm-bench-").tempdir()?;
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text)?;
    }
    let mut command = Command::new(python);
    command.arg(folder.path().join(program)).args(arguments).stdin(Stdio::null()).stderr(Stdio::inherit());
    // torch warns about a missing numpy, which is not needed.
    command.env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONWARNINGS", "ignore::UserWarning");
    let output = command.output()?;
    if !output.status.success() {
        return Err(BaselineError::Failed(output.status));
    }
    Ok(parse(&String::from_utf8_lossy(&output.stdout))?)
}

/// The result is the last line.
fn parse<T: DeserializeOwned>(text: &str) -> Result<T, serde_json::Error> {
    serde_json::from_str(text.lines().next_back().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: BenchArgs,
    }

    fn arguments_of(line: &[&str], device: Device) -> String {
        let args = Line::try_parse_from([&["bench", "--baseline"], line].concat()).expect("arguments").args;
        arguments(&args.resolve().expect("settings"), device, &args).expect("arguments").join(" ")
    }

    #[test]
    fn the_published_form_has_the_same_model_and_precision() {
        let text = arguments_of(&["--preset", "large"], Device::Cuda(1));
        let start =
            "--device cuda:1 --sizes 24,1024,16 --precision fp16 --dropout 0.1 --questions 64 --warmup 8 --batch-size 32";
        assert!(text.starts_with(start), "{text}");
        assert!(text.ends_with("--synthetic --checkpoint-if-needed --json"), "{text}");
        let line = ["--preset", "tiny", "--precision", "bf16", "--steps", "2", "--warmup", "4", "--set", "model.layers=1"];
        let text = arguments_of(&line, Device::Cpu);
        let start = "--device cpu --sizes 1,128,4 --precision bf16 --dropout 0.1 --questions 2 --warmup 1 --batch-size 32";
        assert!(text.starts_with(start), "{text}");
    }

    #[test]
    fn the_result_is_the_last_line() {
        let line = r#"{"questions_per_second": 21.3, "questions": 64, "mean_choices": 9.0, "positions_computed": 4608.0,
            "recomputation": false, "precision": "fp16", "device": "cuda:0", "torch": "2.11.0+cu130", "threads": 16,
            "peak_memory_bytes": 21000000000, "preset": null}"#;
        let text = format!("a message\n{}\n", line.replace('\n', " "));
        let speed: PublishedSpeed = parse(&text).expect("result");
        assert_eq!((speed.questions_per_second, speed.questions, speed.recomputation), (21.3, 64, false));
        assert!(["", "a message\n"].into_iter().all(|text| parse::<PublishedSpeed>(text).is_err()));
    }

    #[test]
    fn a_python_without_torch_has_a_remedy() {
        let error = find_python(Some(Path::new("no-such-python"))).expect_err("missing").to_string();
        assert!(error.starts_with("cannot import torch in no-such-python; install it with"), "{error}");
        assert!(error.ends_with("--python PATH"), "{error}");
    }
}
