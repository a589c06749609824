//! Arguments of `glm-trainer bench`.

use std::path::PathBuf;

use clap::Args;

use crate::config::args::SettingArgs;
use crate::config::{Config, SettingsError};
use crate::device::DeviceChoice;

/// Arguments of `bench`.
#[derive(Debug, Clone, Args)]
pub struct BenchArgs {
    /// Data set [default: synthetic questions with the lengths of ReCoRD]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Device: auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
    /// Intra-op threads on a CPU (train.threads)
    #[arg(long, value_name = "N")]
    pub threads: Option<u64>,
    /// Precision: fp32, bf16, fp16 or auto (train.precision)
    #[arg(long)]
    pub precision: Option<String>,
    /// Number of warm-up steps, which are not timed
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub warmup: usize,
    /// Number of timed steps
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    pub steps: usize,
    /// Report the time per kind of operation, on a CPU
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

impl BenchArgs {
    /// Resolves the settings.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn resolve(&self) -> Result<Config, SettingsError> {
        let mut settings = self.settings.clone();
        if let Some(precision) = &self.precision {
            settings.set.insert(0, format!("train.precision={precision}"));
        }
        let epochs = self.data_only.then_some(1);
        settings.resolve(&[("train.threads", self.threads), ("train.epochs", epochs)])
    }
}
