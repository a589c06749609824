//! Weights in a store: a file, a checkpoint, a run or a model of the Hugging Face Hub.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use glm_schemas::manifest::hex;
use glm_support::files::progress::Progress;
use sha2::{Digest, Sha256};

use super::cache::{Cache, Wanted};
use super::location::Service;
use super::object::Object;
use super::sums::{self, SUMS_FILE};
use super::{Location, RemoteError, Store};

const WEIGHTS_FILE: &str = "model.safetensors";
/// End of the name of a list of shards.
const INDEX_SUFFIX: &str = ".index.json";
/// Files of weights in the order in which they are looked for, except those of published checkpoints.
const WEIGHTS: [&str; 4] = [WEIGHTS_FILE, "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"];
/// Files of a checkpoint that its weights need.
const OF_WEIGHTS: [&str; 2] = [WEIGHTS_FILE, SUMS_FILE];
/// Folders in which a run keeps its checkpoints, relative to the given folder.
const PLACES: [&str; 2] = ["checkpoints/", ""];
const STEP_PREFIX: &str = "step-";

/// Checkpoint of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The one that the file `best` names.
    Best,
    /// The one that the file `latest` names.
    Latest,
    /// That of an optimizer step.
    Number(u64),
}

/// Brings weights into the cache and returns the path of a file, or of a folder with the layout of the remote one. Of a run, only the
/// weights of the chosen checkpoint are downloaded; by default the best one, or the latest if none is marked as the best.
///
/// # Errors
/// [`RemoteError`] if there are no weights, or they cannot be downloaded.
pub fn local_weights(location: &Location, step: Option<Step>, progress: &dyn Progress) -> Result<PathBuf, RemoteError> {
    let is_index = location.name().ends_with(INDEX_SUFFIX);
    if let Some(folder) = location.parent().filter(|_| is_index) {
        let store = Store::open(&folder)?;
        let files = store.list()?.into_iter().filter(|file| is_part_of(location.name(), &file.name)).collect();
        return Ok(Selected { files, pointers: Vec::new() }.fill(&store, progress)?.join(location.name()));
    }
    let store = Store::open(location)?;
    let is_file = match &location.service {
        // A server may answer with a page for people at the URL of a folder.
        Service::Http { .. } => store.text(SUMS_FILE)?.is_none(),
        _ => store.head("")?.is_some(),
    };
    if is_file {
        return local_file(location, progress);
    }
    let files = store.list()?;
    let selected = match PLACES.into_iter().find(|place| is_run(&files, place)) {
        Some(place) => run(&store, files, place, step)?,
        None => Selected { files: model(files), pointers: Vec::new() },
    };
    if selected.files.is_empty() {
        let reason = "has no files; give a file or folder of weights, or the folder of a run".to_owned();
        return Err(RemoteError::Content { url: location.to_string(), reason });
    }
    selected.fill(&store, progress)
}

/// Brings a file into the cache and returns its path there. Its checksum is not known.
///
/// # Errors
/// [`RemoteError`] if there is no such file, or it cannot be downloaded.
pub fn local_file(location: &Location, progress: &dyn Progress) -> Result<PathBuf, RemoteError> {
    let store = Store::open(location)?;
    let Some(found) = store.head("")? else {
        let reason = "no such file or folder".to_owned();
        return Err(RemoteError::Missing { url: location.to_string(), reason });
    };
    let entry = Cache::of_user()?.entry(&location.identity(), &version(std::slice::from_ref(&found)))?;
    // The name tells the kind of the file.
    let name = if sums::is_inside(location.name()) { location.name() } else { WEIGHTS_FILE };
    let wanted = Wanted { from: String::new(), to: name.to_owned(), bytes: found.bytes, sha256: None };
    entry.fill(&store, &[wanted], "", progress)?;
    Ok(entry.folder().join(name))
}

/// Files to download, and the small files of a run that name its checkpoints.
struct Selected {
    files: Vec<Object>,
    pointers: Vec<(String, String)>,
}

impl Selected {
    fn fill(self, store: &Store, progress: &dyn Progress) -> Result<PathBuf, RemoteError> {
        let entry = Cache::of_user()?.entry(&store.location().identity(), &version(&self.files))?;
        let sums = checksums(store, &self.files)?;
        let wanted = |file: &Object| Wanted {
            from: file.name.clone(),
            to: file.name.clone(),
            bytes: file.bytes,
            sha256: file.sha256.clone().or_else(|| sums.get(&file.name).cloned()),
        };
        entry.fill(store, &self.files.iter().map(wanted).collect::<Vec<_>>(), SUMS_FILE, progress)?;
        for (name, content) in &self.pointers {
            entry.write(name, content.as_bytes())?;
        }
        Ok(entry.folder().to_owned())
    }
}

/// Returns the checksums on the lists among these files, by name.
///
/// # Errors
/// [`RemoteError`] if a list cannot be read.
pub fn checksums(store: &Store, files: &[Object]) -> Result<BTreeMap<String, String>, RemoteError> {
    let mut all = BTreeMap::new();
    for file in files {
        let Some(folder) = file.name.strip_suffix(SUMS_FILE).filter(|folder| folder.is_empty() || folder.ends_with('/')) else {
            continue;
        };
        let text = store.text(&file.name)?.unwrap_or_default();
        // A list in another format may be part of a model; the reader of the weights reports it if it matters.
        let listed = sums::parse(&String::from_utf8_lossy(&text)).unwrap_or_default();
        all.extend(listed.into_iter().map(|(name, sum)| (format!("{folder}{name}"), sum)));
    }
    Ok(all)
}

/// Returns text that stands for the content of files.
fn version(files: &[Object]) -> String {
    let mut hash = Sha256::new();
    for Object { name, bytes, tag, sha256 } in files {
        hash.update(format!("{name}\n{bytes:?}\n{tag}\n{sha256:?}\n"));
    }
    hex(&hash.finalize())
}

fn is_run(files: &[Object], place: &str) -> bool {
    let has = |name: &str| files.iter().any(|file| file.name.strip_prefix(place) == Some(name));
    has("latest") || has("best")
}

/// Returns the name of the folder of a checkpoint that a file belongs to.
fn step_of<'a>(file: &'a Object, place: &str) -> Option<&'a str> {
    let (folder, _) = file.name.strip_prefix(place)?.split_once('/')?;
    folder.starts_with(STEP_PREFIX).then_some(folder)
}

/// Returns the name of the checkpoint that a file of a run names.
fn pointer(store: &Store, place: &str, name: &str) -> Result<Option<String>, RemoteError> {
    let text = store.text(&format!("{place}{name}"))?;
    let name = text.map(|text| String::from_utf8_lossy(&text).trim().to_owned());
    Ok(name.filter(|name| name.starts_with(STEP_PREFIX) && sums::is_inside(name) && !name.contains('/')))
}

/// Selects the weights of a checkpoint of a run.
fn run(store: &Store, files: Vec<Object>, place: &str, step: Option<Step>) -> Result<Selected, RemoteError> {
    let best = pointer(store, place, "best")?;
    let latest = pointer(store, place, "latest")?;
    let chosen = match step {
        Some(Step::Number(number)) => Some(format!("{STEP_PREFIX}{number:08}")),
        Some(Step::Best) => best.clone(),
        Some(Step::Latest) => latest.clone(),
        None => best.clone().or_else(|| latest.clone()),
    };
    let steps: BTreeSet<&str> = files.iter().filter_map(|file| step_of(file, place)).collect();
    let Some(chosen) = chosen.filter(|chosen| steps.contains(chosen.as_str())) else {
        let steps: Vec<_> = steps.iter().map(|step| step.trim_start_matches(STEP_PREFIX).trim_start_matches('0')).collect();
        let reason =
            format!("has no such checkpoint; there are those of the steps {}: choose one with --checkpoint", steps.join(", "));
        return Err(RemoteError::Content { url: store.location().to_string(), reason });
    };
    let of_weights = |file: &Object| {
        let inner =
            file.name.strip_prefix(place).and_then(|name| name.strip_prefix(&chosen)).and_then(|name| name.strip_prefix('/'));
        inner.is_some_and(|name| OF_WEIGHTS.contains(&name))
    };
    let files = files.into_iter().filter(of_weights).collect();
    let pointers =
        [("best", best), ("latest", latest)].into_iter().filter_map(|(name, step)| Some((format!("{place}{name}"), step?)));
    Ok(Selected { files, pointers: pointers.collect() })
}

/// Selects the weights of a model: the first kind of file in the folder itself, or everything, as for published checkpoints.
fn model(files: Vec<Object>) -> Vec<Object> {
    let found = WEIGHTS.into_iter().find(|name| files.iter().any(|file| file.name == *name));
    match found {
        Some(name) => files.into_iter().filter(|file| is_part_of(name, &file.name)).collect(),
        None => files,
    }
}

/// Returns true if a file belongs to the weights whose first file is `weights`: the file itself, the shards of an index, or what
/// describes the model.
fn is_part_of(weights: &str, file: &str) -> bool {
    let is_shard = || {
        let (stem, extension) = weights.strip_suffix(INDEX_SUFFIX)?.rsplit_once('.')?;
        Some(file.starts_with(stem) && file.ends_with(&format!(".{extension}")) && !file.contains('/') && file.contains("-of-"))
    };
    file == weights || file == SUMS_FILE || file == "config.json" || is_shard().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(files: &[&str]) -> Vec<String> {
        let object = |name: &&str| Object { name: (*name).to_owned(), bytes: Some(1), tag: String::new(), sha256: None };
        model(files.iter().map(object).collect()).into_iter().map(|file| file.name).collect()
    }

    #[test]
    fn only_the_files_of_one_format_are_selected() {
        let shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"];
        let others = ["README.md", "config.json", "pytorch_model.bin", "onnx/model.safetensors", "training_args.bin"];
        let all: Vec<&str> = shards.into_iter().chain(others).collect();
        assert_eq!(names(&all), [&shards[..], &["config.json"]].concat());
        assert_eq!(names(&others), ["config.json", "pytorch_model.bin"]);
        assert_eq!(names(&["model.safetensors", "model.safetensors.index.json", "x.safetensors"]), ["model.safetensors"]);
        let published = ["200000/mp_rank_00_model_states.pt", "latest_checkpointed_iteration.txt"];
        assert_eq!(names(&published), published);
    }
}
