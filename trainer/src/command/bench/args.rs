//! Arguments of `glm-trainer bench`.

use std::path::PathBuf;

use clap::Args;
use tch::Device;

use crate::config::args::SettingArgs;
use crate::config::overrides::Layers;
use crate::config::{Config, SettingsError};
use crate::device::{DeviceChoice, Precision};
use crate::task::Objective;

/// Arguments of `bench`.
#[derive(Debug, Clone, Args)]
pub struct BenchArgs {
    /// Data set [default: synthetic questions with the lengths of ReCoRD, or documents as long as their contexts]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Task to train on synthetic data; several are compared, each with a new model
    #[arg(long, value_name = "NAME,NAME", value_delimiter = ',', conflicts_with_all = ["data", "baseline", "batch_sizes"], default_values_t = [Objective::Cloze])]
    pub task: Vec<Objective>,
    /// Device: auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
    /// Intra-op threads on a CPU (train.threads)
    #[arg(long, value_name = "N")]
    pub threads: Option<u64>,
    /// Precision (train.precision)
    #[arg(long)]
    pub precision: Option<Precision>,
    /// Number of warm-up steps, which are not timed [default: 1 on a CPU, 25 on a GPU]
    #[arg(long, value_name = "N")]
    pub warmup: Option<usize>,
    /// Number of timed steps; with --generate, of texts that are decoded one at a time
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    pub steps: usize,
    /// Batch sizes to compare: questions per step (data.batch_size), each with a new model; with --generate, texts decoded together [default: 1,32]
    #[arg(long, visible_alias = "batch-size", value_name = "N,N", value_delimiter = ',', conflicts_with = "data_only", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    pub batch_sizes: Vec<usize>,
    /// Compare with the published form in plain PyTorch, on the same device with the same precision; on a CPU with as many
    /// questions as steps. With --generate, compare with a plain loop on the same weights
    #[arg(long, conflicts_with_all = ["data", "data_only", "batch_sizes"])]
    pub baseline: bool,
    /// Python with torch for --baseline [default: python3, else .venv/bin/python]
    #[arg(long, value_name = "PATH", requires = "baseline")]
    pub python: Option<PathBuf>,
    /// Measure generation: the most probable tokens after contexts of ReCoRD's lengths
    #[arg(long, conflicts_with_all = ["data", "data_only", "profile", "warmup", "task"])]
    pub generate: bool,
    /// Number of tokens generated per text
    #[arg(long, default_value_t = 64, value_name = "N", requires = "generate", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    pub new_tokens: usize,
    /// Report the time per kind of operation; on a GPU in as many more steps, with events around each operation
    #[arg(long)]
    pub profile: bool,
    /// Only read the data set, for one epoch
    #[arg(long, requires = "data")]
    pub data_only: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented on the type, clap would print it here")]
    pub settings: SettingArgs,
}

/// Measurement to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Steps before the clock starts.
    pub warmup: usize,
    /// Steps that are timed.
    pub steps: usize,
    /// True to measure the time per kind of operation.
    pub profile: bool,
}

/// Warm-up steps on a GPU: by then, the products of most shapes have their kernel.
const GPU_WARMUP: usize = 25;
/// Settings that differ from those of a run: with a loss scale of 2^32 at the first step, most models skip AdamW in the first 18
/// steps, and the schedule cannot follow the length of a run.
const DEFAULTS: [&str; 2] = ["loss_scale.init_scale=4096", "optim.decay_steps=1000"];

impl BenchArgs {
    /// The measurement to make on a device.
    pub fn plan(&self, device: Device) -> Plan {
        // On a GPU the first steps load kernels and fill the allocator's cache.
        let warmup = self.warmup.unwrap_or(if device.is_cuda() { GPU_WARMUP } else { 1 });
        Plan { warmup, steps: self.steps, profile: self.profile }
    }

    /// Resolves the settings. The loss scale starts lower than in training, unless it is set.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn resolve(&self) -> Result<Config, SettingsError> {
        let mut layers = Layers::default();
        DEFAULTS.iter().try_for_each(|text| layers.assignment(text))?;
        let epochs = self.data_only.then(|| "1".to_owned());
        let flags = [
            ("--precision", "train.precision", self.precision.map(|precision| precision.to_string())),
            ("--threads", "train.threads", self.threads.map(|threads| threads.to_string())),
            ("--data-only", "train.epochs", epochs),
        ];
        self.settings.resolve_over(layers, &flags)
    }
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

    fn parse(arguments: &[&str]) -> BenchArgs {
        Line::try_parse_from([&["bench"], arguments].concat()).expect("arguments").args
    }

    #[test]
    fn warm_up_depends_on_the_device() {
        let args = parse(&["--steps", "3", "--profile"]);
        assert_eq!(args.plan(Device::Cpu), Plan { warmup: 1, steps: 3, profile: true });
        assert_eq!(args.plan(Device::Cuda(0)).warmup, GPU_WARMUP);
        assert_eq!(parse(&["--warmup", "0"]).plan(Device::Cuda(0)).warmup, 0);
    }

    #[test]
    fn batch_sizes_are_a_list() {
        assert_eq!(parse(&["--batch-sizes", "4,8,128"]).batch_sizes, [4, 8, 128]);
        assert_eq!(parse(&["--batch-size", "4"]).batch_sizes, [4]);
        for invalid in
            [&["--batch-sizes", "4,0"][..], &["--batch-sizes", ""], &["--batch-sizes", "4", "--data", "d", "--data-only"]]
        {
            assert!(Line::try_parse_from([&["bench"], invalid].concat()).is_err(), "{invalid:?}");
        }
    }

    #[test]
    fn the_loss_scale_starts_low_unless_it_is_set() {
        let scale = |args: BenchArgs| args.resolve().expect("settings").loss_scale.init_scale;
        assert_eq!(scale(parse(&[])), 4096.0);
        assert_eq!(scale(parse(&["--set", "loss_scale.init_scale=4294967296"])), 4294967296.0);
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("settings.toml");
        std::fs::write(&file, "[loss_scale]\ninit_scale = 1024.0\n").expect("write");
        assert_eq!(scale(parse(&["--config", file.to_str().expect("path")])), 1024.0);
    }
}
