//! Merging of settings: defaults, a file, then single keys.

use std::path::Path;

use serde::de::Error;
use serde::{Deserialize, Deserializer};
use toml::{Table, Value};

use super::{Config, REFERENCE, SettingsError};

/// Builder of [`Config`]: the defaults with overrides on top.
#[derive(Debug)]
pub struct Layers {
    table: Table,
    /// True if the command line sets the preset.
    preset_explicit: bool,
}

impl Default for Layers {
    fn default() -> Self {
        Self { table: REFERENCE.parse().expect("reference.toml is TOML"), preset_explicit: false }
    }
}

impl Layers {
    /// Applies the settings of a file.
    ///
    /// # Errors
    /// [`SettingsError::Syntax`] with the file and the key.
    pub fn file(&mut self, path: &Path) -> Result<(), SettingsError> {
        let origin = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| SettingsError::Syntax { origin: origin.clone(), message: format!("cannot read: {error}") })?;
        let over: Table = text.parse().map_err(|error: toml::de::Error| SettingsError::Syntax {
            origin: origin.clone(),
            message: error.to_string().trim_end().to_owned(),
        })?;
        self.merge(&origin, over)
    }

    fn merge(&mut self, origin: &str, over: Table) -> Result<(), SettingsError> {
        for (section, content) in over {
            let Value::Table(keys) = content else {
                return Err(unknown_key(origin, &section, &self.table));
            };
            for (key, value) in keys {
                self.set(origin, &format!("{section}.{key}"), value)?;
            }
        }
        Ok(())
    }

    /// Sets one key from `section.key=value`, the argument of `--set`. A value that is not valid TOML is a string.
    ///
    /// # Errors
    /// [`SettingsError::Syntax`] if the key does not exist or has another type.
    pub fn assignment(&mut self, text: &str) -> Result<(), SettingsError> {
        let origin = format!("--set {text}");
        let Some((key, value)) = text.split_once('=') else {
            let message = "expected section.key=value, for example optim.lr=2e-5".to_owned();
            return Err(SettingsError::Syntax { origin, message });
        };
        let parsed = format!("v = {}", value.trim()).parse::<Table>().ok().and_then(|mut table| table.remove("v"));
        self.set(&origin, key.trim(), parsed.unwrap_or_else(|| Value::String(value.trim().to_owned())))
    }

    /// Sets one key. `origin` is the name of a file, or of a command line option starting with `--`.
    ///
    /// # Errors
    /// [`SettingsError::Syntax`] if the key does not exist or has another type.
    pub fn set(&mut self, origin: &str, key: &str, value: Value) -> Result<(), SettingsError> {
        let section =
            key.split_once('.').and_then(|(section, name)| Some((self.table.get_mut(section)?.as_table_mut()?, name)));
        let Some((section, name)) = section else { return Err(unknown_key(origin, key, &self.table)) };
        let Some(slot) = section.get_mut(name) else { return Err(unknown_key(origin, key, &self.table)) };
        *slot = match (&*slot, value) {
            // Accept `1` for 1.0.
            (Value::Float(_), Value::Integer(whole)) => Value::Float(whole as f64),
            (old, new) if old.same_type(&new) => new,
            (old, new) => {
                let message = format!("{key} expects a value of type {}, got {new}", old.type_str());
                return Err(SettingsError::Syntax { origin: origin.to_owned(), message });
            }
        };
        self.preset_explicit |= key == "model.preset" && origin.starts_with("--");
        Ok(())
    }

    /// Validates and returns the settings.
    ///
    /// # Errors
    /// [`SettingsError`] if a value is out of range or not allowed.
    pub fn resolve(self) -> Result<Config, SettingsError> {
        let mut config: Config = self.table.try_into().map_err(|error: toml::de::Error| SettingsError::Syntax {
            origin: "settings".to_owned(),
            message: error.to_string().trim().replace('\n', " "),
        })?;
        config.model.preset_explicit = self.preset_explicit;
        config.validate()?;
        Ok(config)
    }
}

/// Returns true if `key`, in the form `section.name`, is a setting.
#[must_use]
pub fn is_setting(key: &str) -> bool {
    let Layers { table, .. } = Layers::default();
    key.split_once('.').is_some_and(|(section, name)| table.get(section).is_some_and(|keys| keys.get(name).is_some()))
}

/// Deserializes stored settings, which another version may have written: missing keys have their defaults.
///
/// # Errors
/// An error of the deserializer if a key or value does not exist.
pub fn stored<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Config, D::Error> {
    let mut layers = Layers::default();
    layers.merge("stored settings", Table::deserialize(deserializer)?).map_err(D::Error::custom)?;
    layers.table.try_into().map_err(D::Error::custom)
}

/// Error for an unknown key, which lists the keys of its section or, if that is unknown too, all sections.
fn unknown_key(origin: &str, key: &str, table: &Table) -> SettingsError {
    let section = key.split('.').next().unwrap_or(key);
    let known = match table.get(section).and_then(Value::as_table) {
        Some(keys) => format!("[{section}] has {}", keys.keys().cloned().collect::<Vec<_>>().join(", ")),
        None => format!("the sections are {}", table.keys().cloned().collect::<Vec<_>>().join(", ")),
    };
    SettingsError::Syntax { origin: origin.to_owned(), message: format!("there is no setting `{key}`; {known}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Precision;

    #[test]
    fn single_keys_override_the_file() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("run.toml");
        std::fs::write(&path, "[optim]\nlr = 1\nmax_grad_norm = 0.5\n").expect("write");
        let mut layers = Layers::default();
        layers.file(&path).expect("file");
        layers.assignment("optim.lr=2e-5").expect("set");
        layers.assignment("train.precision=bf16").expect("set");
        let config = layers.resolve().expect("resolve");
        assert_eq!((config.optim.lr, config.optim.max_grad_norm, config.train.precision), (2e-5, 0.5, Precision::Bf16));
    }

    #[test]
    fn mistakes_are_explained() {
        let message = |text: &str| Layers::default().assignment(text).expect_err("mistake").to_string();
        assert!(message("optim.rate=1").contains("there is no setting `optim.rate`; [optim] has "));
        assert!(message("lr=1").contains("the sections are "));
        assert!(message("optim.lr").contains("expected section.key=value"));
        assert_eq!(message("optim.lr=high"), "--set optim.lr=high: optim.lr expects a value of type float, got \"high\"");
        let mut layers = Layers::default();
        layers.assignment("train.precision=fp8").expect("a string");
        assert!(layers.resolve().expect_err("fp8").to_string().contains("fp8"));
    }
}
