//! Raw files: finding and reading them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use glm_remote::{Location, is_url};
use glm_schemas::manifest::Split;

use self::raw_file::RawFile;
use super::archive;
use super::discover::{self, Wanted};
use super::formats::pairs::xsum;

mod error;
mod raw_file;
mod read;
mod remote;

pub use error::InputError;
pub use read::{ReadError, read};

/// Maximum depth of the search for files of splits.
const MAX_DEPTH: usize = 5;
/// Name of standard input on the command line.
const STDIN: &str = "-";

/// Selection of raw files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Paths, globs, archives or `-`, each with its split. If empty, the folder is searched.
    pub named: Vec<(Split, String)>,
    /// Splits to ingest; empty for all.
    pub splits: Vec<Split>,
    /// Files of a task with a pattern; `None` for those of ReCoRD.
    pub task: Option<TaskFiles>,
}

/// Raw files of a task with a pattern. They can be tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskFiles {
    /// Folder that is searched first, and name of the archive that is.
    pub folder: Option<String>,
    /// Names of the files, relative to one folder; if there are none, they are found by the names of splits.
    pub named: Vec<(Split, String)>,
}

impl Selection {
    fn wanted(&self) -> Wanted<'_> {
        let task = self.task.as_ref();
        let folder = task.and_then(|task| task.folder.as_deref()).unwrap_or(discover::RECORD_FOLDER);
        Wanted { folder, tables: task.is_some(), files: task.map_or(&[], |task| &task.named) }
    }
}

/// Raw file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// Split of the file.
    pub split: Split,
    /// Path relative to the folder, or a URL; for a member of an archive, the path of the archive followed by that of the member.
    pub name: String,
    /// Size on disk or in the archive; 0 if unknown.
    pub bytes: u64,
    place: Place,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    File(RawFile),
    Member {
        archive: PathBuf,
        kind: archive::Kind,
        index: usize,
    },
    /// Files of sources and targets, line by line; without targets if they are unknown.
    Paired {
        source: RawFile,
        target: Option<RawFile>,
    },
    /// Articles in a file each.
    Articles {
        folder: PathBuf,
        ids: Vec<String>,
    },
    Stdin,
}

/// Finds the raw files, in the order of [`Split::ALL`] and then of names. If the selection names no files, searches `dir/ReCoRD`
/// or another given folder, then `dir`, then folders of splits below it, then an archive in it.
///
/// # Errors
/// [`InputError`] if there is neither a training nor a validation file, or if the choice of files is ambiguous.
pub fn find(dir: &Path, selection: &Selection) -> Result<Vec<Input>, InputError> {
    find_named(dir, selection, false)
}

/// Finds the raw files as [`find`] does; if no name contains a split, all files of `dir` and its folders are training data.
///
/// # Errors
/// As [`find`].
pub fn find_any(dir: &Path, selection: &Selection) -> Result<Vec<Input>, InputError> {
    find_named(dir, selection, true)
}

fn find_named(dir: &Path, selection: &Selection, takes_all: bool) -> Result<Vec<Input>, InputError> {
    let wanted = selection.wanted();
    let found = match Location::of_path(dir)? {
        Some(location) if selection.named.is_empty() => remote::find(&location, wanted, takes_all),
        Some(_) => named(dir, &selection.named, wanted),
        None => find_local(dir, selection, takes_all),
    };
    let mut inputs = found?;
    if !selection.splits.is_empty() {
        inputs.retain(|input| selection.splits.contains(&input.split));
        if let Some(&split) = selection.splits.iter().find(|&&split| inputs.iter().all(|input| input.split != split)) {
            return Err(InputError::NoSplit { split, dir: dir.to_owned() });
        }
    }
    match inputs.first() {
        None if !wanted.files.is_empty() => Err(InputError::no_files(dir, wanted.folder, wanted.files)),
        None => Err(InputError::NoData(dir.to_owned())),
        Some(first) if first.split == Split::Test && selection.splits.is_empty() => {
            Err(InputError::NoLabelledSplit { dir: dir.to_owned(), found: first.name.clone() })
        }
        Some(_) => Ok(inputs),
    }
}

fn find_local(dir: &Path, selection: &Selection, takes_all: bool) -> Result<Vec<Input>, InputError> {
    match fs::metadata(dir) {
        // With named files, the folder is only the output folder.
        Err(e) if e.kind() == io::ErrorKind::NotFound && !selection.named.is_empty() => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(InputError::NoFolder(dir.to_owned())),
        Err(source) => return Err(InputError::Read { name: dir.display().to_string(), source }),
        Ok(found) if !found.is_dir() => return Err(InputError::NotAFolder(dir.to_owned())),
        Ok(_) => {}
    }
    let wanted = selection.wanted();
    let mut inputs = if selection.named.is_empty() {
        listed(dir)?.map_or_else(|| search(dir, wanted), Ok)?
    } else {
        named(dir, &selection.named, wanted)?
    };
    if inputs.is_empty() && takes_all {
        inputs = all(dir)?;
    }
    // With named files, the folder need not exist.
    let is_searched = inputs.is_empty() && wanted.files.is_empty();
    match if is_searched { data_without_split(dir, wanted.tables)? } else { None } {
        Some(file) => Err(InputError::NoSplitInName { dir: dir.to_owned(), file }),
        None => Ok(inputs),
    }
}

/// Returns the articles that a file in `dir` divides between the splits; `None` if there is no such file.
fn listed(dir: &Path) -> Result<Option<Vec<Input>>, InputError> {
    let path = dir.join(xsum::SPLITS_FILE);
    let name = || path.display().to_string();
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(InputError::Read { name: name(), source }),
    };
    let folder = [dir.join(xsum::ARTICLES_FOLDER), dir.to_owned()].into_iter().find(|folder| folder.is_dir());
    let folder = folder.unwrap_or_else(|| dir.to_owned());
    let of_split = |split| {
        let ids = xsum::ids(&text, split).map_err(|what| InputError::Wrong { name: name(), what })?;
        let place = Place::Articles { folder: folder.clone(), ids };
        Ok(Input { split, name: format!("{} ({split})", xsum::SPLITS_FILE), bytes: 0, place })
    };
    Split::ALL.into_iter().map(of_split).collect::<Result<_, _>>().map(Some)
}

fn search(dir: &Path, wanted: Wanted<'_>) -> Result<Vec<Input>, InputError> {
    let mut paths = Vec::new();
    for depth in [1, MAX_DEPTH] {
        paths.clear();
        list((dir, wanted.folder), "", depth, &mut paths)?;
        let chosen = wanted.choose(&paths).map_err(|reason| InputError::Ambiguous { place: dir.to_owned(), reason })?;
        if !chosen.is_empty() {
            let input = |(split, index): (Split, usize)| file_input(split, paths[index].clone(), dir.join(&paths[index]));
            return chosen.into_iter().map(input).collect();
        }
    }
    let mut archives: Vec<_> = paths.iter().filter(|path| !path.contains('/') && archive::Kind::of(path).is_some()).collect();
    // One folder can hold the archives of several tasks.
    let is_ours = |name: &str| name.split_once('.').is_some_and(|(stem, _)| stem.eq_ignore_ascii_case(wanted.folder));
    if archives.iter().any(|name| is_ours(name)) {
        archives.retain(|name| is_ours(name));
    }
    let mut found: Vec<(&String, Vec<Input>)> = Vec::new();
    for name in archives {
        let inputs = members(&dir.join(name), name, wanted)?;
        if !inputs.is_empty() {
            found.push((name, inputs));
        }
    }
    let in_folder = |inputs: &[Input]| inputs[0].name.contains(&format!("/{}/", wanted.folder));
    if found.iter().any(|(_, inputs)| in_folder(inputs)) {
        found.retain(|(_, inputs)| in_folder(inputs));
    }
    if let [(first, _), (other, _), ..] = found.as_slice() {
        let reason = format!("both {first} and {other} hold raw data; move one away");
        return Err(InputError::Ambiguous { place: dir.to_owned(), reason });
    }
    Ok(found.into_iter().next().map_or_else(Vec::new, |(_, inputs)| inputs))
}

/// Returns all files of raw data in `dir` and below it, for the training split.
fn all(dir: &Path) -> Result<Vec<Input>, InputError> {
    let mut paths = Vec::new();
    list((dir, discover::RECORD_FOLDER), "", MAX_DEPTH, &mut paths)?;
    let data = paths.into_iter().filter(|path| discover::is_data(path));
    data.map(|path| file_input(Split::Train, path.clone(), dir.join(&path))).collect()
}

/// Returns the first file of `dir` itself whose extension is that of raw data.
fn data_without_split(dir: &Path, tables: bool) -> Result<Option<String>, InputError> {
    let mut paths = Vec::new();
    list((dir, discover::RECORD_FOLDER), "", 1, &mut paths)?;
    Ok(paths.into_iter().find(|path| !path.contains('/') && discover::has_records(path, tables)))
}

/// Collects the files below `dir` as sorted relative paths; at depth 1 those of `dir` and of its folder `preferred`.
fn list((dir, preferred): (&Path, &str), prefix: &str, depth: usize, paths: &mut Vec<String>) -> Result<(), InputError> {
    let unreadable = |source| InputError::Read { name: dir.join(prefix).display().to_string(), source };
    let mut entries: Vec<_> = fs::read_dir(dir.join(prefix))
        .and_then(Iterator::collect)
        .map_err(unreadable)
        .map(|entries: Vec<fs::DirEntry>| entries)?;
    entries.sort_unstable_by_key(fs::DirEntry::file_name);
    for entry in entries {
        // The names of interest are valid UTF-8.
        let Ok(name) = entry.file_name().into_string() else { continue };
        if name.starts_with('.') || (prefix.is_empty() && name == glm_schemas::manifest::SHARDS_FOLDER) {
            continue;
        }
        // Links are followed because the folder belongs to the user. Dangling links and files removed meanwhile are skipped.
        let Ok(found) = fs::metadata(entry.path()) else { continue };
        let path = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
        if found.is_file() {
            paths.push(path);
        } else if found.is_dir() && (depth > 1 || path == preferred) {
            match list((dir, preferred), &path, depth.saturating_sub(1), paths) {
                Err(_) if path != preferred => tracing::debug!("{} cannot be searched", dir.join(&path).display()),
                other => other?,
            }
        }
    }
    Ok(())
}

fn file_input(split: Split, name: String, path: PathBuf) -> Result<Input, InputError> {
    let size = |path: &Path| match fs::metadata(path) {
        Ok(found) => Ok(found.len()),
        Err(source) => Err(InputError::Read { name: name.clone(), source }),
    };
    if let Some(target) = path.file_name().and_then(|name| discover::targets_of(&name.to_string_lossy())) {
        let target = Some(path.with_file_name(target)).filter(|target| target.is_file());
        if target.is_none() && split != Split::Test {
            return Err(InputError::NoTargets { name: name.clone(), target: discover::targets_of(&name).unwrap_or_default() });
        }
        let bytes = size(&path)? + target.as_deref().map_or(Ok(0), size)?;
        return Ok(Input {
            split,
            name,
            bytes,
            place: Place::Paired { source: RawFile::Local(path), target: target.map(RawFile::Local) },
        });
    }
    let found = fs::metadata(&path).map_err(|source| InputError::Read { name: name.clone(), source })?;
    Ok(Input { split, name, bytes: found.len(), place: Place::File(RawFile::Local(path)) })
}

fn members(path: &Path, name: &str, wanted: Wanted<'_>) -> Result<Vec<Input>, InputError> {
    let Some(kind) = archive::Kind::of(name) else { return Ok(Vec::new()) };
    let refuse = |reason: String| InputError::Archive { path: path.to_owned(), reason };
    let members = archive::members(path, kind).map_err(|error| refuse(error.to_string()))?;
    let names: Vec<_> = members.iter().map(|member| member.name.trim_start_matches("./").to_owned()).collect();
    let chosen = wanted.choose(&names).map_err(|reason| InputError::Ambiguous { place: path.to_owned(), reason })?;
    let mut inputs: Vec<_> = chosen
        .into_iter()
        .map(|(split, at)| Input {
            split,
            name: format!("{name}/{}", names[at]),
            bytes: members[at].bytes,
            place: Place::Member { archive: path.to_owned(), kind, index: members[at].index },
        })
        .collect();
    // An archive is read in one pass per split, so its members keep their order.
    inputs.sort_by_key(|input| (input.split, input.index()));
    Ok(inputs)
}

/// Finds the files named on the command line, relative to the current folder.
fn named(dir: &Path, named: &[(Split, String)], wanted: Wanted<'_>) -> Result<Vec<Input>, InputError> {
    let mut inputs = Vec::new();
    for (split, pattern) in named {
        let wrong = |reason: String| InputError::Named { split: *split, pattern: pattern.clone(), reason };
        if pattern == STDIN {
            inputs.push(Input { split: *split, name: "standard input".to_owned(), bytes: 0, place: Place::Stdin });
            continue;
        }
        if is_url(Path::new(pattern)) {
            inputs.extend(remote::named(dir, *split, pattern, wanted)?);
            continue;
        }
        let paths = expand(pattern).map_err(wrong)?;
        for path in paths {
            // Relative to the folder if inside, so that the manifest does not depend on the location of the folder.
            let name = path.strip_prefix(dir).unwrap_or(&path).to_string_lossy().into_owned();
            if archive::Kind::of(&name).is_none() {
                inputs.push(file_input(*split, name, path)?);
                continue;
            }
            let before = inputs.len();
            inputs.extend(members(&path, &name, wanted)?.into_iter().filter(|input| input.split == *split));
            if inputs.len() == before {
                return Err(wrong(format!("the archive holds no file of the {split} split")));
            }
        }
    }
    if inputs.iter().filter(|input| input.place == Place::Stdin).count() > 1 {
        return Err(InputError::Named {
            split: inputs[0].split,
            pattern: STDIN.to_owned(),
            reason: "standard input can be read only once; put the other split into a file".to_owned(),
        });
    }
    // The sort is stable, so files keep the order in which they are named.
    inputs.sort_by_key(|input| input.split);
    Ok(inputs)
}

/// Returns the file of this name, or the sorted files that match the glob.
fn expand(pattern: &str) -> Result<Vec<PathBuf>, String> {
    if Path::new(pattern).is_file() {
        return Ok(vec![PathBuf::from(pattern)]);
    }
    if Path::new(pattern).is_dir() {
        return Err("that is a folder; name its files, for example with a glob such as 'folder/*.json'".to_owned());
    }
    let found: Result<Vec<_>, _> = glob::glob(pattern).map_err(|error| format!("not a glob: {error}"))?.collect();
    let mut paths: Vec<_> = found.map_err(|error| error.to_string())?.into_iter().filter(|path| path.is_file()).collect();
    paths.sort_unstable();
    if paths.is_empty() { Err("there is no such file".to_owned()) } else { Ok(paths) }
}

impl Input {
    fn index(&self) -> usize {
        if let Place::Member { index, .. } = self.place { index } else { 0 }
    }

    /// Returns true if the file can be read only once, or is slow to read again.
    pub(crate) fn is_stream(&self) -> bool {
        matches!(self.place, Place::Stdin | Place::File(RawFile::Remote(_)) | Place::Paired { source: RawFile::Remote(_), .. })
    }

    /// Returns the path of a file that can be read more than once and from any place.
    pub(crate) fn path(&self) -> Option<&Path> {
        if let Place::File(RawFile::Local(path)) = &self.place { Some(path) } else { None }
    }

    /// Returns true if the extension is that of a compressed file.
    pub(crate) fn is_packed(&self) -> bool {
        discover::is_compressed(&self.name)
    }

    /// Returns true if the decompressed content can have this size, as far as the size of the file shows.
    pub(crate) fn may_hold(&self, bytes: u64) -> bool {
        let plain = [".jsonl", ".json", ".txt", ".ndjson", ".tsv", ".csv"].iter().any(|ending| self.name.ends_with(ending));
        // A compressed file with an uncompressed name holds more than its size.
        !plain || bytes >= self.bytes
    }

    fn error(&self, source: io::Error) -> InputError {
        match &self.place {
            // Errors of the member itself were reported with its name before.
            Place::Member { archive, .. } => InputError::Archive { path: archive.clone(), reason: source.to_string() },
            _ => InputError::Read { name: self.name.clone(), source },
        }
    }
}
