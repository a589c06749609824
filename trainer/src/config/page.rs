//! Documentation page of the settings, generated from [`REFERENCE`].

use std::fmt::Write;

use clap::ValueEnum;
use toml::{Table, Value};

use super::REFERENCE;
use super::recipe::Recipe;

/// Text above the tables.
const HEAD: &str = "\
# Settings of glm-trainer

All settings with their defaults. This page is generated from the text that `glm-trainer config` prints and from the recipes, and a test
checks that it is up to date. To regenerate it:

    glm-trainer config --markdown > docs/configuration.md

Sources of settings, in order of increasing precedence: the defaults, the [recipe](#recipes), the file given with `--config FILE`, flags
such as `--preset` and `--lr`, and each `--set section.key=value`:

    glm-trainer config > my.toml
    glm-trainer run --data DIR --config my.toml --set optim.lr=2e-5

A file needs only the settings that it changes. Unknown settings and values out of range are errors before anything starts.

A run writes its settings to `RUNDIR/config.toml`, with the numbers that `optim.decay_steps = 0`, `train.eval_every = 0` and
`data.micro_batch_tokens = 0` stand for. `run --resume --out RUNDIR` starts from the settings, the recipe included, with which the run was
started, and only needs those that change. Limits such as `--epochs` may change; other settings that change what is learned must be the
same, unless they are named by `--allow KEY`. The learning rate schedule belongs to the latter: a run that becomes longer continues at
`optim.min_lr_ratio`. To stretch the schedule over the new length, set it to 0 again:

    glm-trainer run --resume --out RUNDIR --epochs 8 --allow optim.decay_steps --set optim.decay_steps=0
";

/// Text above the recipes.
const RECIPES: &str = "
## recipes

`run` chooses a recipe, names it in its log, and `--recipe NAME` chooses another one: for published weights that of the data set's task,
`record` or one of [SuperGLUE or CLUE](superglue.md), for random weights `scratch`, or `pretrain` if the data set holds documents, `seq2seq` for weights on pairs, and
`finetune` in all other cases. The recipes `pretrain-...` are never chosen: they are the published ones, for clusters, with a batch of
1,024 as in the paper; nor are `cnn-dm` and the others of published [data sets of pairs](seq2seq.md).
";

/// Setting.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// Name of its section.
    pub section: String,
    /// Key in the section.
    pub key: String,
    /// Default value.
    pub default: Value,
    /// Default value as written in the file.
    pub written: String,
    /// Description, in one line.
    pub description: String,
}

/// Section of settings.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Section {
    /// Name.
    pub name: String,
    /// Description.
    pub description: String,
    /// Settings in order.
    pub settings: Vec<Setting>,
}

/// Parses the sections of [`REFERENCE`].
pub fn sections() -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    for line in REFERENCE.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            sections.push(Section { name: name.to_owned(), ..Section::default() });
            continue;
        }
        // Comments above the first section describe the file.
        let Some(section) = sections.last_mut() else { continue };
        let comment = line.trim_start().strip_prefix('#').map(str::trim);
        match (comment, section.settings.last_mut()) {
            (Some(more), Some(setting)) => setting.description += &format!(" {more}"),
            (Some(more), None) if section.description.is_empty() => section.description = more.to_owned(),
            (Some(more), None) => section.description += &format!(" {more}"),
            (None, _) => section.settings.extend(setting(&section.name, line)),
        }
    }
    sections
}

/// Parses `key = value   # description`.
fn setting(section: &str, line: &str) -> Option<Setting> {
    let (key, default) = line.parse::<Table>().ok()?.into_iter().next()?;
    let (assignment, description) = line.split_once('#').unwrap_or((line, ""));
    let written = assignment.split_once('=').map(|(_, value)| value.trim().to_owned()).unwrap_or_default();
    Some(Setting { section: section.to_owned(), key, default, written, description: description.trim().to_owned() })
}

/// Returns the page.
pub fn markdown() -> String {
    let mut page = HEAD.to_owned();
    for Section { name, description, settings } in sections() {
        // Writing to a string does not fail.
        let _ = write!(page, "\n## {name}\n\n");
        if !description.is_empty() {
            let _ = write!(page, "{description}\n\n");
        }
        page += "| setting | default | type | description |\n| --- | --- | --- | --- |\n";
        for Setting { section, key, default, written, description } in settings {
            let description = description.replace('|', "\\|");
            let _ = writeln!(page, "| `{section}.{key}` | `{written}` | {} | {description} |", kind(&default));
        }
    }
    page += RECIPES;
    for recipe in Recipe::value_variants() {
        let _ = write!(page, "\n```toml\n{}```\n", recipe.text());
    }
    page
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Integer(_) => "integer",
        Value::Float(_) => "number",
        Value::Boolean(_) => "boolean",
        _ => "text",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn every_setting_is_documented() {
        let all = Table::try_from(Config::default()).expect("settings");
        let mut count = 0;
        for (section, keys) in &all {
            for (key, default) in keys.as_table().expect("a section") {
                count += 1;
                let found = sections().into_iter().flat_map(|section| section.settings);
                let found = found.into_iter().find(|setting| setting.section == *section && setting.key == *key);
                let found = found.unwrap_or_else(|| panic!("{section}.{key} is missing"));
                assert_eq!(&found.default, default, "{section}.{key}");
                assert!(!found.description.is_empty(), "{section}.{key} has no comment in reference.toml");
            }
        }
        assert_eq!(sections().iter().map(|section| section.settings.len()).sum::<usize>(), count);
    }

    #[test]
    fn the_page_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
        let page = std::fs::read_to_string(path).expect("docs/configuration.md");
        assert!(
            page == markdown(),
            "docs/configuration.md is outdated; run glm-trainer config --markdown > docs/configuration.md"
        );
    }
}
