//! The program `glm-prep`.

use std::io::{self, BufWriter};
use std::process::ExitCode;

use clap::Parser;
use glm_prep::cli::Cli;

fn main() -> ExitCode {
    let cli = Cli::parse();
    cli.start_logging();
    let mut out = BufWriter::new(io::stdout().lock());
    match cli.run(&mut out).map_err(anyhow::Error::from) {
        Ok(code) => code,
        // The reader closed the pipe, as in `glm-prep inspect … | head`.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("glm-prep: {error}");
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>()).any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}
