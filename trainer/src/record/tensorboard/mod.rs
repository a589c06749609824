//! A run's metrics for TensorBoard: `RUNDIR/tensorboard/events.out.tfevents.*`, beside `metrics.jsonl` and made of its lines.
//!
//! Every number of a line becomes a scalar `train/loss`, `eval/accuracy` and so on, named after the line's kind and the field, at the
//! line's step and time. Lines about single steps (`skipped`, `spike`) have none: some of them have the step of another line.

pub mod record;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use glm_support::files::atomic;
use serde_json::Value;

use self::record::{Scalar, file_version, scalars, write_record};
use crate::record::files::{is_at, unix_seconds};

/// The folder inside the run's folder.
const FOLDER: &str = "tensorboard";
/// TensorBoard takes any file with `tfevents` in its name. A run has one, however often it goes on, so that no step is there twice.
const FILE: &str = "events.out.tfevents.glm-trainer";
/// Kinds of lines whose numbers are scalars.
const KINDS: [&str; 2] = ["train", "eval"];
/// Numbers that say where a scalar stands and are none.
const PLACES: [&str; 2] = ["step", "time"];

/// Writes the file. Training never ends for its sake: a failure is warned of, and all of it is written when that is possible again.
#[derive(Debug)]
pub struct EventFile {
    path: PathBuf,
    /// The file, if it holds all events.
    file: Option<File>,
}

impl EventFile {
    /// Begins the file of a run's folder anew, with the events of the lines so far.
    pub fn begin(folder: &Path, lines: &[u8]) -> Self {
        let path = folder.join(FOLDER).join(FILE);
        let file = begin(&path, lines);
        let mut events = Self { path, file: None };
        events.settle(true, file);
        events
    }

    /// Appends the events of a line; `lines` are all lines, this one included.
    pub fn append(&mut self, lines: &[u8], line: &[u8]) {
        let was_whole = self.file.is_some();
        let written = match self.file.take() {
            // One call a line: a killed run leaves no half event behind.
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
                    "cannot write {}: {error}; training goes on, and TensorBoard lacks what follows",
                    self.path.display()
                );
            }
            Err(_) => {}
        }
    }
}

/// Writes the file with the events of these lines, and leaves it open at its end.
fn begin(path: &Path, lines: &[u8]) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let first = lines.split(|&byte| byte == b'\n').next().and_then(|line| serde_json::from_slice(line).ok());
    let mut content = Vec::new();
    write_record(&mut content, &file_version(first.as_ref().and_then(time).unwrap_or_else(unix_seconds)));
    content.extend(events(lines));
    atomic::write(path, |file| file.write_all(&content))?;
    File::options().append(true).open(path)
}

/// The records of lines.
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

/// When a line was written; older versions did not say.
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
    fn a_line_is_an_event_whether_it_is_appended_or_was_there() {
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
    fn a_file_that_is_gone_or_cannot_be_written_comes_back_whole() {
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
