//! Tests of help, examples, manual pages and completions of both programs, and of their calls in the documentation.

use std::path::Path;
use std::process::Command as Process;

use clap::builder::ValueRange;
use clap::{Command, CommandFactory, Parser};
use glm_tests::pages::{self, Piece};
use glm_tests::{command, run, shell};

const PROGRAMS: [&str; 2] = ["glm-prep", "glm-trainer"];
/// Width of the terminal that help must fit.
const COLUMNS: usize = 80;

fn tree(program: &str) -> Command {
    let mut tree = match program {
        "glm-prep" => glm_prep::cli::Cli::command(),
        _ => glm_trainer::cli::Cli::command(),
    };
    tree.build();
    tree
}

/// The parser's error for a command line, the first word of which is the program's name; `None` if it is valid.
fn parse_error(words: &[String]) -> Option<String> {
    let parsed = match words[0].as_str() {
        "glm-prep" => glm_prep::cli::Cli::try_parse_from(words).map(drop),
        _ => glm_trainer::cli::Cli::try_parse_from(words).map(drop),
    };
    // Help and version are printed to stdout and are valid.
    parsed.err().filter(clap::Error::use_stderr).map(|error| format!("{words:?}: {error}"))
}

/// The commands without subcommands.
fn leaves(tree: &Command) -> Vec<&Command> {
    let subcommands: Vec<&Command> = tree.get_subcommands().filter(|command| command.get_name() != "help").collect();
    if subcommands.is_empty() { vec![tree] } else { subcommands.into_iter().flat_map(leaves).collect() }
}

/// The examples after a command's help, as words.
fn examples(command: &Command) -> Vec<Vec<String>> {
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let lists =
        help.split("\n\n").filter_map(|list| list.strip_prefix("Examples:\n").or_else(|| list.strip_prefix("Example:\n")));
    let calls = lists.flat_map(|list| shell::commands(list, &PROGRAMS));
    calls.filter_map(|words| shell::call(&words, &PROGRAMS).map(<[String]>::to_vec)).collect()
}

#[test]
fn every_command_has_a_valid_example() {
    for program in PROGRAMS {
        let tree = tree(program);
        for command in leaves(&tree) {
            let examples = examples(command);
            let own = |words: &Vec<String>| words[0] == program && words.iter().any(|word| word == command.get_name());
            assert!(examples.iter().any(own), "{program} {} has no example of its own", command.get_name());
        }
        for command in leaves(&tree).into_iter().chain([&tree]) {
            let errors: Vec<String> = examples(command).iter().filter_map(|words| parse_error(words)).collect();
            assert!(errors.is_empty(), "{program} {}: {errors:#?}", command.get_name());
        }
    }
}

#[test]
fn every_option_has_help() {
    for program in PROGRAMS {
        let tree = tree(program);
        for command in leaves(&tree) {
            assert!(command.get_about().is_some(), "{program} {}", command.get_name());
            for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
                let place = format!("{program} {} {}", command.get_name(), argument.get_id());
                assert!(argument.get_help().is_some_and(|help| help.to_string().len() > 8), "{place} has no help");
                let takes_value = argument.get_num_args().is_some_and(|count| count != ValueRange::EMPTY);
                let shown = argument.get_value_names().is_some_and(|names| !names.is_empty());
                assert!(!takes_value || shown, "{place} has no value name");
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
                // Examples must not be wrapped, so that they can be copied.
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
            for section in [
                ".TH ",
                ".SH NAME\n",
                ".SH SYNOPSIS\n",
                ".SH OPTIONS\n",
                ".SH EXAMPLE",
                ".SH \"EXIT STATUS\"",
                ".SH \"SEE ALSO\"",
            ] {
                assert!(text.contains(section), "{name} has no {section}");
            }
            if let Some((shown, warnings)) = rendered(&path) {
                assert!(shown.contains("EXAMPLE") && shown.contains(&format!("{program} ")), "{name}: {shown}");
                assert_eq!(warnings, "", "{name}");
            }
        }
    }
}

/// A page as `man` shows it, and the warnings of groff; `None` if groff is not installed.
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
        ("glm-trainer", "run --set", "optim.l", "optim.lr="),
        ("glm-trainer", "run --resume --out x --allow", "train.see", "train.seed"),
    ] {
        let script = run(command(program).args(["completions", "bash"])).success().stdout();
        // Bash calls the registered function with the command, the word, and the previous word.
        let completion = format!(
            "{script}
             COMP_WORDS=({program} {before} {typed}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
             function=$(complete -p {program} | sed 's/.*-F \\([^ ]*\\).*/\\1/')
             $function {program} {typed} {}
             echo \"${{COMPREPLY[@]}}\"",
            before.split(' ').next_back().unwrap_or_default()
        );
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("completion");
        std::fs::write(&path, completion).expect("written");
        assert!(Process::new("bash").arg("-n").arg(&path).status().expect("bash").success());
        let output = Process::new("bash").arg(&path).output().expect("bash");
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), expected, "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// The program calls in a block of code: shell commands, or arrays as in Kubernetes manifests.
fn calls(code: &str) -> Vec<Vec<String>> {
    let arrays = code.lines().filter_map(|line| Some(&line[line.find("[\"glm-")?..=line.rfind(']')?]));
    let arrays = arrays.map(|array| serde_json::from_str::<Vec<String>>(array).expect("an array of words"));
    let script = shell::commands(code, &PROGRAMS);
    let script = script.iter().filter_map(|words| shell::call(words, &PROGRAMS)).map(<[String]>::to_vec);
    script.chain(arrays).collect()
}

#[test]
fn calls_in_the_documentation_are_valid() {
    let mut seen = 0;
    let mut wrong = Vec::new();
    for page in pages::all() {
        for (line, piece) in page.pieces() {
            let faults: Vec<String> = match &piece {
                Piece::Code("" | "bash" | "sh", code) => {
                    let calls = calls(code);
                    seen += calls.len();
                    calls.iter().filter_map(|words| parse_error(words)).collect()
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

/// The first unknown command or option of a call in running text, where values may be left out.
fn unknown(code: &str) -> Option<String> {
    let mut words = code.split_whitespace();
    let program = words.next().filter(|word| PROGRAMS.contains(word))?;
    let mut tree = tree(program);
    for word in words {
        let subcommand = tree.find_subcommand(word).cloned();
        let flag = word.trim_matches(|letter: char| "[](),".contains(letter)).split('=').next().unwrap_or_default();
        match subcommand {
            Some(subcommand) => tree = subcommand,
            None if flag.starts_with("--") => {
                let known = tree.get_arguments().any(|argument| argument.get_long() == flag.strip_prefix("--"));
                if !known {
                    return Some(format!("`{code}`: unknown option {flag}"));
                }
            }
            None if tree.has_subcommands()
                && !flag.starts_with('-')
                && flag.chars().all(|letter| letter.is_ascii_lowercase()) =>
            {
                return Some(format!("`{code}`: unknown command {word}"));
            }
            None => {}
        }
    }
    None
}
