//! `completions SHELL`: shell completion scripts.

use clap::{Args, Command};
use clap_complete::Shell;

/// Arguments of `completions`.
#[derive(Debug, Clone, Args)]
pub struct CompletionsArgs {
    /// Shell to generate the script for
    #[arg(value_name = "SHELL", value_enum)]
    pub shell: Shell,
}

/// Text below the help: where each shell looks for the script of `program`.
pub fn after_help(program: &str) -> String {
    format!(
        "\
Locations:
  bash        ~/.local/share/bash-completion/completions/{program}
  zsh         a folder of $fpath, under the name _{program}
  fish        ~/.config/fish/completions/{program}.fish
  powershell  appended to the file $PROFILE
  elvish      appended to ~/.config/elvish/rc.elv

Examples:
  {program} completions fish > ~/.config/fish/completions/{program}.fish
  source <({program} completions bash)    # try it in this shell"
    )
}

/// Generates the completion script of a program.
pub fn script(mut command: Command, shell: Shell) -> Vec<u8> {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name.as_str(), &mut script);
    if shell == Shell::Bash {
        // clap_complete 4.6 encodes a hyphen in the program's name in two ways, so that its subcommands would not be found.
        let (written, expected) = (name.replace('-', "__subcmd__"), name.replace('-', "__"));
        let script = String::from_utf8_lossy(&script).replace(&written, &expected);
        return script.split_inclusive('\n').map(without_space).collect::<String>().into_bytes();
    }
    script
}

/// Keeps bash from adding a space after a completed `name=`, which a value follows.
fn without_space(line: &str) -> String {
    match line.trim_start().starts_with("COMPREPLY=($(compgen -W") && line.contains("= ") {
        // Outside of a completion, as in tests, the command fails.
        true => format!("{line}compopt -o nospace 2>/dev/null\n"),
        false => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command as Process;

    use clap::{Arg, ValueEnum};

    use super::*;

    fn tool() -> Command {
        Command::new("a-tool").subcommand(Command::new("run").arg(Arg::new("steps").long("steps")))
    }

    #[test]
    fn every_shell_has_a_script_and_a_location() {
        let help = after_help("a-tool");
        for shell in Shell::value_variants() {
            let text = String::from_utf8(script(tool(), *shell)).expect("text");
            assert!(text.contains("steps"), "{shell}: {text}");
            assert!(help.contains(&format!("\n  {shell}")), "{shell}: {help}");
        }
    }

    #[test]
    fn bash_completes_an_option() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("tool");
        std::fs::write(&path, script(tool(), Shell::Bash)).expect("written");
        let complete =
            "source \"$1\"; COMP_WORDS=(a-tool run --st); COMP_CWORD=2; _a__tool a-tool --st run; echo \"${COMPREPLY[@]}\"";
        let output = Process::new("bash").args(["-c", complete, "bash"]).arg(&path).output().expect("bash");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "--steps\n", "{}", String::from_utf8_lossy(&output.stderr));
    }
}
