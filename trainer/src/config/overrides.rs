//! Merging of settings: defaults, a file, then single keys.

use std::path::Path;

use serde::de::Error;
use serde::{Deserialize, Deserializer};
use toml::{Table, Value};

use super::recipe::Recipe;
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
    /// Returns the settings of a run as a base for others.
    pub fn over(config: &Config) -> Self {
        let mut layers = Self::default();
        if let Ok(table) = Table::try_from(config) {
            layers.table = table;
        }
        layers
    }

    /// Applies the settings of a recipe.
    ///
    /// # Errors
    /// [`SettingsError`] if the recipe is invalid, which a test rules out.
    pub fn recipe(&mut self, recipe: Recipe) -> Result<(), SettingsError> {
        let origin = format!("recipe {recipe}");
        self.merge(&origin, parse(&origin, recipe.text())?)
    }

    /// Applies the settings of a file.
    ///
    /// # Errors
    /// [`SettingsError`] with the file and the key.
    pub fn file(&mut self, path: &Path) -> Result<(), SettingsError> {
        let origin = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| SettingsError::Syntax { origin: origin.clone(), message: format!("cannot read: {error}") })?;
        self.merge(&origin, parse(&origin, &text)?)
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

    /// Sets one key from `section.key=value`, the argument of `--set`.
    ///
    /// # Errors
    /// [`SettingsError`] if the key does not exist or does not allow the value.
    pub fn assignment(&mut self, text: &str) -> Result<(), SettingsError> {
        let origin = format!("--set {text}");
        let Some((key, value)) = text.split_once('=') else {
            let message = "expected section.key=value, for example optim.lr=2e-5".to_owned();
            return Err(SettingsError::Syntax { origin, message });
        };
        self.text(&origin, key.trim(), value)
    }

    /// Sets one key from text. A value that is not valid TOML is a string.
    ///
    /// # Errors
    /// [`SettingsError`] if the key does not exist or does not allow the value.
    pub fn text(&mut self, origin: &str, key: &str, value: &str) -> Result<(), SettingsError> {
        let parsed = format!("v = {}", value.trim()).parse::<Table>().ok().and_then(|mut table| table.remove("v"));
        self.set(origin, key, parsed.unwrap_or_else(|| Value::String(value.trim().to_owned())))
    }

    /// Sets one key. `origin` is the name of a file, or of a command line option starting with `--`.
    ///
    /// # Errors
    /// [`SettingsError`] if the key does not exist or does not allow the value.
    pub fn set(&mut self, origin: &str, key: &str, value: Value) -> Result<(), SettingsError> {
        let section =
            key.split_once('.').and_then(|(section, name)| Some((self.table.get_mut(section)?.as_table_mut()?, name)));
        let slot = section.and_then(|(section, name)| section.get_mut(name));
        let Some(slot) = slot else { return Err(unknown_key(origin, key, &self.table)) };
        let wrong = |message: String| Err(SettingsError::Syntax { origin: origin.to_owned(), message });
        match (&*slot, value) {
            // Accept `1` for 1.0.
            (Value::Float(_), Value::Integer(whole)) => *slot = Value::Float(whole as f64),
            (Value::Integer(_), Value::Integer(number)) if number < 0 => {
                return wrong(format!("{key} must be at least 0, not {number}"));
            }
            (Value::String(_), new @ Value::String(_)) => {
                let old = std::mem::replace(slot, new);
                // The names that are allowed are known to the types of the settings.
                if let Err(error) = Config::deserialize(self.table.clone()) {
                    let message = format!("{key} {}", allowed(error.message()));
                    // Leaves the settings as they were.
                    self.set(origin, key, old)?;
                    return wrong(message);
                }
            }
            (old, new) if old.same_type(&new) => *slot = new,
            (old, new) => {
                return wrong(format!("{key} expects {}, not {new}", kind(old)));
            }
        }
        self.preset_explicit |= key == "model.preset" && origin.starts_with("--");
        Ok(())
    }

    /// Validates and returns the settings.
    ///
    /// # Errors
    /// [`SettingsError`] if a value is out of range.
    pub fn resolve(self) -> Result<Config, SettingsError> {
        let mut config: Config = self.table.try_into().map_err(|error: toml::de::Error| SettingsError::Syntax {
            origin: "settings".to_owned(),
            message: error.message().to_owned(),
        })?;
        config.model.preset_explicit = self.preset_explicit;
        config.validate()?;
        Ok(config)
    }
}

/// Parses a file of settings.
fn parse(origin: &str, text: &str) -> Result<Table, SettingsError> {
    text.parse().map_err(|error: toml::de::Error| {
        let at = error.span().map_or(0, |span| span.start);
        let number = text.bytes().take(at).filter(|&byte| byte == b'\n').count();
        let line = text.lines().nth(number).unwrap_or_default().trim();
        let value = line.split_once('=').map(|(_, value)| value.split('#').next().unwrap_or_default().trim());
        // The parser's own message takes `fast` for the beginning of `false`.
        let message = match value.filter(|value| value.starts_with(|first: char| first.is_ascii_alphabetic())) {
            Some(value) => format!("`{value}` is neither a number nor true or false, and text must be in quotes"),
            None => error.message().to_owned(),
        };
        SettingsError::Syntax { origin: format!("{origin}, line {}", number + 1), message: format!("`{line}`: {message}") }
    })
}

/// Rewrites the deserializer's "unknown variant `a`, expected `b` or `c`".
fn allowed(message: &str) -> String {
    let names = message.split_once("expected ").map_or(message, |(_, names)| names);
    let names = names.trim_start_matches("one of ").lines().next().unwrap_or_default().replace('`', "");
    match names.rsplit_once(", ") {
        Some((first, last)) => format!("must be {first} or {last}"),
        None => format!("must be {names}"),
    }
}

/// Type of a setting in words.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number",
        Value::Boolean(_) => "true or false",
        _ => "text",
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

/// Names in other programs, and the settings that they correspond to.
const FOREIGN: [(&str, &str); 10] = [
    ("learning_rate", "optim.lr"),
    ("clip_grad", "optim.max_grad_norm"),
    ("warmup_ratio", "optim.warmup"),
    ("gradient_accumulation_steps", "optim.grad_accumulation"),
    ("train_batch_size", "data.batch_size"),
    ("per_device_train_batch_size", "data.batch_size"),
    ("max_length", "data.max_seq_len"),
    ("num_epochs", "train.epochs"),
    ("num_train_epochs", "train.epochs"),
    ("eval_steps", "train.eval_every"),
];
/// Similarity from which a name is taken for a misspelling of another, as in suggestions for options.
const SIMILAR: f64 = 0.8;

/// Error for an unknown key, which suggests a setting, or lists the keys of its section or all sections.
fn unknown_key(origin: &str, key: &str, table: &Table) -> SettingsError {
    let (section, name) = key.split_once('.').unwrap_or(("", key));
    let known = match (suggestion(name, table), table.get(section).or_else(|| table.get(key)).and_then(Value::as_table)) {
        (Some(suggestion), _) => format!("did you mean {suggestion}?"),
        (None, Some(keys)) => {
            let section = if section.is_empty() { key } else { section };
            format!("[{section}] has {}", keys.keys().cloned().collect::<Vec<_>>().join(", "))
        }
        (None, None) => format!("the sections are {}", table.keys().cloned().collect::<Vec<_>>().join(", ")),
    };
    SettingsError::Syntax { origin: origin.to_owned(), message: format!("there is no setting `{key}`; {known}") }
}

/// Returns the setting that was most likely meant by the name of a key.
fn suggestion(name: &str, table: &Table) -> Option<String> {
    if let Some((_, setting)) = FOREIGN.iter().find(|(foreign, _)| *foreign == name) {
        return Some((*setting).to_owned());
    }
    let sections = table.iter().filter_map(|(section, keys)| Some((section, keys.as_table()?)));
    let all = sections.flat_map(|(section, keys)| keys.keys().map(move |key| (strsim::jaro(name, key), section, key)));
    let (similarity, section, key) = all.max_by(|(one, ..), (other, ..)| one.total_cmp(other))?;
    (similarity >= SIMILAR).then(|| format!("{section}.{key}"))
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

    fn message(text: &str) -> String {
        Layers::default().assignment(text).expect_err("mistake").to_string()
    }

    #[test]
    fn mistakes_are_explained() {
        assert!(message("optim.rate=1").contains("there is no setting `optim.rate`; [optim] has "));
        assert!(message("optim=1").contains("there is no setting `optim`; [optim] has "));
        assert!(message("a.b=1").contains("the sections are "));
        assert!(message("optim.lr").contains("expected section.key=value"));
        assert_eq!(message("optim.lr=high"), "--set optim.lr=high: optim.lr expects a number, not \"high\"");
        assert_eq!(
            message("train.max_steps=1.5"),
            "--set train.max_steps=1.5: train.max_steps expects a whole number, not 1.5"
        );
        assert_eq!(message("train.max_steps=-1"), "--set train.max_steps=-1: train.max_steps must be at least 0, not -1");
        assert_eq!(
            message("train.precision=fp8"),
            "--set train.precision=fp8: train.precision must be auto, fp16, bf16 or fp32"
        );
        let presets = "large, base, tiny, doc, 410m, 515m, roberta-large, large-chinese, 2b, 10b or 10b-chinese";
        assert_eq!(message("model.preset=huge"), format!("--set model.preset=huge: model.preset must be {presets}"));
        assert_eq!(message("data.truncation=x"), "--set data.truncation=x: data.truncation must be choice or question");
    }

    #[test]
    fn a_refused_value_leaves_the_settings_unchanged() {
        let mut layers = Layers::default();
        layers.assignment("train.precision=fp8").expect_err("fp8");
        assert_eq!(layers.resolve().expect("settings"), Config::default());
    }

    #[test]
    fn common_names_suggest_a_setting() {
        for (text, suggestion) in [
            ("lr=1e-3", "did you mean optim.lr?"),
            ("learning_rate=1e-3", "did you mean optim.lr?"),
            ("train.batch_size=8", "did you mean data.batch_size?"),
            ("train.epoch=8", "did you mean train.epochs?"),
            ("num_train_epochs=8", "did you mean train.epochs?"),
        ] {
            assert!(message(text).ends_with(suggestion), "{}", message(text));
        }
    }

    #[test]
    fn mistakes_in_a_file_have_a_line() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("run.toml");
        let message = |text: &str| {
            std::fs::write(&path, text).expect("write");
            let message = Layers::default().file(&path).expect_err("mistake").to_string();
            message.strip_prefix(&path.display().to_string()).expect("the file").to_owned()
        };
        assert_eq!(
            message("[optim]\nlr = fast  # really\n"),
            ", line 2: `lr = fast  # really`: `fast` is neither a number nor true or false, and text must be in quotes"
        );
        assert!(message("[optim]\n\nlr 1\n").starts_with(", line 3: `lr 1`: "));
        assert_eq!(message("[train]\nseed = -3\n"), ": train.seed must be at least 0, not -3");
    }
}
