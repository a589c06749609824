//! What a run that goes on may do otherwise than before.

use std::collections::BTreeMap;

use toml::Value;

use super::Config;

/// What a changed setting does to a run that goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// Nothing that is learned depends on it.
    None,
    /// How long the run goes on and when it is evaluated, but not what its steps do.
    Length,
    /// What steps do from here on; sound if it is meant.
    Steps,
    /// The run so far was another one: the model has other sizes, or the order of samples is another.
    Never,
}

/// A setting that is not what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// `section.name`.
    pub key: String,
    /// What it was.
    pub before: String,
    /// What it is now.
    pub now: String,
    /// What that does.
    pub effect: Effect,
}

/// What differs between two runs' settings.
#[must_use]
pub fn changes(before: &Config, now: &Config) -> Vec<Change> {
    let mut before = settings(before);
    let changed = settings(now).into_iter().filter_map(|(key, now)| {
        let before = before.remove(&key).unwrap_or_else(|| "not set".to_owned());
        let effect = effect(&key);
        (before != now).then_some(Change { key, before, now, effect })
    });
    changed.collect()
}

/// All settings: `section.name`, and the value as a person would write it, 1e-5 and not 0.00001.
pub(crate) fn settings(config: &Config) -> BTreeMap<String, String> {
    let table = Value::try_from(config).unwrap_or(Value::Boolean(false));
    let mut settings = BTreeMap::new();
    for (section, keys) in table.as_table().into_iter().flatten() {
        for (name, value) in keys.as_table().into_iter().flatten() {
            let shown = match value {
                Value::Float(number) => format!("{number:?}"),
                other => other.to_string(),
            };
            settings.insert(format!("{section}.{name}"), shown);
        }
    }
    settings
}

/// What a change of this setting does.
#[must_use]
pub fn effect(key: &str) -> Effect {
    const NONE: [&str; 8] = [
        "model.init_std",
        "data.decode_threads",
        "data.prefetch_steps",
        "train.threads",
        "train.log_every",
        "train.save_every",
        "train.keep_checkpoints",
        "train.max_consecutive_skips",
    ];
    const LENGTH: [&str; 6] = [
        "train.epochs",
        "train.max_steps",
        "train.max_samples",
        "train.target_metric",
        "train.eval_every",
        "train.eval_questions",
    ];
    // Positions in the order of samples count samples, so steps may have another number of them.
    const NEVER: [&str; 6] = ["model.preset", "model.layers", "model.hidden", "model.heads", "data.max_seq_len", "train.seed"];
    match key {
        key if NONE.contains(&key) || key.starts_with("distributed.") => Effect::None,
        key if LENGTH.contains(&key) => Effect::Length,
        key if NEVER.contains(&key) => Effect::Never,
        _ => Effect::Steps,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_named_with_what_they_do() {
        let before = Config::default();
        assert!(changes(&before, &before).is_empty());
        let mut now = before.clone();
        now.optim.lr = 2e-5;
        now.train.max_steps = 9;
        now.train.seed = 1;
        now.distributed.timeout = 5.0;
        let found: Vec<_> =
            changes(&before, &now).into_iter().map(|change| (change.key, change.before, change.now, change.effect)).collect();
        let expected = [
            ("distributed.timeout", "600.0", "5.0", Effect::None),
            ("optim.lr", "1e-5", "2e-5", Effect::Steps),
            ("train.max_steps", "0", "9", Effect::Length),
            ("train.seed", "1234", "1", Effect::Never),
        ];
        assert_eq!(found, expected.map(|(key, before, now, effect)| (key.into(), before.into(), now.into(), effect)));
    }

    #[test]
    fn every_key_that_has_a_rule_exists() {
        let table = Value::try_from(Config::default()).expect("a table");
        let exists = |key: &str| {
            let (section, name) = key.split_once('.').expect("a section");
            table.get(section).is_some_and(|keys| keys.get(name).is_some())
        };
        for key in ["train.seed", "data.max_seq_len", "model.heads", "train.eval_questions", "train.save_every"] {
            assert!(exists(key) && effect(key) != Effect::Steps, "{key}");
        }
    }
}
