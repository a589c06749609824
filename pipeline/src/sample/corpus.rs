//! Files of the sample corpus.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use glm_schemas::manifest::Split;
use glm_support::files::atomic::Draft;
use glm_support::files::output::{self, OutputError};
use serde::Serialize;
use thiserror::Error;

use super::recipe::Recipe;
use super::record::Generator;

/// Subfolders of the output folder for questions and documents, as `ingest` expects them.
const QUESTIONS: &str = "ReCoRD";
const DOCUMENTS: &str = "text";

const BUFFER_BYTES: usize = 1 << 20;

/// Settings of a sample corpus.
#[derive(Debug, Clone)]
pub struct Corpus {
    /// Output folder; the files are `ReCoRD/train.jsonl` and `ReCoRD/val.jsonl` in it, and those of the documents in `text`.
    pub out: PathBuf,
    /// Number of passages in `train.jsonl`.
    pub train_passages: u64,
    /// Number of passages in `val.jsonl`.
    pub val_passages: u64,
    /// Number of documents for pretraining, and as a tenth of it for validation; 0 for none.
    pub documents: u64,
    /// Random seed.
    pub seed: u64,
    /// Difficulty.
    pub recipe: Recipe,
    /// Replace existing files.
    pub force: bool,
}

/// Size of a file written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
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
    #[error("a corpus has several files, so it cannot be written to standard output; use --out DIR")]
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
        self.out.join(QUESTIONS).join(format!("{split}.jsonl"))
    }

    /// Path of the documents of a split.
    pub fn documents_path(&self, split: Split) -> PathBuf {
        self.out.join(DOCUMENTS).join(format!("{split}.jsonl"))
    }

    /// Writes all files, one passage at a time.
    ///
    /// # Errors
    /// [`SampleError`]. No file gets its name before the content of all is written.
    pub fn write(&self) -> Result<[Written; 2], SampleError> {
        if self.out == Path::new(output::STDOUT) {
            return Err(SampleError::Stdout);
        }
        let generator = Generator::new(self.seed, self.recipe.clone())?;
        let splits = [(Split::Train, self.train_passages), (Split::Val, self.val_passages)];
        let mut paths = splits.map(|(split, _)| self.path(split)).to_vec();
        if self.documents > 0 {
            paths.extend([Split::Train, Split::Val].map(|split| self.documents_path(split)));
        }
        for folder in paths.iter().filter_map(|path| path.parent()) {
            fs::create_dir_all(folder).map_err(file_error("create the folder", folder))?;
        }
        if let Some(path) = paths.iter().find(|path| !self.force && path.exists()) {
            return Err(SampleError::AlreadyThere { path: path.clone() });
        }
        for path in &mut paths {
            *path = output::file(path)?;
        }
        let write = || -> io::Result<[Written; 2]> {
            let mut drafts = Vec::new();
            let mut written = [Written::default(); 2];
            for (i, (split, passages)) in splits.into_iter().enumerate() {
                let mut questions = 0;
                drafts.push(write_lines(&paths[i], passages, |index| {
                    let record = generator.record(split, index, questions);
                    questions += record.qas.len() as u64;
                    record
                })?);
                written[i] = Written { passages, questions };
            }
            let counts = [self.documents, self.val_documents()];
            for ((path, (split, _)), count) in paths[splits.len()..].iter().zip(splits).zip(counts) {
                drafts.push(write_lines(path, count, |index| generator.document(split, index))?);
            }
            drafts.into_iter().try_for_each(|draft| draft.publish().map(drop))?;
            Ok(written)
        };
        write().map_err(file_error("write the corpus to", &self.out))
    }

    /// Number of documents for validation.
    pub fn val_documents(&self) -> u64 {
        self.documents.div_ceil(10)
    }
}

/// Writes items as JSON lines to a draft of the file.
fn write_lines<T: Serialize>(path: &Path, count: u64, mut item: impl FnMut(u64) -> T) -> io::Result<Draft> {
    let mut file = BufWriter::with_capacity(BUFFER_BYTES, Draft::create(path)?);
    for index in 0..count {
        serde_json::to_writer(&mut file, &item(index))?;
        file.write_all(b"\n")?;
    }
    file.into_inner().map_err(io::IntoInnerError::into_error)
}

fn file_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SampleError {
    let path = path.to_owned();
    move |source| SampleError::File { action, path, source }
}
