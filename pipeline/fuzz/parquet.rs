//! Ingest of any bytes as a Parquet file of documents: shared by the fuzz target and by `tests/mutants.rs`.

use std::num::NonZeroUsize;
use std::path::Path;

use glm_prep::ingest::{self, IngestOptions, RejectLimit, Silent};
use glm_schemas::manifest::TaskName;

/// A vocabulary that loads at once.
const VOCABULARY: &str = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n##a\n.\n";

/// Ingests a file with these bytes in `folder`, which is otherwise empty, without writing a data set. Errors are fine, panics are not.
pub(crate) fn documents(folder: &Path, bytes: &[u8]) {
    let tokenizer = folder.join("vocab.txt");
    std::fs::write(&tokenizer, VOCABULARY).expect("write");
    let data = folder.join("data");
    std::fs::create_dir_all(&data).expect("folder");
    std::fs::write(data.join("train.parquet"), bytes).expect("write");
    let options = IngestOptions {
        task: Some(TaskName::Text),
        tokenizer: Some(tokenizer),
        threads: NonZeroUsize::MIN,
        max_rejects: RejectLimit::Percent(100.0),
        dry_run: true,
        ..IngestOptions::new(data)
    };
    if let Err(error) = ingest::run(&options, &Silent) {
        assert!(!error.to_string().contains("panicked"), "{error}");
    }
}
