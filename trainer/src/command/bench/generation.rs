//! Speed of generation: texts one at a time and together, and beside a plain loop in PyTorch.

use std::fmt;
use std::path::Path;
use std::time::Instant;

use glm_schemas::vocab::{SpecialIds, embedding_rows};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tch::{Device, Kind};

use super::baseline::{BaselineError, find_python, run_script};
use super::synthetic::Random;
use super::training::VOCABULARY;
use super::{BenchArgs, BenchError};
use crate::checkpoint::tensors::write_safetensors;
use crate::command::setup::SetupError;
use crate::config::Config;
use crate::generate::{Context, Event, Generator, Limits, Request, Search, Settings};
use crate::memory::peak_bytes;
use crate::model::{Glm, Pass};

/// Numbers of texts that are decoded together by default.
const BATCH_SIZES: [usize; 2] = [1, 32];
/// Tokens per text of the warm-up.
const WARMUP_TOKENS: usize = 4;
/// The plain loop.
const PROGRAM: &str = "plain_generation.py";
const FILES: [(&str, &str); 1] = [(PROGRAM, include_str!("../../../../scripts/bench.d/plain_generation.py"))];

/// Speed with some texts decoded together.
#[derive(Debug, Clone, Serialize)]
pub struct BatchSpeed {
    /// Maximum number of texts decoded together.
    pub batch_size: usize,
    /// Number of texts.
    pub texts: usize,
    /// Generated tokens per second, including the time for the contexts.
    pub tokens_per_second: f64,
    /// Duration.
    pub seconds: f64,
}

/// Speed of the plain loop, one text at a time.
#[derive(Debug, Clone, Serialize)]
pub struct PlainSpeed {
    /// Number of texts.
    pub texts: usize,
    /// Generated tokens per second, including the time for the contexts.
    pub tokens_per_second: f64,
    /// Share of its texts that equal ours. Texts differ from the first token on at which rounding decides between two.
    pub equal_texts: f64,
    /// Version of PyTorch.
    pub torch: String,
}

/// Speed of generation.
#[derive(Debug, Clone, Serialize)]
pub struct GenerationSpeed {
    /// Device.
    pub device: String,
    /// Precision.
    pub precision: String,
    /// Number of parameters.
    pub parameters: usize,
    /// CPU threads.
    pub threads: i32,
    /// Mean number of tokens of a context.
    pub mean_context_tokens: f64,
    /// Generated tokens per text.
    pub tokens: usize,
    /// Speed by number of texts decoded together.
    pub speeds: Vec<BatchSpeed>,
    /// Peak memory.
    pub peak_memory_bytes: Option<u64>,
    /// The plain loop, if it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plain: Option<PlainSpeed>,
}

/// Measures generation with random weights: contexts of ReCoRD's lengths, the most probable token at each place.
///
/// # Errors
/// [`BenchError`].
pub(super) fn measure(config: &Config, device: Device, args: &BenchArgs) -> Result<GenerationSpeed, BenchError> {
    let sizes = config.random_model(embedding_rows(VOCABULARY))?;
    tch::manual_seed(config.train.seed as i64);
    let model = Glm::random(&sizes, Kind::Float, device)?;
    let precision = config.train.precision.on(device);
    let pass = Pass::evaluation(precision.kind(), config.train.kernels);
    let batch_sizes = if args.batch_sizes.is_empty() { &BATCH_SIZES[..] } else { &args.batch_sizes };
    let texts = batch_sizes.iter().copied().chain([args.steps]).max().unwrap_or(1);
    let requests = requests(texts);
    let run = |sequences: usize, tokens: usize, requests: &[Request]| {
        let limits = Limits { ngram: 0, min_length: tokens, max_length: tokens };
        let settings =
            Settings { search: Search::Greedy(limits), start: SpecialIds::BERT_UNCASED.sop, sequences, ..Settings::default() };
        let mut found = vec![Vec::new(); requests.len()];
        let start = Instant::now();
        Generator::new(&model, pass, settings).run(requests, &mut |event| {
            if let Event::Done { request, pieces } = event {
                found[request] = pieces.into_iter().flatten().next().map(|best| best.tokens).unwrap_or_default();
            }
            Ok(())
        })?;
        Ok::<_, BenchError>((found, start.elapsed().as_secs_f64()))
    };
    let (mut speeds, mut alone) = (Vec::new(), Vec::new());
    for &batch_size in batch_sizes {
        let count = batch_size.max(args.steps);
        run(batch_size, WARMUP_TOKENS, &requests[..batch_size.min(count)])?;
        let (found, seconds) = run(batch_size, args.new_tokens, &requests[..count])?;
        let tokens_per_second = (count * args.new_tokens) as f64 / seconds;
        tracing::info!("{batch_size} texts together: {tokens_per_second:.1} tokens/s");
        speeds.push(BatchSpeed { batch_size, texts: count, tokens_per_second, seconds });
        if alone.is_empty() {
            alone = found;
        }
    }
    let peak_memory_bytes = peak_bytes(device);
    let plain = match args.baseline {
        true => Some(plain(&model, &requests[..args.steps], &alone, config, device, args)?),
        false => None,
    };
    Ok(GenerationSpeed {
        device: crate::device::device_name(device),
        precision: precision.to_string(),
        parameters: sizes.parameters(),
        threads: tch::get_num_threads(),
        mean_context_tokens: requests.iter().map(|request| request.context.ids.len() as f64).sum::<f64>() / texts as f64,
        tokens: args.new_tokens,
        speeds,
        peak_memory_bytes,
        plain,
    })
}

/// Contexts of 191 to 341 tokens with a blank, the same on every machine.
fn requests(count: usize) -> Vec<Request> {
    let (mut random, special) = (Random::new(), SpecialIds::BERT_UNCASED);
    (0..count as u64)
        .map(|key| {
            let length = 188 + (150.0 * random.share().powi(2)) as usize;
            let blank = random.between(1, length);
            let mut ids = vec![special.cls];
            ids.extend(random.tokens(length));
            ids.insert(blank, special.mask);
            ids.push(special.pad);
            Request { context: Context { ids, blanks: vec![blank] }, key, search: None }
        })
        .collect()
}

/// Result of the plain loop.
#[derive(Debug, Deserialize)]
struct Plain {
    seconds: f64,
    tokens: Vec<Vec<i32>>,
    torch: String,
}

fn plain(
    model: &Glm,
    requests: &[Request],
    ours: &[Vec<i32>],
    config: &Config,
    device: Device,
    args: &BenchArgs,
) -> Result<PlainSpeed, BenchError> {
    let python = find_python(args.python.as_deref())?;
    tracing::info!("measuring a plain loop with {}", python.display());
    let folder = tempfile::Builder::new().prefix("glm-bench-").tempdir().map_err(BaselineError::Io)?;
    let (weights, file) = (folder.path().join("model.safetensors"), folder.path().join("requests.json"));
    let parameters = model.parameters().iter().map(|parameter| (parameter.name.clone(), &parameter.tensor));
    write_safetensors(&weights, parameters, model.config(), None).map_err(SetupError::from)?;
    let contexts: Vec<_> =
        requests.iter().map(|request| json!({"ids": request.context.ids, "blank": request.context.blanks[0]})).collect();
    let content = json!({"contexts": contexts, "tokens": args.new_tokens, "start": SpecialIds::BERT_UNCASED.sop});
    std::fs::write(&file, content.to_string()).map_err(BaselineError::Io)?;
    let name = match device {
        Device::Cuda(index) => format!("cuda:{index}"),
        _ => "cpu".to_owned(),
    };
    let path = |path: &Path| path.display().to_string();
    let options = [
        ("--weights", path(&weights)),
        ("--requests", path(&file)),
        ("--heads", model.config().heads.to_string()),
        ("--precision", config.train.precision.on(device).to_string()),
        ("--device", name),
        ("--threads", tch::get_num_threads().to_string()),
    ];
    let arguments: Vec<_> = options.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect();
    let Plain { seconds, tokens, torch } = run_script(&python, PROGRAM, &FILES, &arguments)?;
    let equal = tokens.iter().zip(ours).filter(|(plain, ours)| plain == ours).count();
    Ok(PlainSpeed {
        texts: requests.len(),
        tokens_per_second: (requests.len() * args.new_tokens) as f64 / seconds,
        equal_texts: equal as f64 / requests.len() as f64,
        torch,
    })
}

impl fmt::Display for GenerationSpeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millions = self.parameters as f64 / 1e6;
        writeln!(f, "{millions:.0} million parameters, {} on {}, {} threads", self.precision, self.device, self.threads)?;
        let plain = self.plain.as_ref().map(|plain| plain.tokens_per_second);
        let ratio = |speed: f64| plain.map_or_else(String::new, |plain| format!(", {:.2} times the plain loop", speed / plain));
        for BatchSpeed { batch_size, texts, tokens_per_second, .. } in &self.speeds {
            let together = if *batch_size == 1 { "one at a time".to_owned() } else { format!("{batch_size} together") };
            let ratio = ratio(*tokens_per_second);
            writeln!(f, "tokens/s        {tokens_per_second:12.1}   {texts} texts, {together}{ratio}")?;
        }
        if let Some(PlainSpeed { texts, tokens_per_second, equal_texts, torch }) = &self.plain {
            writeln!(
                f,
                "tokens/s        {tokens_per_second:12.1}   {texts} texts, plain loop in PyTorch {torch}; {:.0} % are the same",
                100.0 * equal_texts
            )?;
        }
        writeln!(
            f,
            "tokens/text     {:12}   after contexts of {:.0} tokens, whose time is included",
            self.tokens, self.mean_context_tokens
        )?;
        match self.peak_memory_bytes {
            Some(bytes) => writeln!(f, "peak memory     {:12.2}   GB", bytes as f64 / 1e9),
            None => Ok(()),
        }
    }
}
