//! Help, examples, manual pages and completions of both programs, and every call of them in the documentation.

use std::path::Path;
use std::process::Command as Process;

use clap::builder::ValueRange;
use clap::{Command, CommandFactory, Parser};
use glm_tests::pages::{self, Piece};
use glm_tests::{command, run, shell};

const PROGRAMS: [&str; 2] = ["glm-prep", "glm-trainer"];
/// Columns of the narrowest terminal that help has to fit in.
const COLUMNS: usize = 80;

fn tree(program: &str) -> Command {
    let mut tree = match program {
        "glm-prep" => glm_prep::cli::Cli::command(),
        _ => glm_trainer::cli::Cli::command(),
    };
    tree.build();
    tree
}

/// What the program says to a line of words, the first of which is its name; nothing where it understands it.
fn refused(words: &[String]) -> Option<String> {
    let parsed = match words[0].as_str() {
        "glm-prep" => glm_prep::cli::Cli::try_parse_from(words).map(drop),
        _ => glm_trainer::cli::Cli::try_parse_from(words).map(drop),
    };
    // Help and version are understood.
    parsed.err().filter(clap::Error::use_stderr).map(|error| format!("{words:?}: {error}"))
}

/// The commands that do something: those without commands below them.
fn leaves(tree: &Command) -> Vec<&Command> {
    let below: Vec<&Command> = tree.get_subcommands().filter(|below| below.get_name() != "help").collect();
    if below.is_empty() { vec![tree] } else { below.into_iter().flat_map(leaves).collect() }
}

/// The examples below a command's help, as words.
fn examples(command: &Command) -> Vec<Vec<String>> {
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let lists =
        help.split("\n\n").filter_map(|list| list.strip_prefix("Examples:\n").or_else(|| list.strip_prefix("Example:\n")));
    let calls = lists.flat_map(|list| shell::commands(list, &PROGRAMS));
    calls.filter_map(|words| shell::call(&words, &PROGRAMS).map(<[String]>::to_vec)).collect()
}

#[test]
fn every_command_has_an_example_that_it_understands() {
    for program in PROGRAMS {
        let tree = tree(program);
        for command in leaves(&tree) {
            let examples = examples(command);
            let own = |words: &Vec<String>| words[0] == program && words.iter().any(|word| word == command.get_name());
            assert!(examples.iter().any(own), "{program} {} has no example of its own", command.get_name());
        }
        for command in leaves(&tree).into_iter().chain([&tree]) {
            let refused: Vec<String> = examples(command).iter().filter_map(|words| refused(words)).collect();
            assert!(refused.is_empty(), "{program} {}: {refused:#?}", command.get_name());
        }
    }
}

#[test]
fn every_option_is_explained() {
    for program in PROGRAMS {
        let tree = tree(program);
        for command in leaves(&tree) {
            assert!(command.get_about().is_some(), "{program} {}", command.get_name());
            for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
                let place = format!("{program} {} {}", command.get_name(), argument.get_id());
                assert!(argument.get_help().is_some_and(|help| help.to_string().len() > 8), "{place} is not explained");
                let takes_value = argument.get_num_args().is_some_and(|count| count != ValueRange::EMPTY);
                let shown = argument.get_value_names().is_some_and(|names| !names.is_empty());
                assert!(!takes_value || shown, "{place} does not name its value");
            }
        }
    }
}

#[test]
fn help_fits_a_terminal() {
    for program in PROGRAMS {
        let tree = tree(program);
        let names = leaves(&tree).into_iter().map(|leaf| leaf.get_name().to_owned());
        for arguments in names.map(|name| vec![name]).chain([vec![]]) {
            for help in ["-h", "--help"] {
                let mut process = command(program);
                process.args(&arguments).arg(help).env("COLUMNS", COLUMNS.to_string());
                let text = run(&mut process).success().stdout();
                for line in text.lines() {
                    assert!(line.chars().count() <= COLUMNS, "{program} {arguments:?} {help}: {line}");
                }
                // Wrapped, an example could not be copied.
                let after =
                    tree.find_subcommand(arguments.first().map_or("", String::as_str)).unwrap_or(&tree).get_after_help();
                for line in after.map(ToString::to_string).unwrap_or_default().lines().filter(|line| line.starts_with("  ")) {
                    assert!(text.lines().any(|shown| shown == line), "{program} {arguments:?} {help}: wrapped: {line}");
                }
            }
        }
    }
}

#[test]
fn manual_pages_render() {
    for program in PROGRAMS {
        let folder = tempfile::tempdir().expect("folder");
        run(command(program).arg("man").arg(folder.path())).success();
        let tree = tree(program);
        let names = leaves(&tree).into_iter().map(|leaf| format!("{program}-{}.1", leaf.get_name()));
        for name in names.chain([format!("{program}.1")]) {
            let path = folder.path().join(&name);
            let text = std::fs::read_to_string(&path).expect("page");
            for section in [".TH ", ".SH NAME\n", ".SH SYNOPSIS\n", ".SH OPTIONS\n", ".SH EXAMPLE"] {
                assert!(text.contains(section), "{name} has no {section}");
            }
            if let Some((shown, complaints)) = rendered(&path) {
                assert!(shown.contains("EXAMPLE") && shown.contains(&format!("{program} ")), "{name}: {shown}");
                assert_eq!(complaints, "", "{name}");
            }
        }
    }
}

/// A page as `man` shows it, and what was wrong with it; nothing where groff is not installed.
fn rendered(path: &Path) -> Option<(String, String)> {
    let output = Process::new("groff").args(["-man", "-Tutf8", "-Kutf8", "-ww", "-P-cbou"]).arg(path).output().ok()?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Some((text(output.stdout), text(output.stderr)))
}

#[test]
fn bash_completes_commands_and_options() {
    for (program, before, typed, expected) in [
        ("glm-prep", "", "ver", "verify"),
        ("glm-prep", "ingest", "--thr", "--threads"),
        ("glm-trainer", "run", "--max-r", "--max-restarts"),
    ] {
        let script = run(command(program).args(["completions", "bash"])).success().stdout();
        // The shell calls the function that is registered with the command, the word, and the word before it.
        let ask = format!(
            "{script}
             COMP_WORDS=({program} {before} {typed}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
             function=$(complete -p {program} | sed 's/.*-F \\([^ ]*\\).*/\\1/')
             $function {program} {typed} {before}
             echo \"${{COMPREPLY[@]}}\""
        );
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("ask");
        std::fs::write(&path, ask).expect("written");
        assert!(Process::new("bash").arg("-n").arg(&path).status().expect("bash").success());
        let said = Process::new("bash").arg(&path).output().expect("bash");
        assert_eq!(String::from_utf8_lossy(&said.stdout).trim(), expected, "{}", String::from_utf8_lossy(&said.stderr));
    }
}

/// The calls in a block of code: lines of shell, or the arrays of Kubernetes.
fn calls(code: &str) -> Vec<Vec<String>> {
    let arrays = code.lines().filter_map(|line| Some(&line[line.find("[\"glm-")?..=line.rfind(']')?]));
    let arrays = arrays.map(|array| serde_json::from_str::<Vec<String>>(array).expect("an array of words"));
    let script = shell::commands(code, &PROGRAMS);
    let script = script.iter().filter_map(|words| shell::call(words, &PROGRAMS)).map(<[String]>::to_vec);
    script.chain(arrays).collect()
}

#[test]
fn the_documentation_calls_the_programs_as_they_are() {
    let mut seen = 0;
    let mut wrong = Vec::new();
    for page in pages::all() {
        for (line, piece) in page.pieces() {
            let faults: Vec<String> = match &piece {
                Piece::Code("" | "bash" | "sh", code) => {
                    let calls = calls(code);
                    seen += calls.len();
                    calls.iter().filter_map(|words| refused(words)).collect()
                }
                Piece::Code(..) => continue,
                Piece::Text(text) => pages::inline_code(text).filter_map(unknown).collect(),
            };
            wrong.extend(faults.into_iter().map(|fault| format!("{}:{line}: {fault}", page.file.display())));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 20, "only {seen} calls were found");
}

/// What a call within a sentence names that the program does not have: a command, or an option. Its values may be left out there.
fn unknown(code: &str) -> Option<String> {
    let mut words = code.split_whitespace();
    let program = words.next().filter(|word| PROGRAMS.contains(word))?;
    let mut tree = tree(program);
    for word in words {
        let below = tree.find_subcommand(word).cloned();
        let flag = word.trim_matches(|letter: char| "[](),".contains(letter)).split('=').next().unwrap_or_default();
        match below {
            Some(below) => tree = below,
            None if flag.starts_with("--") => {
                let known = tree.get_arguments().any(|argument| argument.get_long() == flag.strip_prefix("--"));
                if !known {
                    return Some(format!("`{code}`: there is no {flag}"));
                }
            }
            None if tree.has_subcommands()
                && !flag.starts_with('-')
                && flag.chars().all(|letter| letter.is_ascii_lowercase()) =>
            {
                return Some(format!("`{code}`: there is no command {word}"));
            }
            None => {}
        }
    }
    None
}
