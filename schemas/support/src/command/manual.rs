//! `man DIR`: manual pages of a program and its commands.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::files::output::{Output, OutputError};
use clap::{Args, Command};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};
use thiserror::Error;

/// Arguments of `man`.
#[derive(Debug, Clone, Args)]
pub struct ManArgs {
    /// Destination folder, created if missing
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
}

/// Text below the help of `program man`.
pub fn after_help(program: &str) -> String {
    format!(
        "\
Example:
  {program} man ~/.local/share/man/man1    # then: man {program}"
    )
}

/// Error of writing the pages.
#[derive(Debug, Error)]
pub enum ManualError {
    /// The folder cannot be created.
    #[error("cannot create folder {}: {source}; `man DIR` needs a writable folder", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// A page cannot be written.
    #[error(transparent)]
    Page(#[from] OutputError),
}

/// One manual page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// File name, such as `glm-prep-ingest.1`.
    pub file: String,
    /// Content in roff.
    pub text: String,
}

/// Generates the pages of a program: its own, then those of its commands in help order.
pub fn pages(command: Command) -> Vec<Page> {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let source = format!("{} {}", command.get_name(), command.get_version().unwrap_or_default());
    let mut pages = Vec::new();
    collect(&command, &source, &mut pages);
    pages
}

/// Result of [`write()`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Paths of the pages, the program's own first.
    pub files: Vec<PathBuf>,
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(first) = self.files.first() else { return Ok(()) };
        let dir = first.parent().unwrap_or(Path::new("."));
        writeln!(f, "{}: {} pages", dir.display(), self.files.len())?;
        writeln!(f, "`man -l {}` shows the first one", first.display())?;
        writeln!(f, "`man` finds pages by name in folders `man1` of $MANPATH")
    }
}

/// Writes the pages of a program into `dir`, each atomically.
///
/// # Errors
/// [`ManualError`] if the folder cannot be created or a page cannot be written.
pub fn write(command: Command, dir: &Path) -> Result<Written, ManualError> {
    fs::create_dir_all(dir).map_err(|source| ManualError::Folder { path: dir.to_owned(), source })?;
    let write = |page: Page| {
        let path = dir.join(page.file);
        Output::open(&path)?.write_all(page.text.as_bytes())?;
        Ok(path)
    };
    Ok(Written { files: pages(command).into_iter().map(write).collect::<Result<_, ManualError>>()? })
}

fn collect(command: &Command, source: &str, pages: &mut Vec<Page>) {
    pages.push(page(command, source));
    command.get_subcommands().filter(|below| !below.is_hide_set()).for_each(|below| collect(below, source, pages));
}

/// Generates the page of one command. `source`, the program and its version, goes to the footer.
fn page(command: &Command, source: &str) -> Page {
    let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    // The text below the help is formatted here: clap_mangen would join its lines.
    let man = Man::new(command.clone().after_help(None::<&str>)).source(source);
    let mut text = Vec::new();
    // Writing to a vector does not fail.
    let _ = man.render(&mut text).and_then(|()| below_help(&after).to_writer(&mut text));
    Page { file: man.get_filename(), text: String::from_utf8_lossy(&text).into_owned() }
}

/// Converts the paragraphs below the help to sections. A paragraph whose first line ends in a colon is a list under that
/// heading and keeps its lines; the others become notes.
fn below_help(after: &str) -> Roff {
    let mut roff = Roff::new();
    let mut in_notes = false;
    for paragraph in after.split("\n\n").filter(|paragraph| !paragraph.trim().is_empty()) {
        match paragraph.split_once(":\n") {
            Some((heading, lines)) if !heading.contains('\n') => {
                in_notes = false;
                roff.control("SH", [heading.to_uppercase().as_str()]);
                roff.control("nf", []);
                for line in lines.lines() {
                    roff.text([roman(line.strip_prefix("  ").unwrap_or(line))]);
                }
                roff.control("fi", []);
            }
            _ => {
                if !in_notes {
                    roff.control("SH", ["NOTES"]);
                }
                in_notes = true;
                roff.control("PP", []);
                roff.text([roman(paragraph.replace('\n', " "))]);
            }
        }
    }
    roff
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool() -> Command {
        let run = Command::new("run").about("Runs").after_help("Some notes\non it.\n\nExamples:\n  tool run\n  tool run -x");
        Command::new("tool").version("1").about("A tool").subcommand(run).subcommand(Command::new("secret").hide(true))
    }

    #[test]
    fn every_visible_command_has_a_page() {
        let files: Vec<String> = pages(tool()).into_iter().map(|page| page.file).collect();
        assert_eq!(files, ["tool.1", "tool-run.1"]);
    }

    #[test]
    fn examples_keep_their_lines_and_notes_are_joined() {
        let page = &pages(tool())[1];
        let section = page.text.split(".SH NOTES\n").nth(1).expect("notes");
        assert!(section.contains("Some notes on it.\n.SH EXAMPLES\n.nf\ntool run\ntool run \\-x\n.fi\n"), "{section}");
    }

    #[test]
    fn pages_and_their_folder_are_created() {
        let folder = tempfile::tempdir().expect("folder");
        let dir = folder.path().join("share/man1");
        let written = write(tool(), &dir).expect("written").files;
        assert_eq!(written, [dir.join("tool.1"), dir.join("tool-run.1")]);
        assert_eq!(fs::read_to_string(&written[1]).expect("page"), pages(tool())[1].text);
        assert_eq!(fs::read_dir(&dir).expect("list").count(), 2);
        let error = write(tool(), &written[0]).expect_err("not a folder");
        assert!(error.to_string().contains("tool.1"), "{error}");
    }
}
