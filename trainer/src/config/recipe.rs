//! Recipes: named sets of settings for a kind of run.

use std::fmt;

use clap::ValueEnum;

/// Named set of settings, which override the defaults and are overridden by a file, flags and `--set`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Recipe {
    /// Published weights on ReCoRD, as published
    Record,
    /// Pretrained weights on other data
    Finetune,
    /// Random weights
    Scratch,
    /// Blank infilling of documents
    Pretrain,
    /// Published pretraining of GLM-base
    PretrainBase,
    /// Published pretraining of GLM-large
    PretrainLarge,
    /// Published pretraining of GLM-large for Chinese
    PretrainChinese,
    /// Pretraining of GLM with 515 million parameters
    #[value(name = "pretrain-515m")]
    Pretrain515M,
    /// Pretrained weights on pairs of a source and a target
    Seq2seq,
    /// Published fine-tuning on CNN/DailyMail, tokenized text
    CnnDm,
    /// Published fine-tuning on CNN/DailyMail, plain text
    CnnDmOriginal,
    /// Published fine-tuning on XSum
    Xsum,
    /// Published fine-tuning on Gigaword
    Gigaword,
    /// Published fine-tuning that asks questions of SQuAD or answers those of CMRC
    SquadGeneration,
    /// Published fine-tuning that answers the questions of SQuAD
    Squad,
}

impl Recipe {
    /// Name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Record => "record",
            Self::Finetune => "finetune",
            Self::Scratch => "scratch",
            Self::Pretrain => "pretrain",
            Self::PretrainBase => "pretrain-base",
            Self::PretrainLarge => "pretrain-large",
            Self::PretrainChinese => "pretrain-chinese",
            Self::Pretrain515M => "pretrain-515m",
            Self::Seq2seq => "seq2seq",
            Self::CnnDm => "cnn-dm",
            Self::CnnDmOriginal => "cnn-dm-original",
            Self::Xsum => "xsum",
            Self::Gigaword => "gigaword",
            Self::SquadGeneration => "squad-generation",
            Self::Squad => "squad",
        }
    }

    /// Settings in TOML, as for `--config`.
    pub fn text(self) -> &'static str {
        match self {
            Self::Record => include_str!("recipes/record.toml"),
            Self::Finetune => include_str!("recipes/finetune.toml"),
            Self::Scratch => include_str!("recipes/scratch.toml"),
            Self::Pretrain => include_str!("recipes/pretrain.toml"),
            Self::PretrainBase => include_str!("recipes/pretrain-base.toml"),
            Self::PretrainLarge => include_str!("recipes/pretrain-large.toml"),
            Self::PretrainChinese => include_str!("recipes/pretrain-chinese.toml"),
            Self::Pretrain515M => include_str!("recipes/pretrain-515m.toml"),
            Self::Seq2seq => include_str!("recipes/seq2seq.toml"),
            Self::CnnDm => include_str!("recipes/cnn-dm.toml"),
            Self::CnnDmOriginal => include_str!("recipes/cnn-dm-original.toml"),
            Self::Xsum => include_str!("recipes/xsum.toml"),
            Self::Gigaword => include_str!("recipes/gigaword.toml"),
            Self::SquadGeneration => include_str!("recipes/squad-generation.toml"),
            Self::Squad => include_str!("recipes/squad.toml"),
        }
    }
}

impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::config::overrides::Layers;

    fn config(recipe: Recipe) -> Config {
        let mut layers = Layers::default();
        layers.recipe(recipe).expect("settings");
        layers.resolve().expect("in range")
    }

    #[test]
    fn recipes_have_valid_settings_and_a_title() {
        for &recipe in Recipe::value_variants() {
            config(recipe);
            assert!(recipe.text().starts_with(&format!("# Recipe {recipe}: ")));
            assert_eq!(Recipe::from_str(recipe.name(), false), Ok(recipe));
        }
    }

    #[test]
    fn only_the_published_recipe_has_a_fixed_schedule_and_a_target() {
        let of = |recipe| {
            let Config { optim, train, .. } = config(recipe);
            (optim.decay_steps, train.target_metric, train.eval_every)
        };
        assert_eq!(of(Recipe::Record), (4338, 0.81, 19200));
        assert_eq!([of(Recipe::Finetune), of(Recipe::Scratch)], [(0, 0.0, 0); 2]);
    }

    #[test]
    fn the_defaults_are_those_of_fine_tuning() {
        assert_eq!(config(Recipe::Finetune), Config::default());
    }
}
