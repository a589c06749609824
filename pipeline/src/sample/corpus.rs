//! Files of the sample corpus.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use glm_schemas::manifest::Split;
use glm_support::files::atomic::Draft;
use glm_support::files::output::{self, OutputError};
use glm_text::tokenize::TokenizerError;
use serde::Serialize;
use thiserror::Error;

use super::phrases;
use super::recipe::Recipe;
use super::record::Generator;
use super::vocabulary::vocabulary;

/// Subfolder of the output folder for questions, as `ingest` expects it.
const QUESTIONS: &str = "ReCoRD";

const BUFFER_BYTES: usize = 1 << 20;

/// Content of a sample corpus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Passages with cloze questions, in the format of ReCoRD
    Record,
    /// Documents for pretraining: passages with follow-up sentences, no questions
    Text,
}

/// Settings of a sample corpus.
#[derive(Debug, Clone)]
pub struct Corpus {
    /// Output folder; the files are `train.jsonl` and `val.jsonl` in it, those of questions in its subfolder `ReCoRD`.
    pub out: PathBuf,
    /// Content of the corpus.
    pub kind: Kind,
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
    /// The built-in tokenizer is damaged.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The summary cannot be printed.
    #[error("cannot print the summary: {0}")]
    Output(#[source] io::Error),
}

impl Corpus {
    /// Path of the file of a split.
    pub fn path(&self, split: Split) -> PathBuf {
        let folder = match self.kind {
            Kind::Record => self.out.join(QUESTIONS),
            Kind::Text => self.out.clone(),
        };
        folder.join(format!("{split}.jsonl"))
    }

    /// Writes both files, one passage at a time.
    ///
    /// # Errors
    /// [`SampleError`]. Neither file gets its name before the content of both is written.
    pub fn write(&self) -> Result<[Written; 2], SampleError> {
        if self.out == Path::new(output::STDOUT) {
            return Err(SampleError::Stdout);
        }
        output::check_local(&self.out)?;
        let generator = Generator::new(self.seed, self.recipe.clone())?;
        let [train, val] = [Split::Train, Split::Val].map(|split| self.path(split));
        let folder = train.parent().unwrap_or(&self.out);
        fs::create_dir_all(folder).map_err(file_error("create the folder", folder))?;
        if let Some(path) = [&train, &val].into_iter().find(|path| !self.force && path.exists()) {
            return Err(SampleError::AlreadyThere { path: path.clone() });
        }
        let [train, val] = [output::file(&train)?, output::file(&val)?];
        let write = || -> io::Result<[Written; 2]> {
            let (train_draft, train) = self.write_split(&generator, Split::Train, self.train_passages, &train)?;
            let (val_draft, val) = self.write_split(&generator, Split::Val, self.val_passages, &val)?;
            train_draft.publish()?;
            val_draft.publish()?;
            Ok([train, val])
        };
        write().map_err(file_error("write the corpus to", folder))
    }

    fn write_split(&self, generator: &Generator, split: Split, passages: u64, path: &Path) -> io::Result<(Draft, Written)> {
        let mut questions = 0;
        let draft = match self.kind {
            Kind::Record => write_lines(path, passages, |index| {
                let record = generator.record(split, index, questions);
                questions += record.qas.len() as u64;
                record
            })?,
            Kind::Text => write_lines(path, passages, |index| generator.document(split, index))?,
        };
        Ok((draft, Written { passages, questions }))
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

/// Writes the corpus's vocabulary.
///
/// # Errors
/// [`SampleError`]; an existing file is unchanged.
pub(super) fn write_vocabulary(path: &Path, force: bool) -> Result<(), SampleError> {
    if !force && path.exists() {
        return Err(SampleError::AlreadyThere { path: path.to_owned() });
    }
    let text = vocabulary(&phrases::json()?)?;
    let path = output::file(path)?;
    let write = || {
        let mut draft = Draft::create(&path)?;
        draft.write_all(text.as_bytes())?;
        draft.publish().map(drop)
    };
    write().map_err(file_error("write", &path))
}

fn file_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SampleError {
    let path = path.to_owned();
    move |source| SampleError::File { action, path, source }
}
