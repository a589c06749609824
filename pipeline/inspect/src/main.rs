//! The program `glm-prep-inspect`, which `glm-prep inspect` starts with its own command line.

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use clap::Parser;
use glm_inspect::InspectError;
use glm_prep::cli::Cli;
use glm_support::command::pipe::is_broken_pipe;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let log = cli.start_log();
    cli.set_cache();
    let Some(args) = cli.inspect() else {
        eprintln!("glm-prep-inspect is a part of glm-prep; use glm-prep");
        return ExitCode::from(2);
    };
    let mut out = BufWriter::new(io::stdout().lock());
    match glm_inspect::run(args, cli.is_quiet(), &mut out).and_then(|()| out.flush().map_err(InspectError::from)) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader closed the pipe, as in `glm-prep inspect … | head`.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            log.error(&error, false);
            ExitCode::FAILURE
        }
    }
}
