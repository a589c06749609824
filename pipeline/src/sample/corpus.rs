//! Files of the sample corpus.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use glm_schemas::manifest::Split;
use glm_support::files::atomic::Draft;
use glm_support::files::output::{self, OutputError};
use thiserror::Error;

use super::recipe::Recipe;
use super::record::Generator;

/// Subfolder of the output folder, as `ingest` expects it.
const FOLDER: &str = "ReCoRD";

const BUFFER_BYTES: usize = 1 << 20;

/// Settings of a sample corpus.
#[derive(Debug, Clone)]
pub struct Corpus {
    /// Output folder; the files are `ReCoRD/train.jsonl` and `ReCoRD/val.jsonl` in it.
    pub out: PathBuf,
    /// Number of passages in `train.jsonl`.
    pub train_passages: u64,
    /// Number of passages in `val.jsonl`.
    pub val_passages: u64,
    /// Random seed.
    pub seed: u64,
    /// Difficulty.
    pub recipe: Recipe,
    /// Replace existing files.
    pub force: bool,
}

/// Size of a file written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Number of passages.
    pub passages: u64,
    /// Number of questions.
    pub questions: u64,
}

/// Errors of [`Corpus::write`] and of the command.
#[derive(Debug, Error)]
pub enum SampleError {
    /// The file exists and `force` is not set.
    #[error("{} already exists; choose another folder, or use --force to replace it", path.display())]
    AlreadyThere {
        /// The file.
        path: PathBuf,
    },
    /// A folder or file cannot be written.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// The failed action.
        action: &'static str,
        /// Folder.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// A file of the corpus is not a file.
    #[error(transparent)]
    Target(#[from] OutputError),
    /// The corpus cannot be written to standard output.
    #[error("a corpus has two files, train.jsonl and val.jsonl, so it cannot be written to standard output; use --out DIR")]
    Stdout,
    /// The embedded phrases do not parse.
    #[error("invalid phrases of the sample corpus: {0}")]
    Phrases(#[from] serde_json::Error),
    /// The summary cannot be printed.
    #[error("cannot print the summary: {0}")]
    Output(#[source] io::Error),
}

impl Corpus {
    /// Path of the file of a split.
    pub fn path(&self, split: Split) -> PathBuf {
        self.out.join(FOLDER).join(format!("{split}.jsonl"))
    }

    /// Writes both files, one passage at a time.
    ///
    /// # Errors
    /// [`SampleError`]. Neither file gets its name before the content of both is written.
    pub fn write(&self) -> Result<[Written; 2], SampleError> {
        if self.out == Path::new(output::STDOUT) {
            return Err(SampleError::Stdout);
        }
        let generator = Generator::new(self.seed, self.recipe.clone())?;
        let folder = self.out.join(FOLDER);
        fs::create_dir_all(&folder).map_err(file_error("create the folder", &folder))?;
        let [train, val] = [Split::Train, Split::Val].map(|split| self.path(split));
        if let Some(path) = [&train, &val].into_iter().find(|path| !self.force && path.exists()) {
            return Err(SampleError::AlreadyThere { path: path.clone() });
        }
        let [train, val] = [output::file(&train)?, output::file(&val)?];
        let write = || -> io::Result<[Written; 2]> {
            let (train_draft, train) = write_split(&generator, Split::Train, self.train_passages, &train)?;
            let (val_draft, val) = write_split(&generator, Split::Val, self.val_passages, &val)?;
            train_draft.publish()?;
            val_draft.publish()?;
            Ok([train, val])
        };
        write().map_err(file_error("write the corpus to", &folder))
    }
}

fn write_split(generator: &Generator, split: Split, passages: u64, path: &Path) -> io::Result<(Draft, Written)> {
    let mut file = BufWriter::with_capacity(BUFFER_BYTES, Draft::create(path)?);
    let mut questions = 0;
    for index in 0..passages {
        let record = generator.record(split, index, questions);
        questions += record.qas.len() as u64;
        serde_json::to_writer(&mut file, &record)?;
        file.write_all(b"\n")?;
    }
    let draft = file.into_inner().map_err(io::IntoInnerError::into_error)?;
    Ok((draft, Written { passages, questions }))
}

fn file_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SampleError {
    let path = path.to_owned();
    move |source| SampleError::File { action, path, source }
}
