//! The sample corpus as files.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use glm_schemas::manifest::Split;
use thiserror::Error;

use super::recipe::Recipe;
use super::record::generate;

/// The folder inside the output folder, as `ingest` expects it.
const FOLDER: &str = "ReCoRD";

/// Which corpus to make.
#[derive(Debug, Clone)]
pub struct Corpus {
    /// Folder in which `ReCoRD/train.jsonl` and `ReCoRD/val.jsonl` are made.
    pub out: PathBuf,
    /// Passages of `train.jsonl`.
    pub train_passages: u64,
    /// Passages of `val.jsonl`.
    pub val_passages: u64,
    /// Another seed, another corpus.
    pub seed: u64,
    /// How hard it is.
    pub recipe: Recipe,
    /// Whether files that are already there are replaced.
    pub force: bool,
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Passages of a file.
    pub passages: u64,
    /// Questions of a file.
    pub questions: u64,
}

/// Why no sample corpus could be made.
#[derive(Debug, Error)]
pub enum SampleError {
    /// A file would be lost.
    #[error("{} is already there; give another folder, or --force to replace it", path.display())]
    AlreadyThere {
        /// The file.
        path: PathBuf,
    },
    /// The file system refused something.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The summary could not be printed.
    #[error("cannot print the summary: {0}")]
    Output(#[source] io::Error),
}

impl Corpus {
    /// Where a split is written.
    pub fn path(&self, split: Split) -> PathBuf {
        self.out.join(FOLDER).join(format!("{split}.jsonl"))
    }

    /// Writes both files. Passages are made one at a time, so memory does not depend on their number.
    ///
    /// # Errors
    /// [`SampleError`]; neither file appears unless both were written.
    pub fn write(&self) -> Result<[Written; 2], SampleError> {
        let folder = self.out.join(FOLDER);
        fs::create_dir_all(&folder).map_err(file_error("create the folder", &folder))?;
        let files = [(Split::Train, self.train_passages), (Split::Val, self.val_passages)];
        for (split, _) in files {
            let path = self.path(split);
            if !self.force && path.exists() {
                return Err(SampleError::AlreadyThere { path });
            }
        }
        let mut drafts = Vec::with_capacity(files.len());
        let mut written = [Written { passages: 0, questions: 0 }; 2];
        for ((split, passages), count) in files.into_iter().zip(&mut written) {
            let draft = Draft::new(self.path(split));
            let file = File::create(&draft.temporary).map_err(file_error("create", &draft.temporary))?;
            *count = self.write_split(split, passages, file).map_err(file_error("write", &draft.temporary))?;
            drafts.push(draft);
        }
        drafts.into_iter().try_for_each(Draft::publish)?;
        File::open(&folder).and_then(|folder| folder.sync_all()).map_err(file_error("sync the folder", &folder))?;
        Ok(written)
    }

    fn write_split(&self, split: Split, passages: u64, file: File) -> io::Result<Written> {
        let mut writer = BufWriter::with_capacity(1 << 20, file);
        let mut questions = 0;
        for index in 0..passages {
            let record = generate(self.seed, &self.recipe, split, index, questions);
            questions += record.qas.len() as u64;
            serde_json::to_writer(&mut writer, &record)?;
            writer.write_all(b"\n")?;
        }
        writer.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        Ok(Written { passages, questions })
    }
}

fn file_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SampleError {
    let path = path.to_owned();
    move |source| SampleError::File { action, path, source }
}

/// A file under a temporary name, removed unless it is published.
struct Draft {
    temporary: PathBuf,
    path: PathBuf,
}

impl Draft {
    fn new(path: PathBuf) -> Self {
        let mut temporary = path.clone().into_os_string();
        temporary.push(format!(".{}.tmp", std::process::id()));
        Self { temporary: temporary.into(), path }
    }

    fn publish(self) -> Result<(), SampleError> {
        fs::rename(&self.temporary, &self.path).map_err(file_error("rename the finished file to", &self.path))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Published or never created: then there is nothing to remove.
        let _ = fs::remove_file(&self.temporary);
    }
}
