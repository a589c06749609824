//! Differences between the settings of a run and those with which it is resumed.

use std::collections::BTreeMap;

use toml::Value;

use super::Config;

/// Effect of a changed setting on a resumed run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// Does not affect what is learned.
    None,
    /// Changes the length of the run or when it is evaluated, but not its steps.
    Length,
    /// Changes the following steps, which may be intended.
    Steps,
    /// Not allowed: the model has another size, or the samples another order.
    Never,
}

/// Changed setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// `section.name`.
    pub key: String,
    /// Old value.
    pub before: String,
    /// New value.
    pub now: String,
    /// Effect of the change.
    pub effect: Effect,
}

/// Returns the settings that differ.
#[must_use]
pub fn changes(before: &Config, now: &Config) -> Vec<Change> {
    let mut before = settings(before);
    let changed = settings(now).into_iter().filter_map(|(key, now)| {
        let before = before.remove(&key).unwrap_or_else(|| "not set".to_owned());
        let effect = if is_automatic(&key, &[&before, &now]) { Effect::None } else { effect(&key) };
        (before != now).then_some(Change { key, before, now, effect })
    });
    changed.collect()
}

/// Returns true if a value of the setting follows the memory of the machine, and with it the rounding of a run.
fn is_automatic(key: &str, values: &[&String]) -> bool {
    key == "data.micro_batch_tokens" && values.iter().any(|value| *value == "0")
}

/// Returns all settings as `section.name`, with their values as a person would write them: 1e-5 instead of 0.00001.
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

/// Settings that do not affect what is learned, in addition to those of `[distributed]` other than [`REDUCE_DTYPE`].
const NONE: [&str; 11] = [
    "model.init_std",
    "data.verify",
    "data.decode_threads",
    "data.prefetch_steps",
    "train.threads",
    "train.checkpoint_activations",
    "train.log_every",
    "train.save_every",
    "train.keep_checkpoints",
    "train.max_consecutive_skips",
    "seq2seq.decode_batch_size",
];
/// Rounds gradients.
const REDUCE_DTYPE: &str = "distributed.reduce_dtype";
const LENGTH: [&str; 7] = [
    "train.epochs",
    "train.max_steps",
    "train.max_samples",
    "train.target_metric",
    "train.eval_every",
    "train.eval_each_epoch",
    "train.eval_questions",
];
// The batch size is not among these: positions in the order of samples count samples, not steps.
const NEVER: [&str; 6] = ["model.preset", "model.layers", "model.hidden", "model.heads", "data.max_seq_len", "train.seed"];

/// Returns the effect of a change of the setting `key`.
#[must_use]
pub fn effect(key: &str) -> Effect {
    match key {
        REDUCE_DTYPE => Effect::Steps,
        key if NONE.contains(&key) || key.starts_with("distributed.") => Effect::None,
        key if LENGTH.contains(&key) => Effect::Length,
        key if NEVER.contains(&key) => Effect::Never,
        _ => Effect::Steps,
    }
}

#[cfg(test)]
mod tests {
    use super::super::ReduceKind;
    use super::*;

    #[test]
    fn changes_are_listed_with_their_effects() {
        let before = Config::default();
        assert!(changes(&before, &before).is_empty());
        let mut now = before.clone();
        now.optim.lr = 2e-5;
        now.train.max_steps = 9;
        now.train.seed = 1;
        now.distributed.timeout = 5.0;
        now.distributed.reduce_dtype = ReduceKind::Bf16;
        let found: Vec<_> =
            changes(&before, &now).into_iter().map(|change| (change.key, change.before, change.now, change.effect)).collect();
        let expected = [
            ("distributed.reduce_dtype", "\"fp32\"", "\"bf16\"", Effect::Steps),
            ("distributed.timeout", "600.0", "5.0", Effect::None),
            ("optim.lr", "1e-5", "2e-5", Effect::Steps),
            ("train.max_steps", "0", "9", Effect::Length),
            ("train.seed", "1234", "1", Effect::Never),
        ];
        assert_eq!(found, expected.map(|(key, before, now, effect)| (key.into(), before.into(), now.into(), effect)));
    }

    #[test]
    fn automatic_numbers_of_tokens_may_become_others() {
        let effect_of = |before: usize, now: usize| {
            let [before, now] = [before, now].map(|tokens| {
                let mut config = Config::default();
                config.data.micro_batch_tokens = tokens;
                config
            });
            changes(&before, &now).first().map(|change| change.effect)
        };
        assert_eq!([effect_of(0, 0), effect_of(0, 900), effect_of(900, 0)], [None, Some(Effect::None), Some(Effect::None)]);
        assert_eq!(effect_of(900, 600), Some(Effect::Steps));
    }

    #[test]
    fn every_key_with_a_rule_exists() {
        let settings = settings(&Config::default());
        for (keys, expected) in [(&NONE[..], Effect::None), (&LENGTH[..], Effect::Length), (&NEVER[..], Effect::Never)] {
            for &key in keys {
                assert!(settings.contains_key(key), "{key} is not a setting");
                assert_eq!(effect(key), expected, "{key}");
            }
        }
        assert!(settings.keys().any(|key| key.starts_with("distributed.") && effect(key) == Effect::None));
    }
}
