//! The program `glm-prep`.

use std::io::{self, BufWriter};
use std::process::ExitCode;

use clap::Parser;
use glm_prep::cli::Cli;
use glm_support::command::pipe::is_broken_pipe;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let log = cli.start_log();
    let mut out = BufWriter::new(io::stdout().lock());
    match cli.run(&mut out) {
        Ok(code) => code,
        // The reader closed the pipe, as in `glm-prep inspect … | head`.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            log.error(&error, false);
            ExitCode::FAILURE
        }
    }
}
