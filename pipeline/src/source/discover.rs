//! Assigns the files of a folder or an archive to the splits of a data set.
//!
//! A file belongs to the split that its name contains (`train.jsonl`, `cbtest_NE_valid_2000ex.txt`), or to that of the folder it is
//! in (`CLOTH/train/middle/1.json`). Files named exactly like a split take precedence over longer names, and those over folders.

use std::collections::{BTreeMap, BTreeSet};

use glm_schemas::manifest::Split;

/// Folder of ReCoRD in SuperGLUE's archive.
pub(super) const RECORD_FOLDER: &str = "ReCoRD";
const DATA: [&str; 6] = ["jsonl", "ndjson", "json", "txt", "parquet", "source"];
/// Extensions of tables, which only patterns read.
const TABLES: [&str; 2] = ["tsv", "csv"];
/// Beginnings of the names of files that describe data.
const NOTES: [&str; 4] = ["readme", "license", "licence", "copying"];
/// Length of the hashes in the file names of data sets of Hugging Face.
const HASH_DIGITS: usize = 16;
const COMPRESSED: [&str; 3] = ["gz", "zst", "bz2"];

/// Chosen files: split and index of the path, in the order of splits and then of paths.
pub(super) type Chosen = Vec<(Split, usize)>;

/// Path of a possible raw file.
struct Candidate<'a> {
    index: usize,
    path: &'a str,
    folder: &'a str,
    split: Split,
    rank: Rank,
    /// Name of the data set: the words of the file name besides split and numbers, or the parent of the split's folder.
    set: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Bare,
    Word,
    Folder,
}

/// Raw files to look for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// Folder whose files take precedence.
    pub(super) folder: &'a str,
    /// True if tables are raw data.
    pub(super) tables: bool,
    /// Names of the files, each with its split, relative to one folder; if there are none, names of splits are looked for.
    pub(super) files: &'a [(Split, String)],
}

impl Wanted<'_> {
    /// Chooses the raw files among relative paths with forward slashes.
    ///
    /// # Errors
    /// A message if the choice is ambiguous.
    pub(super) fn choose(&self, paths: &[String]) -> Result<Chosen, String> {
        if self.files.is_empty() { self.choose_by_split(paths) } else { self.choose_named(paths) }
    }

    /// Chooses the named files of one folder: the preferred one, the top folder, or the only one of the preferred name further below. In
    /// other folders, files of such names can be those of other tasks.
    fn choose_named(&self, paths: &[String]) -> Result<Chosen, String> {
        let mut found: BTreeMap<&str, Chosen> = BTreeMap::new();
        for (index, path) in paths.iter().enumerate().filter(|(_, path)| !is_hidden(path)) {
            for (split, name) in self.files {
                let before = uncompressed(path).strip_suffix(name.as_str());
                let folder = before.and_then(|before| if before.is_empty() { Some("") } else { before.strip_suffix('/') });
                if let Some(folder) = folder {
                    found.entry(folder).or_default().push((*split, index));
                }
            }
        }
        let is_preferred = |folder: &&str| folder.rsplit('/').next() == Some(self.folder);
        let folders: Vec<&str> = match [self.folder, ""].into_iter().find(|folder| found.contains_key(folder)) {
            Some(folder) => vec![folder],
            None => found.keys().copied().filter(is_preferred).collect(),
        };
        let first = |folder: &str| paths[found[folder][0].1].as_str();
        match folders.as_slice() {
            [] => Ok(Chosen::new()),
            [folder] => {
                let mut chosen = found.remove(folder).unwrap_or_default();
                chosen.sort_by_key(|&(split, index)| (split, &paths[index]));
                match chosen.windows(2).find(|pair| pair[0].0 == pair[1].0) {
                    Some(pair) => Err(several(&paths[pair[0].1], &paths[pair[1].1])),
                    None => Ok(chosen),
                }
            }
            [one, other, ..] => Err(several(first(one), first(other))),
        }
    }

    fn choose_by_split(&self, paths: &[String]) -> Result<Chosen, String> {
        let candidates: Vec<_> = paths.iter().enumerate().filter_map(|(index, path)| candidate(index, path, self.tables)).collect();
        let in_folder = |folder: &str, rank| -> Vec<&Candidate<'_>> {
            candidates.iter().filter(|found| found.rank == rank && found.folder == folder).collect()
        };
        let folders: BTreeSet<_> = candidates.iter().map(|found| found.folder).collect();
        // The preferred folder takes precedence over the top folder, the top folder over others.
        let first = [self.folder, ""];
        let order = first.into_iter().chain(folders.iter().copied().filter(|folder| !first.contains(folder)));
        for rank in [Rank::Bare, Rank::Word] {
            let mut found: Vec<Vec<&Candidate<'_>>> = Vec::new();
            for folder in order.clone() {
                let here = in_folder(folder, rank);
                if !here.is_empty() && first.contains(&folder) {
                    return of_one_set(here);
                }
                found.extend((!here.is_empty()).then_some(here));
            }
            match found.as_slice() {
                [] => {}
                [one] => return of_one_set(one.clone()),
                [first, second, ..] => {
                    // Several folders with bare names are several data sets; longer names may be documents in folders of splits.
                    if rank == Rank::Bare {
                        return Err(several(first[0].path, second[0].path));
                    }
                }
            }
        }
        of_one_set(candidates.iter().filter(|found| found.rank == Rank::Folder).collect())
    }
}

fn of_one_set(mut found: Vec<&Candidate<'_>>) -> Result<Chosen, String> {
    for split in Split::ALL {
        let of_split: Vec<_> = found.iter().filter(|one| one.split == split).collect();
        if let [first, rest @ ..] = of_split.as_slice()
            && let Some(other) = rest.iter().find(|other| other.set != first.set || first.rank == Rank::Bare)
        {
            return Err(several(first.path, other.path));
        }
    }
    found.sort_by_key(|one| (one.split, one.path));
    Ok(found.into_iter().map(|one| (one.split, one.index)).collect())
}

fn several(first: &str, other: &str) -> String {
    format!("both {first} and {other} match; move one away, or choose with --train, --val and --test")
}

fn candidate(index: usize, path: &str, tables: bool) -> Option<Candidate<'_>> {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    if is_hidden(path) {
        return None;
    }
    let stem = data_stem(name, tables)?;
    let words: Vec<_> = stem.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let named: BTreeSet<_> = words.iter().filter_map(|word| split_of_word(word)).collect();
    if named.len() == 1
        && let Some(&split) = named.first()
    {
        let rank = if words.len() == 1 { Rank::Bare } else { Rank::Word };
        let is_hash = |word: &str| word.len() == HASH_DIGITS && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        let is_rest =
            |word: &&&str| split_of_word(word).is_none() && !word.starts_with(|c: char| c.is_ascii_digit()) && !is_hash(word);
        let rest: Vec<_> = words.iter().filter(is_rest).copied().filter(|&word| word != "of").collect();
        return Some(Candidate { index, path, folder, split, rank, set: rest.join("_") });
    }
    // Otherwise the closest folder that is named like a split.
    let mut above = folder;
    while !above.is_empty() {
        let (parent, last) = above.rsplit_once('/').unwrap_or(("", above));
        if let Some(split) = split_of_word(last) {
            return Some(Candidate { index, path, folder, split, rank: Rank::Folder, set: parent.to_owned() });
        }
        above = parent;
    }
    None
}

/// Returns true if a file was made by an editor or by an archiver of macOS.
fn is_hidden(path: &str) -> bool {
    let mut parts = path.split('/');
    parts.next_back().is_some_and(|name| name.starts_with('.')) || parts.any(|part| part == "__MACOSX")
}

/// Returns the name without its extension if it is one of raw data.
fn data_stem(name: &str, tables: bool) -> Option<&str> {
    let (stem, extension) = uncompressed(name).rsplit_once('.')?;
    let extension = extension.to_ascii_lowercase();
    (DATA.contains(&extension.as_str()) || (tables && TABLES.contains(&extension.as_str()))).then_some(stem)
}

/// Returns the name without the extension of a compressed file.
pub(super) fn uncompressed(name: &str) -> &str {
    name.rsplit_once('.').filter(|_| is_compressed(name)).map_or(name, |(name, _)| name)
}

/// Returns true if a path is that of raw data: by its extension, and not a note or a hidden file.
pub(super) fn is_data(path: &str) -> bool {
    let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
    let is_note = NOTES.iter().any(|note| name.to_ascii_lowercase().starts_with(note));
    data_stem(name, false).is_some() && !is_note && !path.split('/').any(|part| part.starts_with('.') || part == "__MACOSX")
}

/// Returns the name of the file of targets that belongs to a file of sources, `train.target` for `train.source`, if the name is one of
/// sources.
pub(super) fn targets_of(name: &str) -> Option<String> {
    let (stem, packed) = match name.rsplit_once('.') {
        Some((stem, extension)) if is_compressed(name) => (stem, format!(".{extension}")),
        _ => (name, String::new()),
    };
    stem.strip_suffix(".source").map(|stem| format!("{stem}.target{packed}"))
}

/// Returns true if the extension is that of a file with one record per line or document.
pub(super) fn has_records(name: &str, tables: bool) -> bool {
    let name = uncompressed(name);
    // A text file is as often a note as data.
    data_stem(name, tables).is_some() && !name.to_ascii_lowercase().ends_with(".txt")
}

/// Returns true if the extension is that of a compressed file.
pub(super) fn is_compressed(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, extension)| COMPRESSED.contains(&extension.to_ascii_lowercase().as_str()))
}

fn split_of_word(word: &str) -> Option<Split> {
    match word.to_ascii_lowercase().as_str() {
        "train" | "training" => Some(Split::Train),
        "val" | "valid" | "validation" | "dev" | "development" => Some(Split::Val),
        "test" | "testing" => Some(Split::Test),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(wanted: Wanted<'_>, paths: &[&str]) -> Result<Vec<String>, String> {
        let paths: Vec<_> = paths.iter().map(|&path| path.to_owned()).collect();
        Ok(wanted.choose(&paths)?.into_iter().map(|(split, index)| format!("{split} {}", paths[index])).collect())
    }

    fn chosen(paths: &[&str]) -> Result<Vec<String>, String> {
        of(Wanted { folder: RECORD_FOLDER, tables: false, files: &[] }, paths)
    }

    #[test]
    fn tables_are_raw_data_of_patterns_only() {
        let tables = Wanted { folder: "Mine", tables: true, files: &[] };
        assert_eq!(of(tables, &["train.csv", "dev.TSV.gz", "notes.csv"]), Ok(vec!["train train.csv".into(), "val dev.TSV.gz".into()]));
        assert_eq!(chosen(&["train.csv", "dev.tsv"]), Ok(Vec::new()));
    }

    #[test]
    fn named_files_are_those_of_one_folder() {
        let files = [(Split::Train, "train.tsv".to_owned()), (Split::Val, "dev_matched.tsv".to_owned())];
        let wanted = Wanted { folder: "MNLI", tables: true, files: &files };
        for (paths, expected) in [
            (&["MNLI/train.tsv", "MNLI/dev_matched.tsv", "MNLI/dev_mismatched.tsv", "train.tsv"][..], &["train MNLI/train.tsv", "val MNLI/dev_matched.tsv"][..]),
            (&["train.tsv.gz", "x/train.tsv", "my_train.tsv"], &["train train.tsv.gz"]),
            (&["glue/MNLI/train.tsv", "glue/QQP/train.tsv"], &["train glue/MNLI/train.tsv"]),
            (&["__MACOSX/train.tsv", "QQP/train.tsv", "train.jsonl", "dev.tsv"], &[]),
        ] {
            assert_eq!(of(wanted, paths).expect("unambiguous"), expected, "{paths:?}");
        }
        for paths in [&["train.tsv", "train.tsv.gz"][..], &["x/MNLI/train.tsv", "y/MNLI/train.tsv"]] {
            assert_eq!(of(wanted, paths).expect_err("ambiguous"), several(paths[0], paths[1]));
        }
    }

    #[test]
    fn splits_are_chosen_by_name_then_by_folder() {
        for (paths, expected) in [
            (&["val.jsonl", "README.md", "train.jsonl", "notes.txt"][..], &["train train.jsonl", "val val.jsonl"][..]),
            (&["train.jsonl", "ReCoRD/val.jsonl"], &["val ReCoRD/val.jsonl"]),
            (&["x/ReCoRD/val.jsonl", "__MACOSX/train.jsonl", "._train.jsonl"], &["val x/ReCoRD/val.jsonl"]),
            (&["dev.json.gz", "Train.JSON"], &["train Train.JSON", "val dev.json.gz"]),
            (
                &["train-00001-of-2.jsonl", "train-00000-of-2.jsonl"],
                &["train train-00000-of-2.jsonl", "train train-00001-of-2.jsonl"],
            ),
            (&["train.jsonl", "train_old.jsonl"], &["train train.jsonl"]),
            (
                &["d/cbtest_NE_train.txt", "d/cbtest_NE_valid_2000ex.txt", "d/cbtest_NE_test_2500ex.txt"],
                &["train d/cbtest_NE_train.txt", "val d/cbtest_NE_valid_2000ex.txt", "test d/cbtest_NE_test_2500ex.txt"],
            ),
            (
                &["CLOTH/valid/high/2.json", "CLOTH/train/middle/9.json", "CLOTH/train/high/1.json"],
                &["train CLOTH/train/high/1.json", "train CLOTH/train/middle/9.json", "val CLOTH/valid/high/2.json"],
            ),
            (&["shards/manifest.json", "train_or_test.jsonl"], &[]),
        ] {
            assert_eq!(chosen(paths).expect("unambiguous"), expected, "{paths:?}");
        }
    }

    #[test]
    fn ambiguous_choices_are_errors() {
        for paths in [
            &["train.jsonl", "train.jsonl.gz"][..],
            &["cbtest_CN_train.txt", "cbtest_NE_train.txt"],
            &["a/train/1.json", "b/train/1.json"],
            &["a/train.jsonl", "b/train.jsonl"],
        ] {
            let error = chosen(paths).expect_err("two sets");
            assert_eq!(error, several(paths[0], paths[1]));
        }
    }
}
