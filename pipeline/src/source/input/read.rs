//! Reading of inputs, one after the other.

use std::io::{self, Read};

use super::super::articles::Articles;
use super::super::paired::{PairedLines, Unequal};
use super::super::unpack::unpacked;
use super::super::{archive, discover};
use super::raw_file::{OpenFile, RawFile};
use super::{Input, InputError, Place};

/// Opens the files in order and passes each to `consume` with its index in `inputs`, until `consume` returns false. Consecutive
/// members of one archive are read in one pass.
///
/// # Errors
/// [`InputError`] if a file cannot be read or `consume` fails on it.
pub fn read(
    inputs: &[Input],
    mut consume: impl FnMut(usize, &mut dyn Read) -> Result<bool, ReadError>,
) -> Result<(), InputError> {
    let mut at = 0;
    while let Some(input) = inputs.get(at) {
        match &input.place {
            Place::File(file) => {
                let OpenFile { content, bytes } = file.open().map_err(|e| input.error(e))?;
                let mut counted = Counted { content, bytes: 0 };
                if !with_name(input, consume(at, &mut counted))? {
                    return Ok(());
                }
                if let Some(before) = bytes.filter(|&before| counted.bytes != before) {
                    let name = input.name.clone();
                    return Err(InputError::Changed { name, before, read: counted.bytes });
                }
                at += 1;
            }
            Place::Paired { source, target } => {
                if !read_paired(input, source, target.as_ref(), &mut |file| consume(at, file))? {
                    return Ok(());
                }
                at += 1;
            }
            Place::Articles { folder, ids } => {
                if !with_name(input, consume(at, &mut Articles::new(folder.clone(), ids)))? {
                    return Ok(());
                }
                at += 1;
            }
            Place::Stdin => {
                if !with_name(input, consume(at, &mut io::stdin().lock()))? {
                    return Ok(());
                }
                at += 1;
            }
            Place::Member { archive: path, kind, .. } => {
                let of_archive = |other: &&Input| matches!(&other.place, Place::Member { archive, .. } if archive == path);
                let count = inputs[at..].iter().take_while(of_archive).count();
                let indices: Vec<_> = inputs[at..at + count].iter().map(Input::index).collect();
                let mut failed = None;
                let mut ended = false;
                let outcome = archive::read(path, *kind, &indices, &mut |number, file| match with_name(
                    &inputs[at + number],
                    consume(at + number, file),
                ) {
                    Ok(true) => Ok(true),
                    Ok(false) => {
                        ended = true;
                        Ok(false)
                    }
                    Err(error) => {
                        failed = Some(error);
                        Ok(false)
                    }
                });
                if let Some(error) = failed {
                    return Err(error);
                }
                outcome.map_err(|e| input.error(e))?;
                if ended {
                    return Ok(());
                }
                at += count;
            }
        }
    }
    Ok(())
}

/// Passes the lines of two files to `consume`, see [`PairedLines`].
fn read_paired(
    input: &Input,
    source: &RawFile,
    target: Option<&RawFile>,
    consume: &mut dyn FnMut(&mut dyn Read) -> Result<bool, ReadError>,
) -> Result<bool, InputError> {
    let open = |file: &RawFile| file.open().map(|file| file.content).map_err(|error| input.error(error));
    let mut files = (open(source)?, target.map(open).transpose()?);
    let source = unpacked(&mut files.0).map_err(|error| input.error(error))?;
    let target_lines = files.1.as_mut().map(unpacked).transpose().map_err(|error| input.error(error))?;
    let mut lines = PairedLines::new(source, target_lines);
    let goes_on = with_name(input, consume(&mut lines))?;
    match lines.unequal().map_err(|error| input.error(error))? {
        None => Ok(goes_on),
        Some(Unequal { source, target }) => {
            let other = discover::targets_of(&input.name).unwrap_or_default();
            Err(InputError::Unequal { name: input.name.clone(), lines: source, other, other_lines: target })
        }
    }
}

/// Error of reading one file.
#[derive(Debug)]
pub enum ReadError {
    /// Error of the operating system or of decompression.
    Io(io::Error),
    /// Error of the file as a whole.
    File(InputError),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Adds the name of the file to an error.
fn with_name(input: &Input, outcome: Result<bool, ReadError>) -> Result<bool, InputError> {
    outcome.map_err(|error| match error {
        ReadError::Io(source) => InputError::Read { name: input.name.clone(), source },
        ReadError::File(error) => error,
    })
}

struct Counted {
    content: Box<dyn Read>,
    bytes: u64,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.content.read(buffer)?;
        self.bytes += read as u64;
        Ok(read)
    }
}
