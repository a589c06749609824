//! `man DIR`: manual pages of a program and its commands.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::files::output::{Output, OutputError};
use clap::{Args, Command};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};
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
    let program = Program {
        source: format!("{} {}", command.get_name(), command.get_version().unwrap_or_default()),
        exit_codes: after_help_of(&command).split("\n\n").find(|text| text.starts_with(EXIT_CODES)).map(str::to_owned),
        pages: with_commands(&command).map(|command| Man::new(command.clone()).get_filename()).collect(),
    };
    with_commands(&command).map(|command| program.page(command)).collect()
}

/// A command and those below it that are not hidden, in help order.
fn with_commands(command: &Command) -> Box<dyn Iterator<Item = &Command> + '_> {
    let below = command.get_subcommands().filter(|below| !below.is_hide_set());
    Box::new(std::iter::once(command).chain(below.flat_map(with_commands)))
}

fn after_help_of(command: &Command) -> String {
    command.get_after_help().map(ToString::to_string).unwrap_or_default()
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
    let write = |page: Page| -> Result<PathBuf, ManualError> {
        let path = dir.join(page.file);
        Output::open(&path)?.write_all(page.text.as_bytes())?;
        Ok(path)
    };
    Ok(Written { files: pages(command).into_iter().map(write).collect::<Result<_, _>>()? })
}

/// First line of the list of exit codes below a help text.
const EXIT_CODES: &str = "Exit codes:\n";

/// Elements that all pages of a program have in common.
struct Program {
    /// The program and its version, for the footer.
    source: String,
    /// Exit codes of all commands that do not list their own.
    exit_codes: Option<String>,
    /// File names of the pages.
    pages: Vec<String>,
}

impl Program {
    /// Generates the page of one command.
    fn page(&self, command: &Command) -> Page {
        let mut after = after_help_of(command);
        if let (false, Some(codes)) = (after.contains(EXIT_CODES), &self.exit_codes) {
            after = format!("{after}\n\n{codes}");
        }
        // The text below the help is formatted here: clap_mangen would join its lines.
        let man = Man::new(command.clone().after_help(None::<&str>)).source(&self.source);
        let file = man.get_filename();
        let mut text = Vec::new();
        // Writing to a vector does not fail.
        let _ = self.render(&man, command, &after, &file, &mut text);
        Page { file, text: String::from_utf8_lossy(&text).into_owned() }
    }

    fn render(&self, man: &Man, command: &Command, after: &str, file: &str, text: &mut Vec<u8>) -> io::Result<()> {
        man.render_title(text)?;
        man.render_name_section(text)?;
        synopsis(command).to_writer(text)?;
        man.render_description_section(text)?;
        man.render_options_section(text)?;
        if command.has_subcommands() {
            man.render_subcommands_section(text)?;
        }
        below_help(after).to_writer(text)?;
        let others = self.pages.iter().filter(|page| *page != file);
        let names: Vec<String> = others.filter_map(|page| Some(format!("{}(1)", page.strip_suffix(".1")?))).collect();
        if !names.is_empty() {
            Roff::new().control("SH", ["SEE ALSO"]).text([roman(names.join(", "))]).to_writer(text)?;
        }
        Ok(())
    }
}

/// The command with its options and their values.
fn synopsis(command: &Command) -> Roff {
    let mut line = vec![bold(command.get_bin_name().unwrap_or_else(|| command.get_name()))];
    for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
        let names = argument.get_value_names().unwrap_or_default();
        let takes_value = argument.get_action().takes_values();
        let value = names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(" ");
        let [open, close] = if argument.is_required_set() { ["", ""] } else { ["[", "]"] };
        line.push(roman(format!(" {open}")));
        if let Some(long) = argument.get_long() {
            line.push(bold(format!("--{long}")));
            if takes_value {
                line.push(roman(" "));
            }
        }
        if takes_value {
            line.push(italic(value));
        }
        line.push(roman(close));
    }
    if command.has_subcommands() {
        line.extend([roman(" "), italic("COMMAND")]);
    }
    let mut roff = Roff::new();
    roff.control("SH", ["SYNOPSIS"]).text(line);
    roff
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
                let heading = if paragraph.starts_with(EXIT_CODES) { "EXIT STATUS".to_owned() } else { heading.to_uppercase() };
                roff.control("SH", [heading.as_str()]);
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
    use clap::Arg;

    use super::*;

    fn tool() -> Command {
        let run = Command::new("run").about("Runs").after_help("Some notes\non it.\n\nExamples:\n  tool run\n  tool run -x");
        let run = run.arg(Arg::new("steps").long("steps").value_name("N").help("Number of steps"));
        let run = run.arg(Arg::new("file").value_name("FILE").required(true));
        let tool = Command::new("tool").version("1").about("A tool").after_help("Exit codes:\n  0  success\n  1  failure");
        tool.subcommand(run).subcommand(Command::new("secret").hide(true))
    }

    #[test]
    fn every_visible_command_has_a_page() {
        let files: Vec<String> = pages(tool()).into_iter().map(|page| page.file).collect();
        assert_eq!(files, ["tool.1", "tool-run.1"]);
    }

    #[test]
    fn the_synopsis_has_values() {
        let page = &pages(tool())[1];
        let synopsis = page.text.split(".SH SYNOPSIS\n").nth(1).and_then(|text| text.split(".SH ").next()).expect("synopsis");
        let plain: String = synopsis.replace("\\fB", "").replace("\\fI", "").replace("\\fR", "").replace('\\', "");
        assert!(plain.starts_with("tool run [--steps N] FILE"), "{plain}");
    }

    #[test]
    fn every_page_has_exit_codes_and_others() {
        let pages = pages(tool());
        for page in &pages {
            assert!(page.text.contains(".SH \"EXIT STATUS\"\n.nf\n0  success\n1  failure\n"), "{}", page.text);
        }
        assert!(pages[0].text.contains(".SH \"SEE ALSO\"\ntool\\-run(1)\n"), "{}", pages[0].text);
        assert!(pages[1].text.contains(".SH \"SEE ALSO\"\ntool(1)\n"), "{}", pages[1].text);
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
