//! Choice of a recipe.

use std::path::Path;

use glm_schemas::manifest::TaskName;

use super::Init;
use crate::config::recipe::Recipe;
use crate::data::mmap::DataSet;
use crate::model::Preset;
use crate::model::preset::{PRESETS, PublishedWeights};

/// Returns the recipe of a run without `--recipe`: it depends on the weights that the run starts from, and on the format of the
/// raw data.
pub(super) fn suitable_recipe(data: &Path, init: Option<&Init>, preset: Preset) -> Recipe {
    // A data set that cannot be opened is an error later.
    let is_of = |table: TaskName| DataSet::open(data).is_ok_and(|data| data.manifest().task == table);
    let random = || if is_of(TaskName::Text) { Recipe::Pretrain } else { Recipe::Scratch };
    let published = match init {
        Some(Init::Random) => return random(),
        Some(Init::Path(path)) => is_published(path),
        None if preset.default_weights().is_none() => return random(),
        None => true,
    };
    if is_of(TaskName::Seq2seq) {
        return Recipe::Seq2seq;
    }
    let of_task = || Recipe::of_task(&DataSet::open(data).ok()?.manifest().cloze.as_ref()?.task);
    if published { of_task().unwrap_or(Recipe::Finetune) } else { Recipe::Finetune }
}

/// Returns true if the path is that of published weights, by the name of its file, or a name for them.
fn is_published(path: &Path) -> bool {
    let is_file = path.file_name().and_then(|name| name.to_str()).is_some_and(|name| {
        let mut published = PRESETS.iter().filter_map(|preset| preset.weights);
        published.any(|weights| name == weights.folder || name == weights.archive)
    });
    is_file || path.to_str().is_some_and(|name| !path.exists() && PublishedWeights::named(name).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_decide_without_data() {
        let nowhere = Path::new("/nowhere");
        let of = |init: Option<Init>, preset| suitable_recipe(nowhere, init.as_ref(), preset);
        assert_eq!(of(Some(Init::Random), Preset::LARGE), Recipe::Scratch);
        assert_eq!(of(None, Preset::TINY), Recipe::Scratch);
        assert_eq!(of(None, Preset::LARGE), Recipe::Finetune);
        assert_eq!(of(Some(Init::Path("runs/own".into())), Preset::LARGE), Recipe::Finetune);
    }

    #[test]
    fn published_weights_have_their_names() {
        assert!(
            ["a/glm-large-blank.tar.bz2", "blocklm-large-blank/", "large", "THUDM/glm-2b"]
                .iter()
                .all(|path| is_published(Path::new(path)))
        );
        assert!(!["runs/own", "a/glm-large-blank"].iter().any(|path| is_published(Path::new(path))));
    }
}
