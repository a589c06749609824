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
    /// Published fine-tuning on BoolQ of SuperGLUE
    #[value(name = "superglue/boolq")]
    SuperglueBoolq,
    /// Published fine-tuning of the model with 10 billion parameters on BoolQ of SuperGLUE
    #[value(name = "superglue/boolq-10b")]
    SuperglueBoolq10B,
    /// Published fine-tuning on CB of SuperGLUE
    #[value(name = "superglue/cb")]
    SuperglueCb,
    /// Published fine-tuning of the model with 10 billion parameters on CB of SuperGLUE
    #[value(name = "superglue/cb-10b")]
    SuperglueCb10B,
    /// Published fine-tuning on COPA of SuperGLUE
    #[value(name = "superglue/copa")]
    SuperglueCopa,
    /// Published fine-tuning of the model with 10 billion parameters on COPA of SuperGLUE
    #[value(name = "superglue/copa-10b")]
    SuperglueCopa10B,
    /// Published fine-tuning on MultiRC of SuperGLUE
    #[value(name = "superglue/multirc")]
    SuperglueMultirc,
    /// Published fine-tuning of the model with 10 billion parameters on MultiRC of SuperGLUE
    #[value(name = "superglue/multirc-10b")]
    SuperglueMultirc10B,
    /// Published fine-tuning on ReCoRD of SuperGLUE
    #[value(name = "superglue/record")]
    SuperglueRecord,
    /// Published fine-tuning of the model with 10 billion parameters on ReCoRD of SuperGLUE
    #[value(name = "superglue/record-10b")]
    SuperglueRecord10B,
    /// Published fine-tuning on RTE of SuperGLUE
    #[value(name = "superglue/rte")]
    SuperglueRte,
    /// Published fine-tuning of the model with 10 billion parameters on RTE of SuperGLUE
    #[value(name = "superglue/rte-10b")]
    SuperglueRte10B,
    /// Published fine-tuning on WiC of SuperGLUE
    #[value(name = "superglue/wic")]
    SuperglueWic,
    /// Published fine-tuning of the model with 10 billion parameters on WiC of SuperGLUE
    #[value(name = "superglue/wic-10b")]
    SuperglueWic10B,
    /// Published fine-tuning on WSC of SuperGLUE
    #[value(name = "superglue/wsc")]
    SuperglueWsc,
    /// Published fine-tuning of the model with 10 billion parameters on WSC of SuperGLUE
    #[value(name = "superglue/wsc-10b")]
    SuperglueWsc10B,
    /// Published fine-tuning on AFQMC of CLUE, in Chinese
    #[value(name = "clue/afqmc")]
    ClueAfqmc,
    /// Published fine-tuning on CLUEWSC of CLUE, in Chinese
    #[value(name = "clue/cluewsc")]
    ClueCluewsc,
    /// Published fine-tuning on TNews of CLUE, in Chinese
    #[value(name = "clue/tnews")]
    ClueTnews,
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
            Self::SuperglueBoolq => "superglue/boolq",
            Self::SuperglueBoolq10B => "superglue/boolq-10b",
            Self::SuperglueCb => "superglue/cb",
            Self::SuperglueCb10B => "superglue/cb-10b",
            Self::SuperglueCopa => "superglue/copa",
            Self::SuperglueCopa10B => "superglue/copa-10b",
            Self::SuperglueMultirc => "superglue/multirc",
            Self::SuperglueMultirc10B => "superglue/multirc-10b",
            Self::SuperglueRecord => "superglue/record",
            Self::SuperglueRecord10B => "superglue/record-10b",
            Self::SuperglueRte => "superglue/rte",
            Self::SuperglueRte10B => "superglue/rte-10b",
            Self::SuperglueWic => "superglue/wic",
            Self::SuperglueWic10B => "superglue/wic-10b",
            Self::SuperglueWsc => "superglue/wsc",
            Self::SuperglueWsc10B => "superglue/wsc-10b",
            Self::ClueAfqmc => "clue/afqmc",
            Self::ClueCluewsc => "clue/cluewsc",
            Self::ClueTnews => "clue/tnews",
        }
    }

    /// The published recipe of a task of cloze questions, by its name in manifests.
    pub fn of_task(task: &str) -> Option<Self> {
        // Both forms of WSC have the same.
        let task = task.strip_suffix("-candidates").unwrap_or(task);
        let is_published = task == "record" || ["superglue/", "clue/"].iter().any(|suite| task.starts_with(suite));
        let of_task = |recipe: &&Self| is_published && recipe.name() == task;
        Self::value_variants().iter().find(of_task).copied()
    }

    /// Returns false for the recipe of a task by name if that is another task of cloze questions.
    pub fn suits(self, task: &str) -> bool {
        let name = self.name().strip_suffix("-10b").unwrap_or(self.name());
        let task = if task == "record" { "superglue/record" } else { task };
        !name.contains('/') || name == task.strip_suffix("-candidates").unwrap_or(task)
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
            Self::SuperglueBoolq => include_str!("recipes/superglue/boolq.toml"),
            Self::SuperglueBoolq10B => include_str!("recipes/superglue/boolq-10b.toml"),
            Self::SuperglueCb => include_str!("recipes/superglue/cb.toml"),
            Self::SuperglueCb10B => include_str!("recipes/superglue/cb-10b.toml"),
            Self::SuperglueCopa => include_str!("recipes/superglue/copa.toml"),
            Self::SuperglueCopa10B => include_str!("recipes/superglue/copa-10b.toml"),
            Self::SuperglueMultirc => include_str!("recipes/superglue/multirc.toml"),
            Self::SuperglueMultirc10B => include_str!("recipes/superglue/multirc-10b.toml"),
            Self::SuperglueRecord => include_str!("recipes/superglue/record.toml"),
            Self::SuperglueRecord10B => include_str!("recipes/superglue/record-10b.toml"),
            Self::SuperglueRte => include_str!("recipes/superglue/rte.toml"),
            Self::SuperglueRte10B => include_str!("recipes/superglue/rte-10b.toml"),
            Self::SuperglueWic => include_str!("recipes/superglue/wic.toml"),
            Self::SuperglueWic10B => include_str!("recipes/superglue/wic-10b.toml"),
            Self::SuperglueWsc => include_str!("recipes/superglue/wsc.toml"),
            Self::SuperglueWsc10B => include_str!("recipes/superglue/wsc-10b.toml"),
            Self::ClueAfqmc => include_str!("recipes/clue/afqmc.toml"),
            Self::ClueCluewsc => include_str!("recipes/clue/cluewsc.toml"),
            Self::ClueTnews => include_str!("recipes/clue/tnews.toml"),
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
    fn recipes_of_tasks_by_name_suit_these() {
        for (recipe, task, suits) in [
            (Recipe::SuperglueRte10B, "superglue/rte", true),
            (Recipe::SuperglueWsc, "superglue/wsc-candidates", true),
            (Recipe::SuperglueRecord, "record", true),
            (Recipe::SuperglueRte, "record", false),
            (Recipe::ClueAfqmc, "superglue/rte", false),
            (Recipe::Finetune, "superglue/rte", true),
        ] {
            assert_eq!(recipe.suits(task), suits, "{recipe} for {task}");
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
    fn the_recipes_of_superglue_and_clue_have_the_published_lengths() {
        let of = |recipe| {
            let Config { optim, data, train, .. } = config(recipe);
            assert_eq!((optim.warmup, optim.decay_steps, optim.min_lr_ratio), (0.1, 0, 0.1), "{recipe}");
            assert_eq!((train.seed, train.eval_each_epoch, train.eval_every), (1234, true, 0), "{recipe}");
            let is_large = (optim.lr, optim.weight_decay, optim.beta2) == (1e-5, 0.1, 0.999);
            assert!(
                is_large || (optim.lr, optim.weight_decay, optim.beta2, data.batch_size) == (5e-6, 0.01, 0.95, 64),
                "{recipe}"
            );
            (data.max_seq_len, is_large.then_some(data.batch_size), train.epochs)
        };
        for (large, larger, tokens, batch, epochs) in [
            (Recipe::SuperglueBoolq, Recipe::SuperglueBoolq10B, 256, 16, [20, 24]),
            (Recipe::SuperglueCb, Recipe::SuperglueCb10B, 256, 16, [50, 100]),
            (Recipe::SuperglueCopa, Recipe::SuperglueCopa10B, 256, 16, [50, 100]),
            (Recipe::SuperglueMultirc, Recipe::SuperglueMultirc10B, 512, 64, [15, 12]),
            (Recipe::SuperglueRecord, Recipe::SuperglueRecord10B, 512, 64, [5, 3]),
            (Recipe::SuperglueRte, Recipe::SuperglueRte10B, 256, 16, [50, 50]),
            (Recipe::SuperglueWic, Recipe::SuperglueWic10B, 256, 16, [30, 40]),
            (Recipe::SuperglueWsc, Recipe::SuperglueWsc10B, 128, 16, [50, 100]),
        ] {
            assert_eq!(of(large), (tokens, Some(batch), epochs[0]), "{large}");
            assert_eq!(of(larger), (tokens, None, epochs[1]), "{larger}");
            assert_eq!(Recipe::of_task(large.name()), Some(large));
        }
        assert_eq!([of(Recipe::ClueAfqmc), of(Recipe::ClueCluewsc), of(Recipe::ClueTnews)], [(256, Some(16), 10); 3]);
        assert_eq!(Recipe::of_task("clue/tnews"), Some(Recipe::ClueTnews));
    }

    #[test]
    fn the_defaults_are_those_of_fine_tuning() {
        assert_eq!(config(Recipe::Finetune), Config::default());
    }
}
