//! Command line arguments that set settings.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::LazyLock;

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use clap::{Arg, Args, Command};

use super::overrides::Layers;
use super::recipe::Recipe;
use super::{Config, REFERENCE, SettingsError, page};
use crate::model::Preset;

/// Settings: defaults, then the file, then flags, then each --set.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Settings")]
pub struct SettingArgs {
    /// Model size; initial weights must have this size
    #[arg(long, ignore_case = true)]
    pub preset: Option<Preset>,
    /// File of settings; `glm-trainer config` prints one with all defaults
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Set one setting, for example optim.lr=2e-5; can be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = KeyParser::assignments(), hide_possible_values = true)]
    pub set: Vec<String>,
}

/// Parser of setting names on the command line. Any text is accepted, so that errors can suggest a name; shells complete the names.
#[derive(Debug, Clone, Copy)]
pub struct KeyParser {
    /// Number of bytes of `section.key=` that are left out at the end.
    left_out: usize,
}

impl KeyParser {
    /// Completes `section.key=`.
    pub fn assignments() -> Self {
        Self { left_out: 0 }
    }

    /// Completes `section.key`.
    pub fn keys() -> Self {
        Self { left_out: 1 }
    }
}

impl TypedValueParser for KeyParser {
    type Value = String;

    fn parse_ref(&self, command: &Command, argument: Option<&Arg>, value: &OsStr) -> Result<String, clap::Error> {
        StringValueParser::new().parse_ref(command, argument, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(NAMES.iter().map(|name| PossibleValue::new(&name[..name.len() - self.left_out]))))
    }
}

/// All settings in the form `section.key=`.
static NAMES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let settings = page::sections().into_iter().flat_map(|section| section.settings);
    settings.map(|page::Setting { section, key, .. }| format!("{section}.{key}=")).collect()
});

/// Setting given by another argument: its name on the command line, the key, and the value.
pub type Flag<'a> = (&'a str, &'a str, Option<String>);

impl SettingArgs {
    /// Merges the defaults, the file, flags and assignments. `flags` are settings given by other arguments.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn resolve(&self, flags: &[Flag<'_>]) -> Result<Config, SettingsError> {
        self.resolve_over(Layers::default(), flags)
    }

    /// As [`Self::resolve`], with other defaults.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn resolve_over(&self, mut layers: Layers, flags: &[Flag<'_>]) -> Result<Config, SettingsError> {
        if let Some(path) = &self.config {
            layers.file(path)?;
        }
        if let Some(preset) = self.preset {
            layers.set("--preset", "model.preset", preset.name.into())?;
        }
        for (flag, key, value) in flags {
            if let Some(value) = value {
                layers.text(flag, key, value)?;
            }
        }
        self.set.iter().try_for_each(|text| layers.assignment(text))?;
        layers.resolve()
    }
}

/// Arguments of `config`.
#[derive(Debug, Clone, Copy, Args)]
pub struct ConfigArgs {
    /// Print a recipe instead: the settings in which it differs from other runs
    #[arg(long, value_name = "NAME", conflicts_with = "markdown")]
    pub recipe: Option<Recipe>,
    /// Print a Markdown page with one table per section instead
    #[arg(long)]
    pub markdown: bool,
}

impl ConfigArgs {
    /// Returns the text to print.
    pub fn text(&self) -> String {
        match self.recipe {
            Some(recipe) => recipe.text().to_owned(),
            None if self.markdown => page::markdown(),
            None => REFERENCE.to_owned(),
        }
    }
}
