//! Metrics in TensorBoard's format, `RUNDIR/tensorboard/events.out.tfevents.*`, converted from the lines of `metrics.jsonl`.
//!
//! Every number of a line becomes a scalar such as `train/loss` or `eval/accuracy`, named after the line's kind and the field, with
//! the line's step and time. Lines about single steps (`skipped`, `spike`) are left out, because their step may equal that of
//! another line.

pub mod record;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use glm_support::files::atomic::Draft;
use serde_json::Value;

use self::record::{Scalar, file_version, scalars, write_record};
use crate::record::files::{is_at, unix_seconds};

/// Subfolder of the run folder.
const FOLDER: &str = "tensorboard";
/// TensorBoard reads every file with `tfevents` in its name. A run has a single file, even if resumed, so that no step occurs twice.
const FILE: &str = "events.out.tfevents.glm-trainer";
/// Kinds of lines that are converted to scalars.
const KINDS: [&str; 2] = ["train", "eval"];
/// Fields that locate a scalar rather than being one.
const PLACES: [&str; 2] = ["step", "time"];

/// Writer of the event file. Write errors are logged as warnings and never end training; the file is rewritten completely once that
/// is possible again.
#[derive(Debug)]
pub struct EventFile {
    path: PathBuf,
    /// The file, if it contains all events.
    file: Option<File>,
}

impl EventFile {
    /// Creates the file in a run folder, replacing an existing one, with the events of `lines`.
    pub fn begin(folder: &Path, lines: &[u8]) -> Self {
        let path = folder.join(FOLDER).join(FILE);
        let file = begin(&path, lines);
        let mut events = Self { path, file: None };
        events.settle(true, file);
        events
    }

    /// Appends the events of a line; `lines` are all lines, including this one.
    pub fn append(&mut self, lines: &[u8], line: &[u8]) {
        let was_whole = self.file.is_some();
        let written = match self.file.take() {
            // One call per line, so that a killed run leaves no partial event.
            Some(mut file) if is_at(&file, &self.path) => file.write_all(&events(line)).map(|()| file),
            _ => begin(&self.path, lines),
        };
        self.settle(was_whole, written);
    }

    fn settle(&mut self, was_whole: bool, written: io::Result<File>) {
        match written {
            Ok(file) => self.file = Some(file),
            Err(error) if was_whole => {
                tracing::warn!(
                    "cannot write {}: {error}; training continues, and TensorBoard will lack the following events",
                    self.path.display()
                );
            }
            Err(_) => {}
        }
    }
}

/// Writes the file with the events of `lines`, and leaves it open for appending.
fn begin(path: &Path, lines: &[u8]) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let first = lines.split(|&byte| byte == b'\n').next().and_then(|line| serde_json::from_slice(line).ok());
    let mut content = Vec::new();
    write_record(&mut content, &file_version(first.as_ref().and_then(time).unwrap_or_else(unix_seconds)));
    content.extend(events(lines));
    let mut file = Draft::create(path)?;
    file.write_all(&content)?;
    file.publish()
}

/// Converts lines to records.
fn events(lines: &[u8]) -> Vec<u8> {
    let mut records = Vec::new();
    for line in lines.split(|&byte| byte == b'\n') {
        let Ok(line) = serde_json::from_slice::<Value>(line) else { continue };
        let (Some(kind), Some(step)) = (line["kind"].as_str(), line["step"].as_i64()) else { continue };
        let Some(fields) = line.as_object().filter(|_| KINDS.contains(&kind)) else { continue };
        let numbers = fields.iter().filter(|(name, _)| !PLACES.contains(&name.as_str()));
        let scalars_of_line: Vec<_> = numbers
            .filter_map(|(name, value)| Some(Scalar { tag: format!("{kind}/{name}"), value: value.as_f64()? as f32 }))
            .collect();
        write_record(&mut records, &scalars(time(&line).unwrap_or_else(unix_seconds), step, &scalars_of_line));
    }
    records
}

/// Returns the time of a line; older versions did not write it.
fn time(line: &Value) -> Option<f64> {
    line["time"].as_f64()
}

#[cfg(test)]
mod tests {
    use super::record::tests::{Event, read};
    use super::*;

    const LINES: &str = concat!(
        "{\"kind\":\"train\",\"step\":10,\"loss\":0.5,\"peak_memory_bytes\":null,\"time\":100.25}\n",
        "{\"kind\":\"spike\",\"step\":10,\"loss\":9.0,\"time\":100.5}\n",
        "{\"kind\":\"eval\",\"step\":10,\"accuracy\":0.25,\"hits\":3,\"time\":101.0}\n"
    );

    fn events_in(folder: &Path) -> Vec<Event> {
        read(&fs::read(folder.join("tensorboard").join(FILE)).expect("events"))
    }

    fn expected() -> [Event; 3] {
        let scalars = |pairs: &[(&str, f32)]| pairs.iter().map(|&(tag, value)| (tag.to_owned(), value)).collect();
        [
            Event { time: 100.25, step: 0, version: Some("brain.Event:2".into()), scalars: Vec::new() },
            Event { time: 100.25, step: 10, version: None, scalars: scalars(&[("train/loss", 0.5)]) },
            Event { time: 101.0, step: 10, version: None, scalars: scalars(&[("eval/accuracy", 0.25), ("eval/hits", 3.0)]) },
        ]
    }

    #[test]
    fn initial_and_appended_lines_give_the_same_events() {
        let [whole, grown] = [(); 2].map(|()| tempfile::tempdir().expect("folder"));
        EventFile::begin(whole.path(), LINES.as_bytes());
        assert_eq!(events_in(whole.path()), expected());
        let first = LINES.find('\n').expect("a line") + 1;
        let mut events = EventFile::begin(grown.path(), &LINES.as_bytes()[..first]);
        let mut end = first;
        for line in LINES[first..].split_inclusive('\n') {
            end += line.len();
            events.append(&LINES.as_bytes()[..end], line.as_bytes());
        }
        assert_eq!(events_in(grown.path()), expected());
    }

    #[test]
    fn the_file_is_restored_after_deletion_or_a_write_error() {
        let folder = tempfile::tempdir().expect("folder");
        fs::write(folder.path().join("tensorboard"), "in the way").expect("write");
        let mut events = EventFile::begin(folder.path(), b"");
        let lines: Vec<_> = LINES.split_inclusive('\n').collect();
        events.append(lines[0].as_bytes(), lines[0].as_bytes());
        fs::remove_file(folder.path().join("tensorboard")).expect("remove");
        events.append(lines[..2].concat().as_bytes(), lines[1].as_bytes());
        assert_eq!(events_in(folder.path()), expected()[..2]);
        fs::remove_dir_all(folder.path().join("tensorboard")).expect("remove");
        events.append(LINES.as_bytes(), lines[2].as_bytes());
        assert_eq!(events_in(folder.path()), expected());
    }
}
