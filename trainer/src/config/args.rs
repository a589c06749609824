//! Command line arguments that set settings.

use std::path::PathBuf;

use clap::Args;

use super::overrides::Layers;
use super::{Config, SettingsError};
use crate::model::Preset;

/// Settings: defaults, then the file, then flags, then each --set.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Settings")]
pub struct SettingArgs {
    /// Model size; initial weights must have this size
    #[arg(long)]
    pub preset: Option<Preset>,
    /// File of settings; `glm-trainer config` prints one with all defaults
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Set one setting, for example optim.lr=2e-5; can be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

impl SettingArgs {
    /// Merges the defaults, the file, flags and assignments. `flags` are settings given by other arguments.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn resolve(&self, flags: &[(&str, Option<u64>)]) -> Result<Config, SettingsError> {
        self.resolve_over(&[], flags)
    }

    /// As [`Self::resolve`], with other defaults, each in the form `section.key=value`.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn resolve_over(&self, defaults: &[&str], flags: &[(&str, Option<u64>)]) -> Result<Config, SettingsError> {
        let mut layers = Layers::default();
        defaults.iter().try_for_each(|text| layers.assignment(text))?;
        if let Some(path) = &self.config {
            layers.file(path)?;
        }
        if let Some(preset) = self.preset {
            layers.set("--preset", "model.preset", preset.name.into())?;
        }
        for (key, value) in flags {
            if let Some(value) = value {
                layers.assignment(&format!("{key}={value}"))?;
            }
        }
        self.set.iter().try_for_each(|text| layers.assignment(text))?;
        layers.resolve()
    }
}

/// Arguments of `config`.
#[derive(Debug, Clone, Copy, Args)]
pub struct ConfigArgs {
    /// Print a Markdown page with one table per section instead
    #[arg(long)]
    pub markdown: bool,
}
