//! Raw files in an object store.
//!
//! Files are read as streams. Archives are copied to the cache first: the list of members of a zip archive is at its end.

use std::path::{Path, PathBuf};

use glm_remote::{Location, Object, RemoteError, Store, local_file};
use glm_schemas::manifest::{SHARDS_FOLDER, Split};
use glm_support::files::progress;
use glob::{MatchOptions, Pattern};

use super::super::archive;
use super::super::discover::{self, Wanted};
use super::super::formats::pairs::xsum;
use super::raw_file::RawFile;
use super::{Input, InputError, MAX_DEPTH, Place, members};

/// `*` and `?` do not match the separator of folders, as in globs of local files.
const MATCHING: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// A folder in an object store, and its files.
struct Folder {
    location: Location,
    /// Files in the folder and its folders, without hidden ones and shards, sorted.
    files: Vec<Object>,
}

impl Folder {
    fn list(location: Location) -> Result<Self, RemoteError> {
        let mut files = Store::open(&location)?.list()?;
        files.retain(|file| {
            let mut parts = file.name.split('/');
            !parts.clone().any(|part| part.starts_with('.'))
                && parts.clone().count() <= MAX_DEPTH
                && (parts.next() != Some(SHARDS_FOLDER) || parts.next().is_none())
        });
        Ok(Self { location, files })
    }

    /// Names of the files.
    fn names(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|file| file.name.as_str())
    }

    /// Returns a file for a split, with its targets if it is one of sources.
    fn input(&self, split: Split, name: &str) -> Result<Input, InputError> {
        let find = |name: &str| self.files.iter().find(|file| file.name == name);
        let bytes = |name: &str| find(name).and_then(|file| file.bytes).unwrap_or(0);
        let file = |name: &str| RawFile::Remote(self.location.join(name));
        if let Some(target) = discover::targets_of(name) {
            let has_target = find(&target).is_some();
            if !has_target && split != Split::Test {
                return Err(InputError::NoTargets { name: name.to_owned(), target });
            }
            let (bytes, target) = (bytes(name) + bytes(&target), has_target.then(|| file(&target)));
            return Ok(Input { split, name: name.to_owned(), bytes, place: Place::Paired { source: file(name), target } });
        }
        Ok(Input { split, name: name.to_owned(), bytes: bytes(name), place: Place::File(file(name)) })
    }

    /// Returns the members of an archive in the folder.
    fn archive(&self, name: &str, wanted: Wanted<'_>) -> Result<Vec<Input>, InputError> {
        let progress = progress::of(!tracing::enabled!(tracing::Level::WARN));
        members(&local_file(&self.location.join(name), progress.as_ref())?, name, wanted)
    }
}

/// Finds the raw files at a URL: a folder, searched as a local one is, or a file whose name contains its split.
pub(super) fn find(location: &Location, wanted: Wanted<'_>, takes_all: bool) -> Result<Vec<Input>, InputError> {
    let place = || PathBuf::from(location.to_string());
    let ambiguous = |reason| InputError::Ambiguous { place: place(), reason };
    let found = match single(location, wanted)? {
        Some(found) => found,
        None => Folder::list(location.clone())?,
    };
    if found.files.is_empty() {
        return Err(InputError::NothingAt { url: location.to_string() });
    }
    if found.names().any(|name| name == xsum::SPLITS_FILE) {
        let what = "lists articles in a file each; copy the folder to disk, and ingest it there".to_owned();
        return Err(InputError::Wrong { name: found.location.join(xsum::SPLITS_FILE).to_string(), what });
    }
    let all: Vec<String> = found.names().map(str::to_owned).collect();
    let is_near =
        |name: &&String| name.split_once('/').is_none_or(|(first, rest)| first == wanted.folder && !rest.contains('/'));
    for names in [all.iter().filter(is_near).cloned().collect(), all.clone()] {
        let chosen = wanted.choose(&names).map_err(ambiguous)?;
        if !chosen.is_empty() {
            return chosen.into_iter().map(|(split, at)| found.input(split, &names[at])).collect();
        }
    }
    let mut archives: Vec<&String> =
        all.iter().filter(|name| !name.contains('/') && archive::Kind::of(name).is_some()).collect();
    let is_ours = |name: &str| name.split_once('.').is_some_and(|(stem, _)| stem.eq_ignore_ascii_case(wanted.folder));
    if archives.iter().any(|name| is_ours(name)) {
        archives.retain(|name| is_ours(name));
    }
    let mut inputs = Vec::new();
    for name in archives {
        let of_archive = found.archive(name, wanted)?;
        if !of_archive.is_empty() && !inputs.is_empty() {
            return Err(ambiguous("several archives hold raw data; give the URL of one".to_owned()));
        }
        inputs.extend(of_archive);
    }
    if inputs.is_empty() && takes_all {
        let data = all.iter().filter(|name| discover::is_data(name));
        return data.map(|name| found.input(Split::Train, name)).collect();
    }
    match all.iter().find(|name| discover::has_records(name, wanted.tables)) {
        Some(file) if inputs.is_empty() && wanted.files.is_empty() => {
            Err(InputError::NoSplitInName { dir: place(), file: file.clone() })
        }
        _ => Ok(inputs),
    }
}

/// Returns the folder of a file with that file alone; `None` if the URL is that of a folder.
fn single(location: &Location, wanted: Wanted<'_>) -> Result<Option<Folder>, InputError> {
    // A server may answer with a page for people at the URL of a folder.
    let name = location.name();
    let is_data = discover::is_data(name) || discover::has_records(name, wanted.tables) || archive::Kind::of(name).is_some();
    let Some(folder) = location.parent().filter(|_| is_data) else { return Ok(None) };
    let file = Store::open(location)?.head("")?;
    Ok(file.map(|file| Folder { files: vec![Object { name: location.name().to_owned(), ..file }], location: folder }))
}

/// Finds the files of a URL on the command line, which can be a glob. Relative to `dir` if inside, as names in the manifest.
pub(super) fn named(dir: &Path, split: Split, text: &str, wanted: Wanted<'_>) -> Result<Vec<Input>, InputError> {
    let wrong = |reason: &str| InputError::Named { split, pattern: text.to_owned(), reason: reason.to_owned() };
    let location: Location = text.parse()?;
    let found = if text.contains(['*', '[']) {
        matching(&location).map_err(|error| match error {
            Unmatched::Pattern(reason) => wrong(&reason),
            Unmatched::Remote(error) => error.into(),
        })?
    } else {
        let above = location.parent().ok_or_else(|| wrong("that is a bucket; name its files"))?;
        let file = Store::open(&location)?.head("")?.ok_or_else(|| wrong("there is no such file"))?;
        let mut files = vec![Object { name: location.name().to_owned(), ..file }];
        if let Some(target) = discover::targets_of(location.name()) {
            let target_file = Store::open(&above.join(&target))?.head("")?;
            files.extend(target_file.map(|file| Object { name: target, ..file }));
        }
        Folder { location: above, files }
    };
    let is_target = |name: &str| found.names().any(|other| discover::targets_of(other).is_some_and(|target| target == name));
    let mut inputs = Vec::new();
    for name in found.names().filter(|name| !is_target(name)) {
        if archive::Kind::of(name).is_some() {
            inputs.extend(found.archive(name, wanted)?.into_iter().filter(|input| input.split == split));
        } else {
            inputs.push(found.input(split, name)?);
        }
    }
    if inputs.is_empty() {
        return Err(wrong("there is no such file, or an archive holds no file of the split"));
    }
    let dir = format!("{}/", dir.display().to_string().trim_end_matches('/'));
    for input in &mut inputs {
        let url = found.location.join(&input.name).to_string();
        input.name = url.strip_prefix(&dir).unwrap_or(&url).to_owned();
    }
    Ok(inputs)
}

enum Unmatched {
    Pattern(String),
    Remote(RemoteError),
}

/// Returns the files that a glob matches, in the last folder above its first wildcard.
fn matching(location: &Location) -> Result<Folder, Unmatched> {
    let (mut above, mut depth) = (location.clone(), 0);
    while above.to_string().contains(['*', '[']) {
        above = above.parent().ok_or_else(|| Unmatched::Pattern("the name of a bucket cannot be a glob".to_owned()))?;
        depth += 1;
    }
    let text = location.to_string();
    let parts: Vec<&str> = text.split('/').collect();
    let pattern = parts[parts.len() - depth..].join("/");
    let pattern = Pattern::new(&pattern).map_err(|error| Unmatched::Pattern(format!("not a glob: {error}")))?;
    let mut found = Folder::list(above).map_err(Unmatched::Remote)?;
    found.files.retain(|file| pattern.matches_with(&file.name, MATCHING));
    Ok(found)
}
